"""What is handed around as a value cannot be changed behind the back of its other holders."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

VALUES = {
    "zreward.distribution": ["ScoreScale"],
    "zreward.data.pairs": ["Pair"],
    "zreward.generation.aggregate": ["Aggregate"],
    "zreward.generation.guards": ["Evaluation"],
    "zreward.models.attention": ["Prefixed"],
    "zreward.models.caches": ["Follow"],
    "zreward.models.sharing": ["Part", "SharedRows"],
    "zreward.models.passes": ["PrefixState", "Images"],
    "zreward.models.opening": ["_Kept"],
    "zreward.models.inputs": ["ModelInput"],
    "zreward.models.rollout": ["Trace"],
    "zreward.models.reasoning": ["Judgement", "EncodedQuestions"],
    "zreward.training.rollout_data": ["RolloutItem"],
    "zreward.training.rollout_objectives": ["Sequences"],
    "zreward.training.direct": ["DirectItem"],
    "zreward.training.targets": ["LabelOptions"],
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in VALUES.items() for name in names])
def test_a_value_is_frozen(module, name):
    kind = getattr(importlib.import_module(module), name)
    first = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(object.__new__(kind), first, None)
