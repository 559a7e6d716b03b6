"""Rows a second of `label` and of `score --data` in two ranks, over those of one. Each rank has one thread.

    python benchmarks/rank_throughput.py

Ranks are processes that do a launch's jobs, timed from the moment at which all of them have loaded the model until the last is
done; the merge is left out. One and two ranks take turns, and the median of each is taken. Other programs on the machine take
time from two ranks first: run it where at least two cores are idle. `cpu_ratio` bears them: it is the CPU time of one rank over
that of the busier of two, and so what `ratio` is where cores and memory are not shared.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zreward.common.jobs import Job
from zreward.data import Record, load_records, save_records
from zreward.inference.bulk_jobs import score_job
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import ScratchSpec, make_scratch
from zreward.rubric import Rubric
from zreward.training.target_jobs import label_job
from zreward.training.targets import LabelOptions

ROWS = {"label": 64, "score": 2048}
OPTIONS = LabelOptions(traces=2, shard_size=8, batch_size=8)
TURNS, SIDE = 3, 64


def measure_rank_throughput() -> dict[str, dict[str, float]]:
    """For label and score: {one, two: rows a second; ratio; cpu_ratio}."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for what, rows in ROWS.items():
            turns = np.array([[seconds(what, folder, ranks, turn) for ranks in (1, 2)] for turn in range(TURNS)])
            (one, one_cpu), (two, two_cpu) = np.median(turns, 0)
            figures = {"one": rows / one, "two": rows / two, "ratio": one / two, "cpu_ratio": one_cpu / two_cpu}
            found[what] = {name: round(float(value), 2) for name, value in figures.items()}
    return found


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    records = []
    for number in range(max(ROWS.values())):
        picture = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        records.append(Record(f"a red cube left of a green ball, number {number}", picture))
    for what, count in ROWS.items():
        save_records(records[:count], folder / f"{what}.parquet")
    prompts = [record.prompt for record in records[:100]]
    model = make_scratch("qwen3_vl", ScratchSpec(), prompts, Rubric.default(), max_trace_tokens=16)
    model.save_pretrained(folder / "model")


def seconds(what: str, folder: str, ranks: int, turn: int) -> tuple[float, float]:
    """That the ranks take together by the clock; of CPU time, that the busiest of them takes."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(ranks), context.Queue()
    jobs = [(what, folder, f"{what}-{ranks}-{turn}", Job(n + 1, ranks), barrier, times) for n in range(ranks)]
    started = [context.Process(target=work, args=arguments) for arguments in jobs]
    for one in started:
        one.start()
    for one in started:
        one.join()
        if one.exitcode:
            raise SystemExit(f"a rank of {what} failed")
    begun, ended, used = zip(*(times.get() for _ in started), strict=True)
    return max(ended) - min(begun), max(used)


def work(what: str, folder: str, out: str, job: Job, barrier: Barrier, times: Any) -> None:
    torch.set_num_threads(1)
    model, place, data = RewardModel.from_pretrained(f"{folder}/model"), Path(folder, out), f"{folder}/{what}.parquet"
    records = load_records(data)
    model.score([records[0].image], [records[0].prompt])
    barrier.wait()
    begun, used = time.perf_counter(), time.process_time()
    if what == "label":
        label_job(model, "small", records, place, OPTIONS, job)
    else:
        score_job(model, data, place.with_suffix(".parquet"), job)
    times.put((begun, time.perf_counter(), time.process_time() - used))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    print(json.dumps(measure_rank_throughput()))
