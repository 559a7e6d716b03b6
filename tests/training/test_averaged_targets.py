"""The mean of several teachers' targets: against a plain loop over the bins, and what is refused."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.training.averaged_targets import average_targets
from zreward.training.recipe import DataRecipe
from zreward.training.targets import LabelOptions, distilled_items, label


@pytest.fixture(scope="module")
def teachers(tiny_data, tmp_path_factory):
    """The model, its records, and finished targets folders: three seeds of two traces, and two teachers without traces."""
    model, pool = RewardModel.from_pretrained(tiny_data["base"]), load_records(tiny_data["pool"])
    folder = tmp_path_factory.mktemp("teachers")
    for seed in range(3):
        label(model, f"seed {seed}", pool, folder / f"{seed}", LabelOptions(traces=2, seed=seed, shard_size=5))
    for name in ("a", "b"):  # two runs, whose answers are the same: one is changed below
        label(model, name, pool, folder / name, LabelOptions(reasoning=False, shard_size=5))
    return model, pool, folder


def rows_of(folder):
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_the_mean_is_that_of_all_traces(teachers, tmp_path):
    model, pool, folder = teachers
    out = average_targets([folder / "0", folder / "1", folder / "2"], tmp_path / "mean")
    bins = model.rubric.scale.bins.tolist()
    each = [rows_of(folder / str(seed)) for seed in range(3)]
    rows = rows_of(out)
    assert len(rows) == len(pool) * 4 == len(each[0])
    for row, mine in zip(rows, zip(*each, strict=True), strict=True):
        assert (row["record"], row["dimension"], row["prompt"]) == tuple(
            mine[0][k] for k in ("record", "dimension", "prompt")
        )
        traces = [probs for one in mine for probs in one["trace_probs"]]
        assert row["trace_probs"] == traces and len(traces) == 6
        assert row["traces"] == [text for one in mine for text in one["traces"]]
        probs = [sum(trace[s] for trace in traces) / 6 for s in range(len(bins))]
        means = [sum(b * p for b, p in zip(bins, trace, strict=True)) for trace in traces]
        variances = [
            sum(b * b * p for b, p in zip(bins, t, strict=True)) - m * m for t, m in zip(traces, means, strict=True)
        ]
        assert row["probs"] == pytest.approx(probs, abs=1e-6)
        assert row["mean"] == pytest.approx(sum(means) / 6, abs=1e-5)
        assert row["within_std"] ** 2 == pytest.approx(sum(variances) / 6, abs=1e-4)
        assert row["between_std"] ** 2 == pytest.approx(np.var(means), abs=1e-4)
        assert row["tokens"] == pytest.approx(sum(one["tokens"] for one in mine) / 3)
        assert row["truncated"] == pytest.approx(sum(one["truncated"] for one in mine) / 3)


def test_a_student_learns_the_mean(teachers, tmp_path):
    """As many numbers as the mean says, also where a recipe wants the first traces alone."""
    model, pool, folder = teachers
    out = average_targets([folder / "0", folder / "1"], tmp_path / "mean")
    items = distilled_items(out, pool, DataRecipe(train="x", targets=str(out)), model)
    for item, row in zip(items, rows_of(out), strict=True):
        assert item.target.tolist() == pytest.approx(row["probs"], abs=1e-6)
    first = distilled_items(out, pool, DataRecipe(train="x", targets=str(out), target_traces=2), model)
    for item, row in zip(first, rows_of(folder / "0"), strict=True):
        assert item.target.tolist() == pytest.approx(row["probs"], abs=1e-5)
    with pytest.raises(InputError, match=r"made with 4 traces an item"):
        distilled_items(out, pool, DataRecipe(train="x", targets=str(out), target_traces=5), model)


def changed(folder, out, change):
    """A copy of a finished folder whose rows went through `change`, with the checksums of a whole one."""
    import hashlib

    import pyarrow as pa

    shutil.copytree(folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    for line in manifest["shards"]:
        file = out / line["shard"]
        pq.write_table(pa.Table.from_pylist([change(row) for row in pq.read_table(file).to_pylist()]), file)
        line["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def test_teachers_without_traces_count_alike(teachers, tmp_path):
    _, _, folder = teachers
    other = changed(folder / "b", tmp_path / "b", lambda row: row | {"mean": row["mean"] + 1.0, "bounded": 0.5})
    rows = rows_of(average_targets([folder / "a", other], tmp_path / "mean"))
    for row, mine in zip(rows, rows_of(folder / "a"), strict=True):
        assert row["mean"] == pytest.approx(mine["mean"] + 0.5)
        assert row["between_std"] == pytest.approx(0.5) and row["within_std"] == pytest.approx(mine["within_std"])
        assert row["traces"] == row["trace_probs"] == []
        assert row["bounded"] == 0.25  # the share of a teacher that was asked for all labels is 0


def test_it_goes_on_where_it_was_cut_off(teachers, tmp_path, capfd):
    model, pool, folder = teachers
    both = [folder / "0", folder / "1"]
    whole = average_targets(both, tmp_path / "mean")
    before = {file.name: file.read_bytes() for file in whole.iterdir()}
    average_targets(both, whole)
    assert f"{whole} is finished: nothing to do" in capfd.readouterr().err
    last = max(whole.glob("*.parquet"))
    last.write_bytes(b"cut")
    with pytest.raises(
        InputError, match="targets-00002.parquet is damaged .*; run `zreward average` again: it makes this"
    ):
        distilled_items(whole, pool, DataRecipe(train="x", targets=str(whole)), model)
    average_targets(both, whole)
    assert {file.name: file.read_bytes() for file in whole.iterdir()} == before
    with pytest.raises(InputError, match="holds targets made with other inputs"):
        average_targets([folder / "0", folder / "2"], whole)


def test_what_does_not_belong_together_is_refused(teachers, tmp_path):
    model, pool, folder = teachers
    other = tmp_path / "other"
    label(model, "x", pool, other, LabelOptions(traces=1, shard_size=5))
    said = f"{other} and {folder / '0'} do not go together: options.traces 1 and 2; label the same records with the same options"
    with pytest.raises(InputError, match=re.escape(said)):
        average_targets([folder / "0", other], tmp_path / "mean")
    with pytest.raises(InputError, match="options.traces 1 and 2, options.reasoning False and True"):
        average_targets([folder / "0", folder / "a"], tmp_path / "mean")
    fewer = tmp_path / "fewer"
    label(model, "x", pool[:-1], fewer, LabelOptions(traces=2, shard_size=5))
    with pytest.raises(InputError, match=f"records .*, count {len(pool) - 1} and {len(pool)};"):
        average_targets([folder / "0", fewer], tmp_path / "mean")
    ruled = shutil.copytree(folder / "1", tmp_path / "ruled")
    manifest = json.loads((ruled / "manifest.json").read_text()) | {"rubric": "another"}
    (ruled / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="do not go together: rubric 'another' and '"):
        average_targets([folder / "0", ruled], tmp_path / "mean")
    for folders in ([folder / "0"], [folder / "0", folder / "0"], []):
        with pytest.raises(InputError, match="expected two or more different folders"):
            average_targets(folders, tmp_path / "mean")
    with pytest.raises(InputError, match=r"no manifest.json; expected a folder that `zreward label` finished"):
        average_targets([folder / "0", tmp_path], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_unfinished_and_damaged_folders_are_refused(teachers, tmp_path):
    _, _, folder = teachers
    begun = shutil.copytree(folder / "1", tmp_path / "begun")
    manifest = json.loads((begun / "manifest.json").read_text())
    del manifest["shards"]
    (begun / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="begun is not finished; run `zreward label` to the end"):
        average_targets([folder / "0", begun], tmp_path / "mean")
    (tmp_path / "jobs" / "job-0001-of-0002").mkdir(parents=True)
    with pytest.raises(InputError, match="jobs: its jobs are not joined: run `zreward merge` first"):
        average_targets([folder / "0", tmp_path / "jobs"], tmp_path / "mean")
    manifest = json.loads((folder / "1" / "manifest.json").read_text())
    for change in ({"count": None}, {"options": {"dimensions": ["realism"]}}):
        (begun / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(InputError, match="manifest.json is damaged; delete the folder"):
            average_targets([folder / "0", begun], tmp_path / "mean")
    shards = manifest["shards"]
    renamed = [*shards[:-1], shards[-1] | {"shard": "targets-00009.parquet"}]
    for change in (
        {"shards": shards[:-1]},
        {"shards": shards[1:]},
        {"shards": renamed},
        {"shards": 5},
        {"count": 10**15},
    ):
        (begun / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(
            InputError, match=r"manifest.json names other shards than the .* records; delete the folder"
        ):
            average_targets([folder / "0", begun], tmp_path / "mean")
    broken = shutil.copytree(folder / "1", tmp_path / "broken")
    min(broken.glob("*.parquet")).write_bytes(b"no parquet")
    with pytest.raises(InputError, match="targets-00000.parquet is damaged"):
        average_targets([folder / "0", broken], tmp_path / "mean")
    old = changed(folder / "1", tmp_path / "old", lambda row: {k: v for k, v in row.items() if not k.endswith("_std")})
    with pytest.raises(
        InputError, match=r"targets-00000.parquet was written by version 0.1, .*label into a new folder"
    ):
        average_targets([folder / "0", old], tmp_path / "mean")
    swapped = changed(folder / "1", tmp_path / "swapped", lambda row: row | {"record": -row["record"]})
    with pytest.raises(InputError, match=r"targets-00000.parquet has other rows than"):
        average_targets([folder / "0", swapped], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row | {"probs": [float("nan")] * len(row["probs"])}, "record 0, .*: NaN or infinity"),
        (lambda row: row | {"mean": float("inf")}, "record 0, .*: NaN or infinity"),
        (lambda row: row | {"probs": row["probs"][:-1]}, ".*inhomogeneous"),
        (lambda row: {key: value for key, value in row.items() if key != "tokens"}, "'tokens'"),
    ],
    ids=["nan", "infinity", "fewer bins", "no tokens"],
)
def test_numbers_that_have_no_mean_are_refused(teachers, tmp_path, change, reason):
    _, _, folder = teachers
    other = changed(folder / "1", tmp_path / "other", change)
    with pytest.raises(InputError, match=rf"targets-00000.parquet cannot be averaged \({reason}.*delete the folder"):
        average_targets([folder / "0", other], tmp_path / "mean")
    assert not list((tmp_path / "mean").glob("*.parquet"))
