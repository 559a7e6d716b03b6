"""RISD's items that are made when they are asked for: the same numbers as in the files, and none of their texts are read."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import tiny_model, tiny_records
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.common.shards import Shards
from zreward.data import open_records, save_records
from zreward.models.reward_model import RewardModel
from zreward.training import targets
from zreward.training.direct import DirectTrainer
from zreward.training.recipe import DataRecipe
from zreward.training.run import build_trainer, load_model
from zreward.training.targets import LabelOptions, distilled_items, facts_of, parts_of

NAMES, TRACES = ("realism", "alignment"), 3
OPTIONS = LabelOptions(traces=TRACES, dimensions=NAMES, shard_size=50)
DATA = DataRecipe(train="")


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return tiny_model()


def write_targets(model: RewardModel, records, folder: Path) -> list[dict]:
    """Random answers with long traces, as `label` writes them; and all rows."""
    rng, every = np.random.default_rng(0), []
    shards = Shards(folder, facts_of(model, NAMES, records, OPTIONS), {"teacher": "none"}, dict, "", "")
    for name, start, made_from in parts_of(len(records), OPTIONS):
        rows = []
        for number in range(start, min(start + OPTIONS.shard_size, len(records))):
            for dimension in NAMES:
                probs = rng.dirichlet(np.ones(9), TRACES).astype(np.float32).astype(float)
                rows.append({
                    "record": number, "prompt": records[number].prompt, "dimension": dimension,
                    "probs": probs.mean(0).tolist(), "trace_probs": probs.tolist(),
                    "traces": [f"{number} {dimension} {k} " * 40 for k in range(TRACES)],
                })  # fmt: skip
        shards.add(name, pa.Table.from_pylist(rows), made_from)
        every += rows
    shards.finish()
    return every


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    records = open_records(save_records(tiny_records(60, 2, seed=0), folder / "pool.parquet"))
    return records, folder / "targets", write_targets(model, records, folder / "targets")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dimensions": ["alignment"]},
        {"dimensions": ["alignment", "realism"], "train_records": 70},
        {"target_traces": 2},
        {"target_traces": 3, "one_hot_targets": True, "train_records": 51},
        {"one_hot_targets": True},
    ],
)
def test_items_are_the_rows_of_the_files(model, made, options):
    records, folder, rows = made
    items = distilled_items(folder, records, DataRecipe(train="", **options), model)
    wanted, last = options.get("dimensions") or NAMES, options.get("train_records") or len(records)
    expected = [row for row in rows if row["record"] < last and row["dimension"] in wanted]
    assert len(items) == len(expected) > 0
    for item, row in zip(items, expected, strict=True):
        probs = row["probs"]
        if "target_traces" in options:
            probs = [
                sum(column) / len(column)
                for column in zip(*row["trace_probs"][: options["target_traces"]], strict=True)
            ]
        if options.get("one_hot_targets"):
            probs = [float(p == max(probs)) for p in probs]
        assert (item.record, item.dimension) == (records[row["record"]], row["dimension"])
        assert item.target.tolist() == pytest.approx(probs, abs=1e-6) and item.target.dtype == torch.float32
    assert items[-1].record == records[expected[-1]["record"]]
    assert [item.record for item in items[1:3]] == [items[1].record, items[2].record]


def test_the_dimensions_of_a_picture_are_one_group_and_share_its_record(model, made):
    records, folder, rows = made
    items = distilled_items(folder, records, DATA, model)
    groups, single = items.groups(by_image=True), items.groups(by_image=False)
    assert len(groups) == len(records) and len(single) == len(rows)
    for number, group in enumerate(groups):
        assert [item.dimension for item in group] == list(NAMES)
        assert group[0].record is group[1].record and group[0].record == records[number]
    assert [[item.dimension] for (item,) in single] == [[row["dimension"]] for row in rows]


def test_only_the_columns_that_are_needed_are_read(model, made, monkeypatch):
    records, folder, _ = made
    read, columns = pq.read_table, set()
    monkeypatch.setattr(pq, "read_table", lambda file, columns: used.update(columns) or read(file, columns=columns))
    used = columns
    distilled_items(folder, records, DATA, model)
    assert used == {"record", "dimension", "probs"}
    used.clear()
    distilled_items(folder, records, DataRecipe(train="", target_traces=1), model)
    assert used == {"record", "dimension", "trace_probs"}


def test_rows_of_unequal_lengths_are_named(model, made, monkeypatch):
    records, folder, _ = made
    read = targets._labelled
    odd = pa.table({"record": [0, 0], "dimension": list(NAMES), "probs": [[0.5] * 9, [0.5] * 8]})
    monkeypatch.setattr(targets, "_labelled", lambda *arguments: odd if "probs" in arguments[1] else read(*arguments))
    with pytest.raises(InputError, match="probs has rows of different lengths"):
        distilled_items(folder, records, DATA, model)


def test_pictures_that_are_kept_are_those_of_their_records(make_recipe, tiny_data, tmp_path):
    """A record that is made for a moment leaves its identity to the next one."""
    records = open_records(tiny_data["train"])
    model = RewardModel.from_pretrained(tiny_data["base"])
    write_targets(model, records, tmp_path / "targets")
    recipe = make_recipe("risd", data__targets=str(tmp_path / "targets"), data__keep_images=True)
    trainer = build_trainer(recipe, RunDirectory(tmp_path / "run"), load_model(recipe))
    assert isinstance(trainer, DirectTrainer)
    for _ in range(2):
        for number in range(len(trainer.train_dataset)):
            (image,) = trainer.collate([trainer.train_dataset[number]])["images"]
            assert torch.equal(image, model.decode(records[number // len(NAMES)].image))
    assert len(trainer._opened) == len({str(record.image) for record in records})


def test_memory_does_not_grow_with_the_rows(model, tmp_path):
    """Of two sets of targets, one ten times as long. A row with its item takes about 3,000 bytes in memory."""
    peaks = []
    for count in (60, 600):
        records = open_records(save_records(tiny_records(count, 1, seed=0), tmp_path / f"{count}.parquet"))
        write_targets(model, records, tmp_path / str(count))
        gc.collect()
        tracemalloc.start()
        items = distilled_items(tmp_path / str(count), records, DATA, model)
        groups = items.groups(by_image=True)
        assert sum(item.target.sum().item() for group in groups for item in group) == pytest.approx(2 * count, rel=1e-3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 540 * 200
