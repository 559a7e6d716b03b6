"""zreward: reward models that judge generated images as people do, as a distribution over rubric scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zreward.common.version import __version__ as __version__

if TYPE_CHECKING:
    from zreward.common.errors import InputError
    from zreward.data import Record, load_records
    from zreward.distribution import ScoreDistribution, ScoreScale
    from zreward.models.reasoning import Judgement
    from zreward.models.reward_model import RewardModel
    from zreward.rubric import Dimension, Rubric

__all__ = [
    "Dimension",
    "InputError",
    "Judgement",
    "Record",
    "RewardModel",
    "Rubric",
    "ScoreDistribution",
    "ScoreScale",
    "load_records",
]

_HOMES = {
    "Dimension": "zreward.rubric",
    "InputError": "zreward.common.errors",
    "Judgement": "zreward.models.reasoning",
    "Record": "zreward.data",
    "RewardModel": "zreward.models.reward_model",
    "Rubric": "zreward.rubric",
    "ScoreDistribution": "zreward.distribution",
    "ScoreScale": "zreward.distribution",
    "load_records": "zreward.data",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import zreward` and `zreward --help` stay fast."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zreward' has no attribute {name!r}")
