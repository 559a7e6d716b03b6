"""Following a reward model's gradient into a text-to-image generator."""

from zreward.generation.aggregate import Aggregate
from zreward.generation.reward_function import reward_function
from zreward.generation.sampling import Walk, draw

__all__ = ["Aggregate", "Walk", "draw", "reward_function"]
