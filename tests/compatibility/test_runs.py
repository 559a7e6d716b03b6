"""Runs that commit 07f77a1 began and a kill cut off go on, and end as its own uninterrupted ones did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.compatibility.conftest import WRITTEN
from tests.compatibility.test_checkpoints import check_answers
from zreward.common.config import config_from_dict, load_config
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.generation.recipe import OptimizeRecipe
from zreward.generation.recipe import stored_recipe as stored_optimize_recipe
from zreward.inference import bulk
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label

OLDER = "was started by an older zreward"
OF_A_SESSION = ("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second")
"""transformers' Trainer sums these up from where it started: the steps before a kill are not in them."""


def check_metrics(run: str, expected: Path) -> None:
    told = [json.loads(line) for line in expected.read_text().splitlines()]
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == [row["step"] for row in told]
    for row, before in zip(rows, told, strict=True):
        assert set(row) - {"policy_kl"} == set(before)  # logged since
        for key in set(before) - set(OF_A_SESSION):
            # Other processors are off by 2e-4 of a loss after three steps; the policy's is nought but for rounding, up to 4e-4.
            least = {"policy_loss": 5e-4, "group_spread": 1e-6}.get(key, 1e-7)
            assert row[key] == pytest.approx(before[key], rel=1e-3, abs=least), (row["step"], key)


@pytest.mark.parametrize(("method", "cut_at"), [("sft", 2), ("gdso", 2)])
def test_a_training_goes_on(written, method, cut_at, capsys):
    """sft: all weights, one pass; gdso: an adapter, sampled roll-outs with two updates each."""
    assert [path.name for path in (written / method / "checkpoints").iterdir()] == [f"checkpoint-{cut_at}"]
    recipe = load_recipe(written / f"{method}.yaml")
    final = train(recipe, resume=True)
    assert OLDER in capsys.readouterr().err
    check_metrics(method, written / "expected" / f"{method}.jsonl")
    check_answers(RewardModel.from_pretrained(final, device="cpu"), written / "expected" / f"{method}.json")
    train(recipe, resume=True)
    assert "is finished: nothing to do" in capsys.readouterr().err


def test_another_recipe_is_still_refused(written):
    with pytest.raises(InputError, match=r"different: optimizer.steps: 4, now 5\)"):
        train(load_recipe(written / "sft.yaml", ["optimizer.steps=5"]), resume=True)


def test_keys_that_did_nothing_do_not_stop_a_run(written):
    """07f77a1 let them pass; today's recipes refuse them, so the run is resumed by a recipe without them."""
    file = Path("sft/recipe.yaml")
    stored = yaml.safe_load(file.read_text())
    stored["model"]["lora_alpha"], stored["data"]["chain_weight"], stored["data"]["target_traces"] = 8, 0.5, 4
    file.write_text(yaml.safe_dump(stored))
    with pytest.raises(InputError, match="chain_weight|lora_alpha|target_traces"):
        load_recipe(file)
    train(load_recipe(written / "sft.yaml"), resume=True)
    check_metrics("sft", written / "expected" / "sft.jsonl")


def test_nor_an_optimisation():
    raw = yaml.safe_load((WRITTEN / "optimize" / "recipe.yaml").read_text())
    raw["generator"]["lora_rank"] = None
    plain = stored_optimize_recipe(raw)
    raw["guards"]["holdout_reasoning"] = True
    with pytest.raises(InputError, match="holdout_reasoning"):
        config_from_dict(OptimizeRecipe, raw)
    assert stored_optimize_recipe(raw) == plain and plain["generator"]["lora_alpha"] == 16


def test_an_optimisation_goes_on(written, capsys):
    pytest.importorskip("diffusers", reason="pip install 'zreward[generation]'")
    from zreward.generation.optimize import optimize

    outcome = optimize(load_config(OptimizeRecipe, written / "optimize.yaml"), resume=True)
    assert OLDER in capsys.readouterr().err
    check_metrics("optimize", written / "expected" / "optimize.jsonl")
    weights, told = (
        load_file(file)
        for file in (outcome.model / "pytorch_lora_weights.safetensors", written / "expected" / "optimize.safetensors")
    )
    assert weights.keys() == told.keys() and weights
    for name in told:
        torch.testing.assert_close(weights[name], told[name], rtol=1e-4, atol=1e-6)


def test_labels_go_on(written, capsys):
    """Four shards of four records; the kill came after two."""
    kept = {shard.name: shard.stat().st_mtime_ns for shard in Path("targets").glob("*.parquet")}
    assert len(kept) == 2
    model = RewardModel.from_pretrained("base", device="cpu")
    label(model, "base", load_records("records.jsonl"), Path("targets"), LabelOptions(traces=2, shard_size=4))
    assert OLDER in capsys.readouterr().err
    shards = sorted(Path("targets").glob("*.parquet"))
    assert {shard.name: shard.stat().st_mtime_ns for shard in shards[:2]} == kept
    rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
    spreads = [(row.pop("within_std", None), row.pop("between_std", None)) for row in rows]
    assert len({None in parts for parts in spreads}) == 2, "columns that are written since, in the new shards alone"
    check_rows(rows, "expected/targets.parquet")


def test_scores_go_on(written, monkeypatch, capsys):
    """Four shards of four rows; the kill came after two."""
    monkeypatch.setattr(bulk, "SHARD", 4)
    model, out = RewardModel.from_pretrained("base", device="cpu"), Path("scores.parquet")
    assert len(list(Path("scores.parquet.parts").glob("*.parquet"))) == 2
    with pytest.raises(InputError, match="different: skip_bad: false, now true"):
        bulk.score_data(model, Path("records.jsonl"), out, skip_bad=True)
    assert bulk.score_data(model, Path("records.jsonl"), out) == 16
    assert OLDER in capsys.readouterr().err and not Path("scores.parquet.parts").exists()
    check_rows(pq.read_table(out).to_pylist(), "expected/scores.parquet")


def test_scores_of_a_changed_source_do_not(written, monkeypatch):
    monkeypatch.setattr(bulk, "SHARD", 4)
    Path("records.jsonl").touch()
    with pytest.raises(InputError, match="different: modified: 1700000000000000000, now "):
        bulk.score_data(
            RewardModel.from_pretrained("base", device="cpu"), Path("records.jsonl"), Path("scores.parquet")
        )


def test_finished_scores_are_named(written):
    with pytest.raises(InputError, match="an older zreward or another program made it"):
        bulk.score_data(
            RewardModel.from_pretrained("base", device="cpu"), Path("records.jsonl"), Path("expected/scores.parquet")
        )


def check_rows(rows: list[dict], expected: str) -> None:
    told = pq.read_table(expected).to_pylist()
    assert len(rows) == len(told) and rows
    for row, before in zip(rows, told, strict=True):
        assert set(row) == set(before)
        for key, value in before.items():
            array = np.array(value)
            if array.dtype.kind == "f":
                np.testing.assert_allclose(np.array(row[key]), array, rtol=0, atol=1e-4, err_msg=key)
            else:
                assert row[key] == value, key
