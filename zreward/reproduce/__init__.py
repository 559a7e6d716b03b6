"""The paper's comparison on the built-in world, whose truth is known: every method, several seeds, tables and curves."""

from zreward.reproduce.plan import Study
from zreward.reproduce.runner import reproduce

__all__ = ["Study", "reproduce"]
