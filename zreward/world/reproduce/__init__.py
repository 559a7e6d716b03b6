"""The paper's comparison on the built-in world, whose truth is known: every method, several seeds, tables and curves."""

from zreward.world.reproduce.plan import StudyPlan
from zreward.world.reproduce.runner import reproduce

__all__ = ["StudyPlan", "reproduce"]
