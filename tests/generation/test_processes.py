"""Two processes on the CPU: they step along the gradient of what both drew, and leave one whole run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.generation.gradients import (
    before_each_step,
    gradients,
    make_recipe,
    prepared,
    small_generator,
    write_inputs,
)
from tests.generation.plain_loop import mean_score, plain_loss
from tests.plain_model import assert_same_gradients, small_model
from tests.two_ranks import together
from zreward.common.runs import read_metrics
from zreward.generation import SamplingPlan


@pytest.mark.slow
def test_two_processes_leave_one_whole_run(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "generator")
    raw = {
        "student": "world:small",
        "out": str(tmp_path / "run"),
        "prompts": "world:6",
        "held_out": "world:6",
        "generator": {"name": str(tmp_path / "generator"), "steps": 3},
        "gradient": {"steps": [1, 2]},
        "optimizer": {"steps": 3, "batch_size": 2, "learning_rate": 1e-3},
        "guards": {"every": 3, "prompts": 2, "min_diversity": 0.0, "max_drift": 9.0, "max_dimension_fall": 9.0},
        "save_every": 2,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "zreward.cli", "optimize", str(tmp_path / "recipe.yaml")]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3]
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["stopped_at"] == 3
    assert (tmp_path / "run" / "model").is_dir()
    assert (tmp_path / "run" / "checkpoints" / "step-2").is_dir()


def two_steps(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes per step what a rank drew, the weights that it had, and the gradient that it stepped along."""
    optimization, draws = prepared(make_recipe(folder), monkeypatch)
    assert optimization.accelerator.num_processes == 2
    drawn = []

    def note_draw() -> None:
        ((prompts, seeds, plan),) = draws
        draws.clear()
        drawn.append([prompts, seeds, vars(plan)])
        save_file(gradients(optimization), folder / f"gradients-{rank}-{optimization.step}.safetensors")
        weights = {name: weight.detach().clone() for name, weight in optimization.adaptation.weights.items()}
        save_file(weights, folder / f"weights-{rank}-{optimization.step}.safetensors")

    with before_each_step(note_draw):
        for optimization.step in range(2):
            optimization._train_step()
    (folder / f"draws-{rank}.json").write_text(json.dumps(drawn))


def test_two_processes_step_along_the_gradient_of_what_both_drew(tmp_path, float64):
    judge = small_model(0, patch_size=4)
    write_inputs(tmp_path, judge)
    together(two_steps, tmp_path)
    draws = [json.loads((tmp_path / f"draws-{rank}.json").read_text()) for rank in (0, 1)]
    recipe, pipeline = make_recipe(tmp_path), small_generator()
    start, denoiser = small_generator().unet, pipeline.unet
    options = SimpleNamespace(guidance=1.0, anchor=recipe.guards.anchor, dimensions=recipe.reward.dimensions)
    options.aggregate, options.compares = mean_score, False
    for step in range(2):
        before, other = (load_file(tmp_path / f"weights-{rank}-{step}.safetensors") for rank in (0, 1))
        assert all(torch.equal(before[name], other[name]) for name in before), "the ranks' weights part"
        denoiser.load_state_dict(before)
        both = [draws[rank][step] for rank in (0, 1)]
        assert both[0][1] != both[1][1], "the ranks draw different pictures"
        losses = [
            plain_loss(pipeline, denoiser, start, judge, p, s, SamplingPlan(**plan), options) for p, s, plan in both
        ]
        weights = dict(denoiser.named_parameters())
        wanted = dict(zip(weights, torch.autograd.grad(sum(losses) / 2, list(weights.values())), strict=True))
        for rank in (0, 1):
            found = load_file(tmp_path / f"gradients-{rank}-{step}.safetensors")
            assert_same_gradients(found, wanted, f"rank {rank}, step {step}")
