"""`zreward optimize` on a tiny pipeline in float64, step by step, with what it drew and the gradients it stepped along."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.generation.conftest import stable_diffusion
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.generation import optimize as module
from zreward.generation.recipe import OptimizeRecipe

PROMPTS = ["a red circle", "a blue square", "a small green cross", "two large triangles"]


def write_inputs(folder: Path, judge) -> None:
    judge.save_pretrained(folder / "judge")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    (folder / "held_out.txt").write_text("a green circle\na red cross\n")


def make_recipe(folder: Path, **changes: Any) -> OptimizeRecipe:
    raw: dict[str, Any] = {
        "student": str(folder / "judge"),
        "out": str(folder / "run"),
        "prompts": str(folder / "prompts.txt"),
        "held_out": str(folder / "held_out.txt"),
        "generator": {"name": "in memory", "steps": 3},
        "gradient": {"steps": [1, 3]},
        "optimizer": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0, "max_grad_norm": 1e9},
        "reward": {"dimensions": ["alignment", "realism"]},
        "guards": {"prompts": 2, "anchor": 0.5},
        "final": {"judge": "none"},
    }
    for key, value in changes.items():
        part, _, name = key.partition("__")
        raw[part] = raw.get(part, {}) | {name: value} if name else value
    return config_from_dict(OptimizeRecipe, raw, "test")


def small_generator():
    """One in float64: the same in every process."""
    pipeline = stable_diffusion()
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.double()
    for name in ("alphas_cumprod", "final_alpha_cumprod"):
        setattr(pipeline.scheduler, name, getattr(pipeline.scheduler, name).double())
    return pipeline


def prepared(recipe: OptimizeRecipe, monkeypatch, load: bool = True):
    """The optimization and a list of its draws: (prompts, seeds, plan). `load`: with a pipeline and judge in float64."""
    draws: list = []
    draw = module.draw

    def noted(pipeline, prompts, seeds, plan, *rest, **options):
        draws.append((prompts, seeds, plan))
        return draw(pipeline, prompts, seeds, plan, *rest, **options)

    monkeypatch.setattr(module, "draw", noted)
    if load:
        monkeypatch.setattr(module, "load_pipeline", lambda *_: small_generator())
    run = Path(recipe.out)
    run.mkdir(exist_ok=True)
    optimization = module._Optimization(recipe, Accelerator(cpu=True), RunDirectory(run))
    if load:
        optimization.student.double()
    return optimization, draws


@contextmanager
def before_each_step(note_draw):
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: note_draw())
    try:
        yield
    finally:
        handle.remove()


def gradients(optimization) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in optimization.adaptation.weights.items()}
