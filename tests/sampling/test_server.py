"""The same questions, asked of vLLM's own HTTP server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ports import held_port, number
from tests.sampling.models import OPTIONS, own_answers, pictures, rows, vllm_model
from tests.sampling.servers import ROOT, serving
from tests.tiny import tiny_records
from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory, read_metrics
from zreward.data.writing import save_records
from zreward.sampling.canary import WeightsDifferError
from zreward.sampling.options import VllmOptions
from zreward.sampling.questions import rules_of
from zreward.sampling.server import ServerVllm
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.run import build_trainer, load_model


@pytest.fixture(scope="module", params=[None, 4], ids=["full", "lora"])
def place(request, tmp_path_factory) -> Iterator[tuple[Path, str, int | None]]:
    """A folder with a model and records, the address of its server, and the rank of adapters."""
    folder = tmp_path_factory.mktemp("server")
    vllm_model("qwen3_vl").save_pretrained(folder / "base")
    save_records(tiny_records(6, 2, seed=0), folder / "train.jsonl")
    lora = ("--enable-lora", "--max-lora-rank", "8") if request.param else ()
    with serving(folder / "base", folder / "log", *lora) as address:
        yield folder, address, request.param


def trainer_of(place: tuple[Path, str, int | None], steps: int) -> RolloutTrainer:
    folder, address, rank = place
    model: dict[str, Any] = {"name": str(folder / "base")}
    raw: dict[str, Any] = {
        "method": "gdso",
        "out": str(folder / f"run-{steps}"),
        "data": {"train": str(folder / "train.jsonl")},
        "model": model | ({"lora_rank": rank, "freeze_vision": True} if rank else {}),
        "optimizer": {"steps": steps, "batch_size": 2, "learning_rate": 3e-3, "warmup_steps": 0},
        "rollout": {"group_size": 2, "engine": "vllm"},
        "vllm": {"server": address, "max_sequences": 8},
    }
    recipe = config_from_dict(Recipe, raw)
    torch.manual_seed(0)
    trainer = build_trainer(recipe, RunDirectory(Path(recipe.out)), load_model(recipe))
    trainer.prepare_device()
    assert isinstance(trainer, RolloutTrainer)
    return trainer


def test_traces_and_scores_are_the_models_own_and_follow_its_weights(place):
    """Pictures of the size that the model sees: those that are resized travel rounded to 8 bits."""
    trainer = trainer_of(place, 10)
    assert trainer.sampler is not None
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 10
    for entry in steps:
        assert entry["engine_difference"] < 1e-5 and entry["sampler_difference_max"] < 5e-5
    with pytest.raises(WeightsDifferError):  # the last step's update came after its roll-out
        trainer.sampler.canary.check(trainer.sampler.engine)
    assert trainer.sampler.sync() < 1e-5
    model = trainer.reward_model.eval()
    shown = [row for row in rows() if row.images == (0,)]
    sampled = trainer.sampler.reason(pictures(model), shown, 0.7, [5, 6])
    answered = [replace(row, trace=one.trace) for row, one in zip(shown, sampled, strict=True)]
    _, own = own_answers(model, answered, 0.7)
    for one, values in zip(sampled, own, strict=True):
        torch.testing.assert_close(torch.tensor(one.log_probs), values, atol=5e-5, rtol=0)
    trainer.sampler.close()


def test_an_update_that_does_not_arrive_is_caught(place, monkeypatch):
    trainer = trainer_of(place, 8)
    assert trainer.sampler is not None
    load = "load_adapter" if place[2] else "load_weights"
    trainer.sampler.sync()
    monkeypatch.setattr(trainer.sampler.engine, load, lambda folder: None)
    with pytest.raises(WeightsDifferError):
        trainer.train()
    trainer.sampler.close()


def test_a_server_that_is_not_there_is_named():
    held = held_port()
    with pytest.raises(InputError, match=r"vllm.server http://127.0.0.1:\d+/v1/models: .*is it running\?"):
        ServerVllm(
            rules_of(vllm_model("qwen3_vl")),
            VllmOptions(**vars(OPTIONS) | {"server": f"127.0.0.1:{number(held)}"}),
            True,
        )
    held.close()


def test_two_processes_that_ask_one_server_train_as_one(place):
    """Each takes one of the step's two pairs; the first brings the weights over."""
    folder, address, rank = place
    keys = [f"data.train={folder}/train.jsonl", f"model.name={folder}/base", f"vllm.server={address}"]
    keys += [f"model.lora_rank={rank}", "model.freeze_vision=true"] if rank else []
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
    found = []
    for processes in (1, 2):
        out = folder / f"of-{processes}"
        own = [f"out={out}", f"optimizer.batch_size={2 // processes}"]
        launch = [*command, str(processes), "--standalone", "-m", "zreward.cli", "train", str(recipe)]
        if processes == 1:
            launch = [sys.executable, "-m", "zreward.cli", "train", str(recipe)]
        made = subprocess.run(
            [*launch, *keys, *own],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=300,
        )
        assert made.returncode == 0, made.stderr.decode()[-3000:]
        found.append([entry for entry in read_metrics(out) if "loss" in entry])
    one, two = found
    assert len(one) == len(two) == 4
    for mine, other in zip(one, two, strict=True):
        for name in ("loss", "grad_norm", "policy_loss", "gap_loss", "reward", "trace_tokens"):
            assert mine[name] == pytest.approx(other[name], abs=1e-4), name
        assert other["engine_difference"] < 1e-5


RECIPE = """
method: gdso
out: run
data: {train: x}
model: {name: x}
optimizer: {steps: 4, batch_size: 2, learning_rate: 3.0e-3, warmup_steps: 0}
rollout: {group_size: 2, engine: vllm}
vllm: {max_sequences: 8}
"""
