"""kill -9 anywhere in label, score --data, train and optimize, the command again: the bytes of an uninterrupted run.

Nothing is lost, nothing doubled, and no temporary file is left. Two kills of `label` and of `score` here
(tests/engines/test_kills.py: of a training), twenty of every command with the marker `slow`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.generation.conftest import stable_diffusion
from tests.killing import Killer, chosen, leftovers, said
from tests.tiny import tiny_model, tiny_records
from zreward.common.files import file_digest
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.targets import LabelOptions, label


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with an untrained model and records."""
    folder = tmp_path_factory.mktemp("killed")
    tiny_model(trace_tokens=4).save_pretrained(folder / "base")
    save_records(tiny_records(4, 2, seed=0), folder / "data.jsonl")
    return folder


@dataclass
class Case:
    """A command that writes into a folder: how it is started there, or started again, and what counts of the result."""

    arguments: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    shard: int = 512


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def label_case(world: Path) -> Case:
    def arguments(out: Path) -> list[str]:
        options = ["--seed", "5", "--shard-size", "2", "--batch-size", "2"]
        return [
            "label",
            str(world / "base"),
            "--data",
            str(world / "data.jsonl"),
            "--out",
            str(out / "targets"),
            *options,
        ]

    return Case(arguments, lambda out: digests(out))


def score_case(world: Path) -> Case:
    def arguments(out: Path) -> list[str]:
        where = ["--data", str(world / "data.jsonl"), "--out", str(out / "scores.parquet")]
        return ["score", str(world / "base"), *where, "--batch-size", "1"]

    return Case(arguments, lambda out: digests(out), shard=2)


def run_case(command: str, raw: dict[str, Any], parts: tuple[str, ...]) -> Case:
    """A run by a recipe: its losses by step, and the bytes of some of its folders and files."""

    def arguments(out: Path) -> list[str]:
        recipe = out.parent / f"{out.name}.yaml"
        recipe.write_text(yaml.safe_dump(raw | {"out": str(out / "run")}))
        started = (out / "run" / "recipe.yaml").exists()
        return [command, str(recipe), *(["--resume"] if started else [])]

    def result(out: Path) -> Any:
        losses = [row for row in read_metrics(out / "run") if "loss" in row or "reward" in row]
        kept = {name: digests(out / "run" / name) for name in parts}
        return json.loads(json.dumps([losses, kept]))

    return Case(arguments, result)


def train_case(world: Path) -> Case:
    raw = {
        "method": "gdso",
        "data": {"train": str(world / "data.jsonl")},
        "model": {"name": str(world / "base")},
        "optimizer": {"steps": 6, "batch_size": 1, "learning_rate": 1e-3, "warmup_steps": 1},
        "rollout": {"group_size": 2},
        "save_every": 2,
        "seed": 3,
    }
    return run_case("train", raw, ("model",))


def risd_case(world: Path) -> Case:
    """Distillation: rows in shuffled batches, where the roll-outs above draw random numbers besides."""
    targets, records = world / "targets", load_records(world / "data.jsonl")
    label(RewardModel.from_pretrained(world / "base"), "base", records, targets, LabelOptions(reasoning=False))
    raw = {
        "method": "risd",
        "data": {"train": str(world / "data.jsonl"), "targets": str(targets)},
        "model": {"name": str(world / "base")},
        "optimizer": {"steps": 6, "batch_size": 3, "learning_rate": 1e-3, "warmup_steps": 1},
        "save_every": 2,
        "keep_checkpoints": 1,
    }
    return run_case("train", raw, ("model",))


def optimize_case(world: Path) -> Case:
    if not (world / "generator").exists():
        stable_diffusion().save_pretrained(world / "generator")
        for name, words in (("prompts", "red blue"), ("held-out", "green circle")):
            (world / f"{name}.txt").write_text("".join(f"a {word}\n" for word in words.split()))
    raw = {
        "student": str(world / "base"),
        "prompts": str(world / "prompts.txt"),
        "held_out": str(world / "held-out.txt"),
        "generator": {"name": str(world / "generator"), "steps": 2},
        "gradient": {"steps": [1, 1]},
        "optimizer": {"steps": 6, "batch_size": 1, "learning_rate": 1e-3, "warmup_steps": 1},
        "guards": {"every": 3, "prompts": 2, "min_diversity": 0.0, "max_drift": 9.0, "max_dimension_fall": 9.0},
        "save_every": 2,
    }
    return run_case("optimize", raw, ("model", "checkpoints", "best", "grids"))


def check(killer: Killer, case: Case, folder: Path, kills: int) -> None:
    """Every kill in a folder of its own."""
    straight = folder / "straight"
    straight.mkdir()
    events = killer.run(case.arguments(straight), straight, shard=case.shard)
    expected, places = case.result(straight), []
    assert not leftovers(straight)
    for number in chosen(events, kills):
        out = folder / f"killed-{number}"
        out.mkdir()
        places.append(killer.run(case.arguments(out), out, number, case.shard)[-1])
        killer.run(case.arguments(out), out, shard=case.shard)
        assert case.result(out) == expected, f"killed at {number}: {places[-1]}"
        assert not leftovers(out), f"killed at {number}: {places[-1]}"
    before = digests(out)
    killer.run(case.arguments(out), out, shard=case.shard)  # a finished run is left alone
    assert digests(out) == before
    print(f"\n{len(places)} kills of {len(events)} places: {said(places)}")


CASES = [label_case, score_case, train_case, optimize_case]


@pytest.mark.parametrize("case", CASES[:2], ids=[case.__name__ for case in CASES[:2]])
def test_a_kill_anywhere_loses_and_doubles_nothing(killer, world, tmp_path, case):
    check(killer, case(world), tmp_path, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, risd_case], ids=[case.__name__ for case in [*CASES, risd_case]])
def test_twenty_kills_lose_and_double_nothing(killer, world, tmp_path, case):
    check(killer, case(world), tmp_path, kills=20)
