"""Target files: what is in them, and what is refused."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from zreward.data import Record, load_records
from zreward.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import DataRecipe
from zreward.training.targets import LabelOptions, distilled_items, explained_items, label, records_fingerprint


@pytest.fixture(scope="module")
def labelled(tiny_data, tmp_path_factory):
    teacher = RewardModel.from_pretrained(tiny_data["base"])
    pool = load_records(tiny_data["pool"])
    out = tmp_path_factory.mktemp("label") / "targets"
    label(teacher, "base", pool, out, LabelOptions(traces=2, shard_size=5))
    return teacher, pool, out


def test_a_shard_holds_the_distribution_its_mean_and_every_trace(labelled):
    teacher, pool, out = labelled
    rows = [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert len(rows) == len(pool) * 4
    bins = teacher.rubric.scale.bins.tolist()
    for row in rows:
        assert sum(row["probs"]) == pytest.approx(1, abs=1e-5)
        assert row["mean"] == pytest.approx(sum(b * p for b, p in zip(bins, row["probs"], strict=True)), abs=1e-4)
        assert len(row["traces"]) == 2
        assert 0 < row["tokens"] <= teacher.max_trace_tokens
        assert row["prompt"] == pool[row["record"]].prompt


@pytest.mark.parametrize("change", [{"traces": 1}, {"seed": 1}, {"shard_size": 3}])
def test_other_options_do_not_mix_into_a_folder(labelled, change):
    teacher, pool, out = labelled
    options = LabelOptions(**({"traces": 2, "shard_size": 5} | change))
    with pytest.raises(InputError, match="other options"):
        label(teacher, "base", pool, out, options)


def test_other_records_are_refused(labelled, tiny_data):
    teacher, pool, out = labelled
    with pytest.raises(InputError, match="other records"):
        label(teacher, "base", pool[:-1], out, LabelOptions(traces=2, shard_size=5))
    with pytest.raises(InputError, match="other records"):
        distilled_items(out, load_records(tiny_data["train"]), DataRecipe(train=""), teacher)


def test_an_unfinished_folder_is_refused(labelled, tmp_path):
    teacher, pool, out = labelled
    part = tmp_path / "part"
    part.mkdir()
    first = sorted(out.glob("targets-*.parquet"))[0]
    (part / first.name).write_bytes(first.read_bytes())
    (part / "manifest.json").write_text((out / "manifest.json").read_text())
    with pytest.raises(InputError, match=f"5 of {len(pool)} records"):
        distilled_items(part, pool, DataRecipe(train=""), teacher)


def test_targets_without_the_wanted_dimension_are_refused(labelled, tmp_path):
    teacher, pool, _ = labelled
    out = tmp_path / "one"
    label(teacher, "base", pool[:2], out, LabelOptions(dimensions=("realism",)))
    with pytest.raises(InputError, match=r"hold \['realism'\], not \['alignment'\]"):
        distilled_items(out, pool[:2], DataRecipe(train="", dimensions=["alignment"]), teacher)
    (out / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        distilled_items(out, pool[:2], DataRecipe(train=""), teacher)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_bad_temperature_is_refused_before_anything_is_written(temperature):
    with pytest.raises(InputError, match="temperature"):
        LabelOptions(temperature=temperature)


def test_other_pictures_under_the_same_names_are_other_records(tmp_path):
    def fingerprint(folder: str, colour: str) -> str:
        path = tmp_path / folder / "1.png"
        path.parent.mkdir()
        Image.effect_noise((8, 8), 50 if colour == "grey" else 0).save(path)
        return records_fingerprint([Record("a red circle", str(path), {})])

    assert fingerprint("a", "grey") != fingerprint("b", "plain")


def test_a_folder_without_manifest_is_refused(labelled, tmp_path):
    teacher, pool, _ = labelled
    with pytest.raises(InputError, match="no manifest.json"):
        distilled_items(tmp_path, pool, DataRecipe(train=""), teacher)


def test_the_manifest_names_the_teacher(labelled):
    manifest = json.loads((labelled[2] / "manifest.json").read_text())
    assert manifest["teacher"] == "base" and manifest["count"] == len(labelled[1])


def test_more_traces_than_were_sampled_and_chains_of_none_are_refused(labelled, tmp_path):
    teacher, pool, out = labelled
    with pytest.raises(InputError, match="2 traces an item.*--traces 5"):
        distilled_items(out, pool, DataRecipe(train="", target_traces=5), teacher)
    rated = [replace(record, scores={"realism": 3.0}) for record in pool[:2]]
    direct = label(teacher, "base", rated, tmp_path / "direct", LabelOptions(reasoning=False))
    with pytest.raises(InputError, match="holds no traces; label without `--direct`"):
        explained_items(direct, rated, DataRecipe(train=""), ["realism"], teacher)
