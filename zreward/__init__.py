"""zreward: reward models that judge generated images as people do, as a distribution over rubric scores."""

__version__ = "0.1.0"
