"""Following a reward model's gradient into a text-to-image generator."""

from zreward.generation.aggregate import Aggregate
from zreward.generation.reward_function import reward_function
from zreward.generation.sampling import SamplingPlan, Walk, draw

__all__ = ["Aggregate", "SamplingPlan", "Walk", "draw", "reward_function"]
