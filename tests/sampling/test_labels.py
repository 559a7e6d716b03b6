"""`zreward label --engine vllm` writes what `zreward label` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from tests.sampling.models import FAMILIES, vllm_model
from tests.tiny import tiny_records
from zreward.cli.main import app
from zreward.data import load_records
from zreward.data.writing import save_records

SMALL = [part for key in ("max_length=512", "max_sequences=32", "cache_gib=0.25") for part in ("--vllm", key)]


@pytest.fixture(scope="module", params=FAMILIES)
def place(request, tmp_path_factory) -> Path:
    """A teacher and records."""
    folder = tmp_path_factory.mktemp("label")
    save_records(tiny_records(4, 2, seed=0), folder / "pool.jsonl")
    vllm_model(request.param).save_pretrained(folder / "teacher")
    return folder


def label(place: Path, out: str, *options: str) -> list[dict[str, Any]]:
    command = ["label", str(place / "teacher"), "--data", str(place / "pool.jsonl"), "--out", str(place / out)]
    result = CliRunner().invoke(app, [*command, "--shard-size", "3", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [row for file in sorted((place / out).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def compare(mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(mine) == len(other) == 8 * 4
    for one, two in zip(mine, other, strict=True):
        for key in ("record", "prompt", "dimension", "traces", "tokens", "truncated"):
            assert one[key] == two[key], key
        assert one["probs"] == pytest.approx(two["probs"], abs=1e-5)
        assert one["mean"] == pytest.approx(two["mean"], abs=1e-4)
        for a, b in zip(one["trace_probs"], two["trace_probs"], strict=True):
            assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("how", [("--direct",), ("--temperature", "0")], ids=["direct", "greedy"])
def test_targets_are_those_of_generate(place, how):
    compare(label(place, f"vllm{how[0]}", "--engine", "vllm", *SMALL, *how), label(place, f"own{how[0]}", *how))


def test_sampled_targets_depend_on_the_seed_and_not_on_the_batch(place):
    rows = label(place, "sampled", "--engine", "vllm", *SMALL, "--traces", "2", "--seed", "3")
    assert len(rows) == 8 * 4 and len({trace for row in rows for trace in row["traces"]}) > 40
    records = load_records(place / "pool.jsonl")
    for row in rows:
        record = records[row["record"]]
        for text, probs in zip(row["traces"], row["trace_probs"], strict=True):
            assert text and len(probs) == 9
        assert row["probs"] == pytest.approx(torch.tensor(row["trace_probs"]).mean(0).tolist(), abs=1e-6)
        assert row["prompt"] == record.prompt
    again = label(place, "again", "--engine", "vllm", *SMALL, "--traces", "2", "--seed", "3", "--batch-size", "2")
    assert [row["traces"] for row in again] == [row["traces"] for row in rows]
    other = label(place, "other", "--engine", "vllm", *SMALL, "--traces", "2", "--seed", "4")
    assert [row["traces"] for row in other] != [row["traces"] for row in rows]


def test_a_folder_begun_with_one_engine_is_not_gone_on_with_by_another(place):
    label(place, "begun", "--direct")
    command = ["label", str(place / "teacher"), "--data", str(place / "pool.jsonl"), "--out", str(place / "begun")]
    result = CliRunner().invoke(app, [*command, "--shard-size", "3", "--direct", "--engine", "vllm"])
    assert result.exit_code != 0 and "teacher_model" in str(result.exception) + result.output


def test_a_dry_run_starts_no_engine(place):
    command = ["label", str(place / "teacher"), "--data", str(place / "pool.jsonl"), "--out", str(place / "dry")]
    result = CliRunner().invoke(app, [*command, "--engine", "vllm", "--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0 and "8 images on 4 dimensions" in result.output, result.output
