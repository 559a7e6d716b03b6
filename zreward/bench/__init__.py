"""Models on benchmarks of human preference: official metrics, intervals, published figures beside them."""
