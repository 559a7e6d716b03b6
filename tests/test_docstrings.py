"""Public functions say what they take: a docstring, and from three arguments on an Args section (ruff's D417 completes it)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import FunctionType

import pytest

PLACES = (
    *("zreward", "zreward.data", "zreward.objectives", "zreward.generation", "zreward.distribution"),
    *("zreward.rubric", "zreward.prompting", "zreward.evaluation.metrics", "zreward.evaluation.prediction"),
    *("zreward.inference.ranking", "zreward.inference.scoring", "zreward.serving.client"),
    *("zreward.integrations.rewards", "zreward.integrations.best_of_n", "zreward.integrations.metric"),
)
BUILDING_BLOCKS = ("RewardModel.collate", "RewardModel.reason", "RewardModel.score_opened")
"""What trainers build on; their docstrings say it in sentences."""


def functions() -> Iterator[FunctionType]:
    """Public functions and methods that these modules export, each once."""
    for place in PLACES:
        module = import_module(place)
        for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
            thing = getattr(module, name)
            made_in = getattr(thing, "__module__", "")
            if not made_in.startswith("zreward" if hasattr(module, "__all__") else place):
                continue
            if inspect.isfunction(thing):
                yield thing
            elif inspect.isclass(thing):
                own = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
                yield from (getattr(value, "__func__", value) for value in own.values() if callable(value))


FUNCTIONS = {f"{one.__module__}.{one.__qualname__}": one for one in functions() if inspect.isfunction(one)}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_says_what_it_takes(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function)
    assert text, f"{name} has no docstring"
    given = [key for key in inspect.signature(function).parameters if key not in ("self", "cls")]
    if len(given) >= 3 and not name.endswith(BUILDING_BLOCKS):
        assert "\nArgs:\n" in text, f"{name} takes {given}: describe them under Args"
