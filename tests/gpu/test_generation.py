"""A generator takes a step along the reward's gradient on a GPU, in half precision too."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.generation.conftest import stable_diffusion
from tests.generation.gradients import make_recipe, write_inputs
from tests.tiny import tiny_model
from zreward.common.runs import read_metrics
from zreward.generation.optimize import optimize


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_two_steps(precision, tmp_path):
    AcceleratorState._reset_state(True)  # accelerate keeps one precision for a whole process
    try:
        write_inputs(tmp_path, tiny_model())
        stable_diffusion().save_pretrained(tmp_path / "generator")
        generator = {"name": str(tmp_path / "generator"), "steps": 3}
        limits = {"prompts": 2, "enabled": False, "every": 2}
        recipe = make_recipe(
            tmp_path, generator=generator, guards=limits, mixed_precision=precision, optimizer__max_grad_norm=1.0
        )
        outcome = optimize(recipe)
    finally:
        AcceleratorState._reset_state(True)
    assert outcome.message == "ran all 2 steps" and outcome.step == 2
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == [1, 2] and all(math.isfinite(row["reward"]) for row in rows)
    if precision != "fp16":  # whose first steps may overflow: they are left out, and the scale is lowered
        assert all(row["grad_norm"] > 0 for row in rows)
    assert torch.cuda.max_memory_allocated() > 0
