"""The kernels that a model's layers use: which they are, whether they compute what they should, and what replaces them."""
