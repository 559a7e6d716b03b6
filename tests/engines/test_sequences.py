"""Answers in words in two processes, alone and beside pictures: the steps are those of one process.

A process whose rows show no picture, and which therefore leaves out the vision tower, waits for another for ever, or fails for
want of a gradient: ZeRO-2 does (DDP finds unused weights itself). An optimizer that skips the tower in such a step goes on from
another momentum than one that does not.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import ENGINES, steps_of
from tests.tiny import tiny_records
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.training.run import train

SPLIT = ("fsdp2", "zero3")
METHODS = ("sft", "gdso")


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, str]:
    """Files of answers alone, and of answers and pictures in turn."""
    place = tmp_path_factory.mktemp("sequences")
    pictures = tiny_records(8, 2, seed=0)
    save_records(pictures, place / "pictures.jsonl")
    pictures = load_records(place / "pictures.jsonl")
    answers = [replace(one, image=None, answer=f"a {n} b") for n, one in enumerate(pictures)]
    mixed = [(one, other)[n % 2] for n, (one, other) in enumerate(zip(pictures, answers, strict=True))]
    save_records(answers, place / "answers.jsonl")
    save_records(mixed, place / "mixed.jsonl")
    return {kind: str(place / f"{kind}.jsonl") for kind in ("answers", "mixed")}


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        pytest.param(
            engine, kind, marks=() if (engine, kind) in (("zero2", "mixed"), ("fsdp2", "answers")) else pytest.mark.slow
        )
        for engine in ENGINES
        for kind in ("answers", "mixed")
        if not (engine in SPLIT and kind == "mixed")
    ],
)
def test_records_without_pictures_take_the_steps_of_one_process(launcher, folder, records, tmp_path, engine, kind):
    found = []
    for ranks in (1, 2):
        recipes = {
            name: recipe_of(
                folder,
                name,
                tmp_path / f"{name}-{ranks}",
                ranks,
                3,
                data={"train": records[kind]},
            )
            for name in METHODS
        }
        if ranks == 2:
            launcher.train(recipes, engine, 2, tmp_path / "job")
        else:
            for recipe in recipes.values():
                train(recipe)
        found.append({name: steps_of(recipe) for name, recipe in recipes.items()})
    for name in METHODS:
        assert_same_steps(found[1][name], found[0][name], 1e-4)


def test_split_weights_need_records_of_one_kind(launcher, folder, records, tmp_path):
    recipe = recipe_of(folder, "sft", tmp_path / "sft", 2, 2, data={"train": records["mixed"]})
    for code, log in launcher.launch({"sft": recipe}, "fsdp2", 2, tmp_path / "job"):
        assert code != 0 and "InputError: some records show pictures and some do not" in log
        assert "launch with DDP or ZeRO-2" in log
