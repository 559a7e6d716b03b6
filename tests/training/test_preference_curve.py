"""The dev curve on preferences: its points, and dev files that are refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.tiny import noise_pictures, tiny_model, with_keys
from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.data import Preference, Record, save_preferences, save_records
from zreward.evaluation.preference_prediction import answering, predict_preferences
from zreward.evaluation.preference_table import preference_rows, voted_pairs
from zreward.training.curves import PreferenceCurve
from zreward.training.recipe import PREFERENCE_METRICS, Recipe
from zreward.training.run import build_trainer, train

PICTURES = noise_pictures(6, seed=1)
RATED = [Record("a red circle", PICTURES[n], {"realism": 2.0 + n, "alignment": 3.0 - n / 2}) for n in (0, 1)]
VOTED = [
    Preference("two squares", (PICTURES[2], PICTURES[3]), {"realism": "a", "beauty": "b"}, split="dev"),
    Preference(
        "two squares", (PICTURES[3], PICTURES[4]), {"realism": {"r": "b", "s": "tie"}, "alignment": "a"}, split="dev"
    ),
    Preference("a cat", (PICTURES[4], PICTURES[5]), {"alignment": "b"}),
]


def make_recipe(folder: Path, method: str = "sft", **keys) -> Recipe:
    save_records(RATED, folder / "rated.jsonl")
    save_preferences(VOTED, folder / "votes.jsonl")
    raw = {
        "method": method,
        "out": str(folder / "run"),
        "data": {"train": str(folder / "rated.jsonl"), "dev": str(folder / "votes.jsonl")},
        "model": {"name": "none"},
        "optimizer": {"steps": 2, "batch_size": 2, "warmup_steps": 0},
        "rollout": {"group_size": 2},
        "eval_every": 1,
    }
    return config_from_dict(Recipe, with_keys(raw, keys))


def curve(folder: Path, **keys) -> PreferenceCurve:
    trainer = build_trainer(make_recipe(folder, **keys), RunDirectory(folder / "run"), tiny_model())
    (found,) = [one for one in trainer.callback_handler.callbacks if isinstance(one, PreferenceCurve)]
    return found


def test_points_are_the_pooled_row_of_evaluate(tmp_path):
    recipe = make_recipe(tmp_path, best_by="dev_vote_agreement")
    model = tiny_model()
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), model)
    (before,) = [
        row
        for row in preference_rows(
            voted_pairs(
                predict_preferences(model, VOTED, ["alignment", "realism"], progress=False),
                VOTED,
                answering(VOTED, model.rubric.dimension_names, ["alignment", "realism"]),
            ),
            resamples=0,
        )
        if row["dimension"] == "all"
    ]
    assert before["n_pairs"] == 4
    trainer.train()
    points = [row for row in trainer.state.log_history if "dev_accuracy" in row]
    assert [(row["step"], set(row) - {"step"}) for row in points] == [(n, set(PREFERENCE_METRICS)) for n in (0, 1, 2)]
    for name in PREFERENCE_METRICS:
        assert points[0][name] == pytest.approx(before[name.removeprefix("dev_")], abs=1e-5)
    assert (tmp_path / "run" / "best").is_dir() and (tmp_path / "run" / "best.json").is_file()


def test_keys_of_the_recipe_reach_it(tmp_path):
    assert len(curve(tmp_path, data__dev_split="dev").preferences) == 2
    assert [one.votes for one in curve(tmp_path, data__dev_records=1).preferences] == [VOTED[0].votes]
    asked = curve(
        tmp_path, method="gdso", eval_temperature=0.5, eval_batch_size=7, seed=4, data__dimensions=["realism"]
    )
    assert asked.how == {"reasoning": True, "seed": 4, "temperature": 0.5, "batch_size": 7}
    assert asked.dimensions == ("realism",) and asked.every == 1


def test_a_run_goes_on_with_the_same_votes_of_dev_only(tmp_path):
    recipe = make_recipe(tmp_path)
    train(recipe, model=tiny_model())
    (Path(recipe.out) / "model" / "zreward.json").unlink()
    turned = [Preference(one.prompt, one.images, {"realism": "tie"}) for one in VOTED]
    save_preferences(turned, tmp_path / "votes.jsonl")
    with pytest.raises(InputError, match=r"data\.dev_votes"):
        train(recipe, resume=True, model=tiny_model())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"best_by": "dev_hpa"},
            "best_by is dev_hpa, but .*votes.jsonl holds preferences, .* has dev_accuracy",
        ),
        ({"data__dimensions": ["plausibility"]}, "no record rates any of"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, keys, said):
    with pytest.raises(InputError, match=said):
        curve(tmp_path, **keys)


def test_dev_files_are_checked_as_records_are(tmp_path):
    recipe = make_recipe(tmp_path)
    save_preferences([Preference("a dog", (PICTURES[0], PICTURES[5]), {"realism": "a"})], tmp_path / "votes.jsonl")
    with pytest.raises(InputError, match="in both train and test"):
        build_trainer(recipe, RunDirectory(tmp_path / "run"), tiny_model())
    save_preferences([Preference("a dog", (PICTURES[4], PICTURES[5]), {"beauty": "a"})], tmp_path / "votes.jsonl")
    with pytest.raises(InputError, match="no preference has votes on alignment, realism; the votes are on beauty"):
        build_trainer(recipe, RunDirectory(tmp_path / "run"), tiny_model())
    keys = {"best_by": "dev_accuracy", "data__dev": str(tmp_path / "rated.jsonl")}
    wrong = config_from_dict(Recipe, with_keys(asdict(recipe), keys))
    with pytest.raises(InputError, match="best_by is dev_accuracy, but .*rated.jsonl holds records"):
        build_trainer(wrong, RunDirectory(tmp_path / "run"), tiny_model())
