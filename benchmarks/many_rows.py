"""Memory and start-up of `label`, of RISD training and of `score --data` for data sets of many tiny rows.

    python benchmarks/many_rows.py 5000 50000 500000
    python benchmarks/many_rows.py --tar 5000 500000

A row is a prompt and an embedded picture of 8 x 8 pixels (Parquet; with --tar WebDataset shards of 1,000 rows), with a teacher's
answers on four dimensions. Every figure comes from a process of its own: labelling stops after two shards, training after two
steps; with --tar all rows are scored. `again` is a second launch. Start-up is the time from the command's first line, libraries
imported, to the model's first pass, by the clock and in CPU time of this process's threads and of processes that have ended;
loading the model is part of it. `ended_s` is when what was awaited was there: of `label` the second shard in its folder, which
on a first launch is not before all rows were checked.
`decode` is what no first launch can do without: a plain loop that reads the file, and decodes each picture with Pillow and
hashes it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from memory import peak_mib, resident_mib
from PIL import Image

from zreward.common.shards import Shards
from zreward.data import Record, open_records, save_records
from zreward.data.pool_check import PoolCheck
from zreward.inference.bulk import score_data
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
LABELLED_SHARDS, STEPS, SIDE, TRACES, ROWS_OF_A_SHARD = 2, 2, 8, 4, 1000
TRACE = "the cube is red and stands left of the ball; nothing is missing; one edge of the ball is blurred; " * 6
OPTIONS = LabelOptions(traces=TRACES)
Figures = dict[str, float]


class EnoughError(Exception):
    """What is measured has happened."""


def measure(count: int, tar: bool = False) -> Iterator[tuple[str, Figures]]:
    """Each launch with its figures, for a data set of `count` rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        _child("make_tar" if tar else "make", folder, count)
        plain = "score" if tar else "decode"
        yield plain, _child(plain, folder, "first")
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
    """The records, and a tiny model."""
    save_records(map(_record, range(int(count))), folder / "pool.parquet")
    _make_model(folder)


def make_tar(folder: Path, count: str) -> None:
    """The records in shards, a .png and a .txt each, and a tiny model."""
    (folder / "pool").mkdir()
    for start in range(0, int(count), ROWS_OF_A_SHARD):
        with tarfile.open(folder / "pool" / f"{start // ROWS_OF_A_SHARD:06d}.tar", "w") as archive:
            for number in range(start, min(start + ROWS_OF_A_SHARD, int(count))):
                record = _record(number)
                for extension, content in (("png", record.image), ("txt", record.prompt.encode())):
                    assert isinstance(content, bytes)
                    member = tarfile.TarInfo(f"{number:08d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    _make_model(folder)


def _pool(folder: Path) -> Path:
    return next(path for path in (folder / "pool", folder / "pool.parquet") if path.exists())


def _make_model(folder: Path) -> None:
    model = make_scratch("qwen3_vl", TINY, [_prompt(n) for n in range(100)], Rubric.default(), max_trace_tokens=4)
    model.save_pretrained(folder / "model")


def _prompt(number: int) -> str:
    return f"a red cube left of a green ball, number {number % 100} of {number // 100}"


def _record(number: int) -> Record:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return Record(_prompt(number), file.getvalue(), id=str(number))


def make_targets(folder: Path, count: str) -> None:
    """As `label` writes them, without a teacher."""
    model, records = RewardModel.from_pretrained(folder / "model"), open_records(_pool(folder))
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
    made = iter(range(1, LABELLED_SHARDS))

    def stop(write: Callable[..., None]) -> Callable[..., None]:
        def written(*arguments: object) -> None:
            write(*arguments)
            if next(made, None) is None:
                raise EnoughError

        return written

    Shards.add, Shards.take = stop(Shards.add), stop(Shards.take)  # type: ignore[method-assign]
    with PoolCheck(_pool(folder)) as check:
        model = RewardModel.from_pretrained(folder / "model")
        label(model, "tiny", check, folder / f"label-{launch}", OPTIONS)


def run_risd(folder: Path, launch: str) -> None:
    recipe = Recipe(
        method="risd",
        out=str(folder / f"risd-{launch}"),
        data=DataRecipe(train=str(_pool(folder)), targets=str(folder / "targets")),
        model=ModelRecipe(name=str(folder / "model")),
        optimizer=OptimizerRecipe(steps=STEPS, batch_size=4),
    )
    train(recipe)


def run_score(folder: Path, launch: str) -> None:
    model = RewardModel.from_pretrained(folder / "model")
    score_data(model, _pool(folder), folder / f"score-{launch}.parquet", ["realism"])


def run_decode(folder: Path, launch: str) -> None:
    for batch in pq.ParquetFile(_pool(folder)).iter_batches(batch_size=256, columns=["image"]):
        for image in batch.column("image").field("bytes").to_pylist():
            with Image.open(io.BytesIO(image)) as picture:
                hashlib.sha256(image).digest()
                hashlib.sha256(picture.convert("RGB").tobytes()).digest()


def figures_of(run: Callable[[Path, str], None], folder: Path, launch: str) -> Figures:
    first: list[np.ndarray] = []
    _note_calls(RewardModel, "judge", first)
    _note_calls(RewardModel, "score", first)
    _note_calls(DirectTrainer, "compute_loss", first)
    before, begun = resident_mib(), _now()
    with suppress(EnoughError):
        run(folder, launch)
    ended = _now()
    started, ended = (then - begun for then in (first[0] if first else ended, ended))
    return {
        "start_up_s": round(started[0], 1), "start_up_cpu_s": round(started[1], 1),
        "ended_s": round(ended[0], 1), "cpu_s": round(ended[1], 1),
        "before_mib": round(before), "peak_mib": round(peak_mib()), "after_mib": round(resident_mib())
    }  # fmt: skip


def _now() -> np.ndarray:
    """Seconds by the clock, and seconds of CPU time of all threads and of processes that have ended."""
    used = os.times()
    return np.array([time.perf_counter(), sum(used[:4])])


def _note_calls(owner: type, name: str, times: list[np.ndarray]) -> None:
    method = getattr(owner, name)

    def noted(*arguments: object, **options: object) -> object:
        times.append(_now())
        return method(*arguments, **options)

    setattr(owner, name, noted)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    makers = {"make": make, "make_tar": make_tar, "make_targets": make_targets}
    runs = {"decode": run_decode, "label": run_label, "risd": run_risd, "score": run_score}
    if what in makers:
        makers[what](Path(rest[0]), rest[1])
        print("{}")
    elif what in runs:
        print(json.dumps(figures_of(runs[what], Path(rest[0]), rest[1])))
    else:
        in_tars = what == "--tar"
        for rows in map(int, rest if in_tars else [what, *rest]):
            for name, figures in measure(rows, in_tars):
                print(json.dumps({"rows": rows, "launch": name, **figures}), flush=True)
