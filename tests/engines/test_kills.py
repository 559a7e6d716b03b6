"""kill -9 of one of two processes while the other is late at every save: no half checkpoint counts, and losses go on.

One kill here, twenty with the marker `slow`: five under each engine, each resumed in one, two and four processes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import ENGINES, KILLED, Launcher, events_of, steps_of
from tests.killing import chosen
from zreward.common.runs import COMPLETE, RunDirectory
from zreward.models.weight_files import weight_files
from zreward.training.recipe import Recipe

CASES = {
    "ddp": {"method": "gdso"},
    "fsdp2": {"method": "gdso"},
    "zero2": {"method": "risd", "model": {"lora_rank": 2}},
    "zero3": {"method": "gdso", "optimizer": {"weight_decay": 0.5}},
}


def killed_recipe(folder: Path, engine: str, out: Path) -> Recipe:
    more = dict(CASES[engine])
    return recipe_of(folder, more.pop("method"), out, 2, 6, dev=True, save_every=2, keep_checkpoints=2, **more)


def assert_complete(run: Path, ranks: int) -> None:
    """Every checkpoint that counts has all its parts."""
    for checkpoint in RunDirectory(run).checkpoints():
        assert (checkpoint / COMPLETE).exists()
        names = {path.name for path in checkpoint.iterdir()}
        assert {f"rng_state_{rank}.pth" for rank in range(ranks)} <= names, names
        assert {"trainer_state.json", "scheduler.pt", "zreward.json"} <= names, names
        assert weight_files(checkpoint) and any(name.startswith(("optimizer", "global_step")) for name in names), names
        json.loads((checkpoint / "trainer_state.json").read_text())


def check(launcher: Launcher, folder: Path, place: Path, engine: str, kills: int, resumed_on: tuple[int, ...]) -> None:
    straight = killed_recipe(folder, engine, place / "straight")
    launcher.train({"run": straight}, engine, 2, place / "job", watch=straight.out)
    events = [events_of(place / "job", rank) for rank in (0, 1)]
    expected = steps_of(straight)
    assert_complete(Path(straight.out), 2)
    for number in range(kills):
        dying = number % 2
        event = chosen(events[dying], kills)[number]
        recipe = killed_recipe(folder, engine, place / f"killed-{number}")
        job = place / f"job-{number}"
        ended = launcher.launch({"run": recipe}, engine, 2, job, watch=recipe.out, kill=(dying, event), late=1 - dying)
        assert ended[dying][0] == KILLED, ended[dying][1][-3000:]
        assert_complete(Path(recipe.out), 2)
        begun = (Path(recipe.out) / "recipe.yaml").exists()
        for ranks in resumed_on:
            copy = place / f"resumed-{number}-{ranks}"
            shutil.copytree(recipe.out, copy)
            again = replace(recipe, out=str(copy))
            launcher.train({"run": again}, engine, ranks, job, resume=begun)
            where = f"rank {dying} was killed at {event} ({events_of(job, dying)[-1]}), {ranks} resumed"
            print(where)
            assert_same_steps(steps_of(again), expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_kill_on_two_ranks_is_gone_on_from_by_one_two_and_four(launcher, folder, tmp_path, engine):
    check(launcher, folder, tmp_path, engine, kills=5, resumed_on=(1, 2, 4))


def test_a_kill_on_two_ranks_is_gone_on_from(launcher, folder, tmp_path):
    check(launcher, folder, tmp_path, "fsdp2", kills=1, resumed_on=(1,))
