"""Memory and start-up of `label` and of RISD training for data sets of many tiny rows.

    python benchmarks/many_rows.py 5000 50000 500000

A row is a prompt and an embedded picture of 8 x 8 pixels (Parquet), with a teacher's answers on four dimensions. Every figure
comes from a process of its own: labelling stops after two shards, training after two steps. `again` is a second launch. Start-up
is the time from the command's first line, libraries imported, to the model's first pass, by the clock and in CPU time of all
threads; loading the model is part of it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from memory import peak_mib, resident_mib
from PIL import Image

from zreward.common.shards import Shards
from zreward.data import Record, open_records, save_records
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.training.direct import DirectTrainer
from zreward.training.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, facts_of, label, parts_of

TINY = ScratchSpec(
    hidden_size=32, intermediate_size=32, heads=1, layers=1, linear_layers=0, vision_hidden_size=32, vision_layers=1,
    vision_heads=1,
)  # fmt: skip
LABELLED_SHARDS, STEPS, SIDE, TRACES = 2, 2, 8, 4
TRACE = "the cube is red and stands left of the ball; nothing is missing; one edge of the ball is blurred; " * 6
OPTIONS = LabelOptions(traces=TRACES)
Figures = dict[str, float]


class EnoughError(Exception):
    """What is measured has happened."""


def measure(count: int) -> Iterator[tuple[str, Figures]]:
    """Each launch with its figures, for a data set of `count` rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        _child("make", folder, count)
        for launch in ("first", "again"):
            yield f"label, {launch}", _child("label", folder, launch)
        _child("make_targets", folder, count)
        for launch in ("first", "again"):
            yield f"risd, {launch}", _child("risd", folder, launch)


def _child(what: str, folder: str, argument: object) -> Figures:
    command = [sys.executable, __file__, what, folder, str(argument)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def make(folder: Path, count: str) -> None:
    """A tiny model, and the records."""
    save_records(_Rows(int(count)), folder / "pool.parquet")  # type: ignore[arg-type]
    model = make_scratch("qwen3_vl", TINY, [_prompt(n) for n in range(100)], Rubric.default(), max_trace_tokens=4)
    model.save_pretrained(folder / "model")


class _Rows:
    """Records that are made as they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> list[Record]:
        return [_record(n) for n in range(*part.indices(self.count))]


def _prompt(number: int) -> str:
    return f"a red cube left of a green ball, number {number % 100} of {number // 100}"


def _record(number: int) -> Record:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return Record(_prompt(number), file.getvalue(), id=str(number))


def make_targets(folder: Path, count: str) -> None:
    """As `label` writes them, without a teacher."""
    model, records = RewardModel.from_pretrained(folder / "model"), open_records(folder / "pool.parquet")
    names, rng = model.rubric.dimension_names, np.random.default_rng(0)
    shards = Shards(folder / "targets", facts_of(model, names, records, OPTIONS), {"teacher": "tiny"}, dict, "", "")
    for name, start, made_from in parts_of(len(records), OPTIONS):
        stop = min(start + OPTIONS.shard_size, len(records))
        shards.add(name, pa.Table.from_pylist(list(_answers(range(start, stop), names, rng))), made_from)
    shards.finish()


def _answers(numbers: range, names: tuple[str, ...], rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for number in numbers:
        for name in names:
            probs = rng.dirichlet(np.ones(9), TRACES)
            yield {
                "record": number,
                "prompt": _prompt(number),
                "dimension": name,
                "probs": probs.mean(0).tolist(),
                "mean": 3.0,
                "trace_probs": probs.tolist(),
                "traces": [TRACE] * TRACES,
                "tokens": 100.0,
                "truncated": 0.0,
            }


def run_label(folder: Path, launch: str) -> None:
    made, add = iter(range(1, LABELLED_SHARDS)), Shards.add

    def add_few(self: Shards, *arguments: object) -> None:
        add(self, *arguments)  # type: ignore[arg-type]
        if next(made, None) is None:
            raise EnoughError

    Shards.add = add_few  # type: ignore[method-assign,assignment]
    model = RewardModel.from_pretrained(folder / "model")
    label(model, "tiny", open_records(folder / "pool.parquet"), folder / f"label-{launch}", OPTIONS)


def run_risd(folder: Path, launch: str) -> None:
    recipe = Recipe(
        method="risd",
        out=str(folder / f"risd-{launch}"),
        data=DataRecipe(train=str(folder / "pool.parquet"), targets=str(folder / "targets")),
        model=ModelRecipe(name=str(folder / "model")),
        optimizer=OptimizerRecipe(steps=STEPS, batch_size=4),
    )
    train(recipe)


def figures_of(run: Callable[[Path, str], None], folder: Path, launch: str) -> Figures:
    first: list[np.ndarray] = []
    _note_calls(RewardModel, "judge", first)
    _note_calls(DirectTrainer, "compute_loss", first)
    before, begun = resident_mib(), _now()
    with suppress(EnoughError):
        run(folder, launch)
    started, ended = (then - begun for then in (first[0], _now()))
    return {"start_up_s": round(started[0], 1), "start_up_cpu_s": round(started[1], 1), "cpu_s": round(ended[1], 1)} | {
        "before_mib": round(before), "peak_mib": round(peak_mib()), "after_mib": round(resident_mib())
    }  # fmt: skip


def _now() -> np.ndarray:
    """Seconds by the clock, and seconds of CPU time of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def _note_calls(owner: type, name: str, times: list[np.ndarray]) -> None:
    method = getattr(owner, name)

    def noted(*arguments: object, **options: object) -> object:
        times.append(_now())
        return method(*arguments, **options)

    setattr(owner, name, noted)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what in ("make", "make_targets"):
        {"make": make, "make_targets": make_targets}[what](Path(rest[0]), rest[1])
        print("{}")
    elif what in ("label", "risd"):
        print(json.dumps(figures_of({"label": run_label, "risd": run_risd}[what], Path(rest[0]), rest[1])))
    else:
        for rows in map(int, [what, *rest]):
            for name, figures in measure(rows):
                print(json.dumps({"rows": rows, "launch": name, **figures}), flush=True)
