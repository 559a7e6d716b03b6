"""Measures one commit's code for `against.py`: reads a JSON request a line, answers each with a JSON line of CPU seconds.

    PYTHONPATH=TREE python benchmarks/one_side.py

TREE is the checkout whose `zreward` is measured, so this file uses only what commit 07f77a1 has as well. Requests:
{"what": "score", "family": ..., "image_tokens": ..., "vision_layers": ...} one call of two pictures and four dimensions, and
{"what": "step" or "trl", ..., "steps": N} steps of GDSO, or of TRL's GRPOTrainer with as many traces of the same pictures.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from small_models import build, passes_of, pictures_and_prompts
from transformers import TrainerCallback

import zreward
from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe, RolloutRecipe
from zreward.training.run import build_trainer

GROUP, TRACE_TOKENS = 8, 64
STILL = 1e-12  # learning rate
SCORES = (4.0, 2.0)


class Stopwatch(TrainerCallback):
    """CPU seconds of every step but the first, its end included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._begin = time.process_time()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step > 1:
            self.seconds.append(time.process_time() - self._begin)


@cache
def scoring(family: str, image_tokens: int, vision_layers: int) -> Callable[[], object]:
    model, side = build(family, image_tokens, vision_layers=vision_layers)
    pictures, prompts = pictures_and_prompts(side)
    return lambda: model.score(pictures, prompts)


@cache
def training(family: str, image_tokens: int, vision_layers: int) -> tuple[RewardModel, Path]:
    """A model whose traces all have TRACE_TOKENS tokens, and records of one pair."""
    model, side = build(family, image_tokens, vision_layers=vision_layers)
    model.train().requires_grad_(True)
    model.max_trace_tokens = TRACE_TOKENS
    stop = torch.tensor(model.encoder.stop_ids)
    model.backbone.trace_ban = torch.cat(
        [model.backbone.trace_ban, stop]
    )  # in both trainers, so that no trace ends early
    folder = Path(tempfile.mkdtemp())
    pictures, prompts = pictures_and_prompts(side)
    lines = []
    for n, (picture, score) in enumerate(zip(pictures, SCORES, strict=True)):
        picture.save(folder / f"{n}.png")
        rated = {model.rubric.dimension_names[0]: score}
        lines.append(json.dumps({"prompt": prompts[0], "image": f"{n}.png", "scores": rated}))
    (folder / "pair.jsonl").write_text("\n".join(lines) + "\n")
    return model, folder / "pair.jsonl"


def recipe(records: Path, steps: int, out: str) -> Recipe:
    return Recipe(
        method="gdso",
        out=out,
        data=DataRecipe(train=str(records)),
        model=ModelRecipe(name="given"),
        optimizer=OptimizerRecipe(steps=steps, batch_size=1, learning_rate=STILL, warmup_steps=0),
        rollout=RolloutRecipe(group_size=GROUP),
        save_every=10**6,
        trainer={"disable_tqdm": True},
    )


def gdso_trainer(model: RewardModel, records: Path, steps: int, out: str) -> Any:
    run: Any = Path(out)
    with contextlib.suppress(ImportError):  # a plain path before there was one
        from zreward.common.runs import RunDirectory

        run = RunDirectory(run)
    return build_trainer(recipe(records, steps, out), run, model)


def trl_trainer(model: RewardModel, records: Path, steps: int, out: str) -> Any:
    from trl_grpo import trl_trainer

    items = [(record, name) for record in load_records(records) for name in record.scores]
    return trl_trainer(model, items, 2 * GROUP, GROUP, steps, Path(out), shortest=TRACE_TOKENS)


def sampled_tokens(trainer: Any) -> float:
    """Of a trace, the mean over all steps, by the trainer's own log: ours, or TRL's."""
    keys = ("trace_tokens", "completions/mean_length")
    logged = [entry[key] for entry in trainer.state.log_history for key in keys if key in entry]
    return sum(logged) / len(logged)


def steps_of(make: Callable[..., Any], steps: int, **sizes: Any) -> dict[str, Any]:
    model, records = training(**sizes)
    with tempfile.TemporaryDirectory() as out:
        torch.manual_seed(0)
        trainer = make(model, records, steps + 1, out)
        watch = Stopwatch()
        trainer.add_callback(watch)
        seen = passes_of(model, trainer.train)
        return {
            "seconds": watch.seconds,
            "trace_tokens": sampled_tokens(trainer),
            "update_tokens": sum(tokens for tokens, graded in seen if graded) / (steps + 1),
            "rollout_tokens": sum(tokens for tokens, graded in seen if not graded) / (steps + 1),
        }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    sizes = {name: request[name] for name in ("family", "image_tokens", "vision_layers")}
    if request["what"] == "score":
        call = scoring(**sizes)
        begin = time.process_time()
        call()
        return {"seconds": [time.process_time() - begin]}
    make = {"step": gdso_trainer, "trl": trl_trainer}[request["what"]]
    return steps_of(make, request["steps"], **sizes)


def main() -> None:
    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):  # trainers print their logs
        print(json.dumps({"code": zreward.__file__}), file=replies, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
