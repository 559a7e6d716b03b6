"""The pages and their forms: HTTP in, calls to `domain`, HTML out."""
