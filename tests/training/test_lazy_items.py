"""Training items that are made when they are asked for: the same as from records in memory, of which none is held."""

from __future__ import annotations

import gc
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.tiny import tiny_model, tiny_records
from zreward.common.errors import InputError
from zreward.common.runs import RunDirectory
from zreward.common.shards import Shards
from zreward.data import Pair, Record, load_records, mine_pairs, open_records, save_records
from zreward.data.pairs import each_pair
from zreward.models.reward_model import RewardModel
from zreward.training import targets
from zreward.training.annotated import annotated_items, compared_items
from zreward.training.direct import DirectTrainer, by_image
from zreward.training.lazy_items import Groups, SpooledPairs
from zreward.training.recipe import DataRecipe
from zreward.training.rollout_data import pair_items, unrated_items
from zreward.training.run import build_trainer, load_model
from zreward.training.targets import LabelOptions, distilled_items, explained_items, facts_of, parts_of

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
    groups, single = by_image(items), Groups(items)
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
        groups = by_image(items)
        assert sum(item.target.sum().item() for group in groups for item in group) == pytest.approx(2 * count, rel=1e-3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 540 * 200


# --- the other methods


def some_rated(count: int, side: int = 8) -> list[Record]:
    """Prompts of four pictures each, embedded; some dimensions are not rated, some scores are equal."""
    rng, made = np.random.default_rng(1), []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
        scores = {name: [float(s) for s in rng.integers(1, 6, 2)] for name in NAMES if rng.random() < 0.8}
        made.append(Record(f"prompt {number // 4}", file.getvalue(), scores))
    return made


def plain_items(records, pairs, scale, smoothing: float) -> dict[str, list[tuple]]:
    """(records, dimension, numbers) of every item, by loops over records in memory."""
    annotated = [
        ((r,), name, r.target(name, scale, smoothing).tolist()) for r in records for name in NAMES if r.ratings(name)
    ]
    compared, rollouts = [], []
    for pair in pairs:
        winner, loser, yes = records[pair.winner], records[pair.loser], 1.0 if pair.gap > 0 else 0.5
        compared += [
            ((winner, loser), pair.dimension, [1 - yes, yes]),
            ((loser, winner), pair.dimension, [yes, 1 - yes]),
        ]
        numbers = [
            (side.score(pair.dimension), side.target(pair.dimension, scale, smoothing).tolist())
            for side in (winner, loser)
        ]
        rollouts.append(((winner, loser), pair.dimension, numbers))
    return {
        "sft": annotated,
        "pairwise": compared,
        "gdso": rollouts,
        "opd": [((r,), n, []) for r in records for n in NAMES],
    }


def seen(item) -> tuple:
    if hasattr(item, "records"):
        targets = [] if item.targets is None else item.targets.tolist()
        return item.records, item.dimension, list(zip(item.scores, targets, strict=True))
    sides = (item.record,) if item.reference is None else (item.record, item.reference)
    return sides, item.dimension, item.target.tolist()


def every_kind(records, model, smoothing: float) -> dict:
    pairs = SpooledPairs(each_pair(records, NAMES, include_ties=True), NAMES)
    return {
        "sft": annotated_items(records, NAMES, model, smoothing),
        "pairwise": compared_items(records, pairs),
        "gdso": pair_items(records, pairs, model, smoothing),
        "opd": unrated_items(records, NAMES),
    }


def test_items_of_every_method_are_those_of_records_in_memory(model, tmp_path):
    file = save_records(some_rated(60), tmp_path / "rated.parquet")
    records, held = open_records(file), load_records(file)
    pairs = mine_pairs(held, NAMES, include_ties=True)
    assert {pair.gap == 0 for pair in pairs} == {True, False}
    expected = plain_items(held, pairs, model.rubric.scale, 0.4)
    for kind, items in every_kind(records, model, 0.4).items():
        assert [seen(item) for item in items] == expected[kind], kind
        assert [seen(item) for item in items[5:-3:7]] == expected[kind][5:-3:7] and seen(items[-1]) == expected[kind][
            -1
        ]
        with pytest.raises(IndexError):
            items[len(expected[kind])]
    assert [item.number for item in every_kind(records, model, 0.4)["gdso"]] == list(range(len(pairs)))


def test_pictures_of_pairs_are_grouped_as_those_of_records_in_memory(model, tmp_path):
    """Of a prompt's pairs, those of the same two pictures do not follow one another."""
    file = save_records(some_rated(24), tmp_path / "rated.parquet")
    items = every_kind(open_records(file), model, 0.0)
    for kind in ("sft", "pairwise"):
        lazy, held = by_image(items[kind]), by_image(list(items[kind]))
        assert len(lazy) == len(held) < len(items[kind])
        assert [[seen(item) for item in group] for group in lazy] == [[seen(item) for item in group] for group in held]


def test_chains_are_those_of_their_records(model, tmp_path):
    """Asked for in another order of dimensions than they were labelled in, of unequal lengths."""
    records = open_records(save_records(some_rated(60), tmp_path / "rated.parquet"))
    rows = write_targets(model, records, tmp_path / "targets")
    items = explained_items(tmp_path / "targets", records, DATA, NAMES[::-1], model)
    expected = [(r, name) for r in records for name in NAMES[::-1] if r.ratings(name)]
    assert [(item.record, item.dimension) for item in items] == expected
    answers = {(records[row["record"]].image, row["dimension"]): row for row in rows}
    lengths = set()
    for item in items:
        row = answers[item.record.image, item.dimension]
        weights = [sum(p * t for p, t in zip(probs, item.target.tolist(), strict=True)) for probs in row["trace_probs"]]
        chain = model.as_trace(row["traces"][int(np.argmax(weights))])
        lengths.add(len(chain))
        assert item.explanation == (int(item.target.argmax()), chain)
    assert len(lengths) > 1


def test_no_record_is_held_by_the_items_of_any_method(model, tmp_path):
    """Of two data sets, one four times as large: a picture alone takes 3,000 bytes."""
    growth = {}
    for count in (100, 100, 400):  # the first warms caches up
        records = open_records(save_records(some_rated(count, side=32), tmp_path / f"{count}.parquet"))
        gc.collect()
        tracemalloc.start()
        items = every_kind(records, model, 0.0)
        groups = [by_image(items["sft"]), by_image(items["pairwise"])]
        assert sum(len(group) for some in groups for group in some) == len(items["sft"]) + len(items["pairwise"])
        assert sum(len(item.records) for kind in ("gdso", "opd") for item in items[kind])
        assert not records._table._alive
        growth[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert growth[400] - growth[100] < 300 * 1000


def test_items_of_the_same_pictures_have_the_same_number():
    records = tiny_records(2, 2, seed=3)
    annotated = annotated_items(records, NAMES, tiny_model(), 0.0)
    expected = [row for row, record in enumerate(records) for name in NAMES if record.ratings(name)]
    assert annotated.pictures().tolist() == expected
    pairs = [Pair(2, 0, NAMES[0], 1.0), Pair(1, 3, NAMES[0], 0.0), Pair(2, 0, NAMES[1], 0.5)]
    compared = compared_items(records, pairs).pictures().tolist()
    assert compared == [
        number for pair in pairs for number in (4 * pair.winner + pair.loser, 4 * pair.loser + pair.winner)
    ]
    assert len(compared_items(records, []).pictures()) == 0
