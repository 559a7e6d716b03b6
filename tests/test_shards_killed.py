"""WebDataset shards: label, score --data and RISD training killed twice (-9) and resumed; every row once, one run's bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.killing import Killer, leftovers
from tests.test_killed import digests
from tests.tiny import noise_pictures, tiny_model
from zreward.common.runs import read_metrics

DISTINCT = 40  # pictures


def write_world(folder: Path, rows: int, shard: int) -> Path:
    """An untrained model, and a pool of `rows` rows in tars of `shard`."""
    tiny_model(trace_tokens=4).save_pretrained(folder / "base")
    (folder / "pool").mkdir()
    pictures = []
    for picture in noise_pictures(DISTINCT):
        file = io.BytesIO()
        picture.save(file, "PNG")
        pictures.append(file.getvalue())
    for start in range(0, rows, shard):
        with tarfile.open(folder / "pool" / f"{start // shard:03d}.tar", "w") as archive:
            for number in range(start, min(start + shard, rows)):
                texts = {"png": pictures[number % DISTINCT], "txt": f"a red circle {number % 7}".encode()}
                for extension, content in texts.items():
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return folder


def score(world: Path, out: Path) -> list[str]:
    pool = f"{world}/pool/*.tar"
    return ["score", str(world / "base"), "--data", pool, "--out", str(out / "scores.parquet"), "--batch-size", "4"]


def label(world: Path, out: Path) -> list[str]:
    told = ["label", str(world / "base"), "--data", str(world / "pool"), "--out", str(out / "targets"), "--direct"]
    return [*told, "--shard-size", "4", "--batch-size", "4", "--dimensions", "realism"]


def risd(world: Path, out: Path, rows: int) -> list[str]:
    """One epoch."""
    steps = rows // 3
    raw = {
        "method": "risd",
        "out": str(out / "run"),
        "data": {"train": str(world / "pool"), "targets": str(world / "targets")},
        "model": {"name": str(world / "base")},
        "optimizer": {"steps": steps, "batch_size": 3, "learning_rate": 1e-3, "warmup_steps": 1},
        "save_every": max(steps // 8, 1),
    }
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    return ["train", str(recipe), *(["--resume"] if (out / "run" / "recipe.yaml").exists() else [])]


def learned(out: Path) -> Any:
    losses = [(row["step"], row["loss"]) for row in read_metrics(out / "run") if "loss" in row]
    return losses, digests(out / "run" / "model")


def killed_twice(killer: Killer, told: Callable[[Path], list[str]], folder: Path, shard: int) -> tuple[Path, Path]:
    """The folder of a whole run, and that of one that was killed at a third and at two thirds of its way."""
    whole, torn = folder / "whole", folder / "torn"
    for out in (whole, torn):
        out.mkdir(parents=True)
    count = len(killer.run(told(whole), whole, shard=shard))
    killer.run(told(torn), torn, count // 3, shard=shard)
    killer.run(told(torn), torn, count // 3, shard=shard)  # begins at the last whole shard or checkpoint
    killer.run(told(torn), torn, shard=shard)
    assert not leftovers(torn)
    return whole, torn


def check(killer: Killer, folder: Path, rows: int, shard: int) -> None:
    world = write_world(folder / "world", rows, shard)
    whole, torn = killed_twice(killer, lambda out: score(world, out), folder / "score", shard)
    assert digests(torn) == digests(whole)
    table = pq.read_table(torn / "scores.parquet")
    assert table["row"].to_pylist() == list(range(rows)) and table["error"].null_count == rows
    assert table["id"].to_pylist() == [f"{number // shard:03d}/{number:06d}" for number in range(rows)]
    assert table["image"][rows - 1].as_py() == f"{world}/pool/{(rows - 1) // shard:03d}.tar/{rows - 1:06d}.png"

    whole, torn = killed_twice(killer, lambda out: label(world, out), folder / "label", shard)
    assert digests(torn) == digests(whole)
    labelled = [one for file in sorted(torn.rglob("*.parquet")) for one in pq.read_table(file)["record"].to_pylist()]
    assert labelled == list(range(rows))

    (torn / "targets").rename(world / "targets")
    whole, torn = killed_twice(killer, lambda out: risd(world, out, rows), folder / "risd", shard)
    losses, weights = learned(torn)
    assert (losses, weights) == learned(whole)
    assert [step for step, _ in losses] == list(range(1, rows // 3 + 1))


def test_killed_twice_and_resumed(killer, tmp_path):
    check(killer, tmp_path, rows=12, shard=5)


@pytest.mark.slow
def test_two_thousand_rows_killed_twice_and_resumed(killer, tmp_path):
    check(killer, tmp_path, rows=2_001, shard=100)
