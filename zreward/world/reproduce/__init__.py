"""The paper's comparison on the built-in world, whose truth is known: every method, several seeds, tables and curves."""

from zreward.world.reproduce.plan import Study
from zreward.world.reproduce.runner import reproduce

__all__ = ["Study", "reproduce"]
