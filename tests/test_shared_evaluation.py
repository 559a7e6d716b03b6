"""Two processes evaluate together: each asks its batches only, and both get what one process gets, row by row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.plain_model import small_model
from tests.tiny import COMPARISON, noise_pictures, sharpen, tiny_model
from tests.two_ranks import together
from zreward.common.jobs import Job
from zreward.data.record import Record
from zreward.data.writing import save_records
from zreward.evaluation.asking import Batch, own_batches
from zreward.evaluation.prediction import Predictions, predict
from zreward.models.draws import seed_of
from zreward.models.pairwise import comparing

PROMPTS = ["a red circle", "a red circle", "a red circle", "two blue squares", "two blue squares"]
NAMES = ["realism", "alignment"]
CASES = {
    "direct": {},
    "sampled": {"reasoning": True, "traces": 2},
    "compared": {},
    "as if sharded": {"together": True},
}


def records() -> list[Record]:
    pictures = noise_pictures(5, seed=2)
    rated = [{"realism": 1.0 + n % 3, "alignment": 4.0 - n / 2} for n in range(5)]
    return [Record(prompt, picture, scores) for prompt, picture, scores in zip(PROMPTS, pictures, rated, strict=True)]


def predictions(case: str, job: Job | None = None) -> tuple[Predictions, int]:
    """And how many pictures passed the model."""
    model = small_model(0)
    if case == "compared":
        model = comparing(model, COMPARISON)
    passed, collate = 0, model.collate

    def counted(images, *rest, **options):
        nonlocal passed
        passed += len(images)
        return collate(images, *rest, **options)

    model.collate = counted
    how = {"batch_size": 2, "seed": 3, "progress": False, "job": job} | CASES[case]
    return predict(model, records(), NAMES, **how), passed


def sampled_by_batch() -> SimpleNamespace:
    """What several processes sample: the first batch by the seed, the others each by a seed of its own."""
    model, asked, judged = small_model(0), records(), []
    for number, seed in enumerate((3, seed_of(3, 1), seed_of(3, 2))):
        torch.manual_seed(seed)
        batch = asked[2 * number : 2 * number + 2]
        judged += model.judge([one.image for one in batch], [one.prompt for one in batch], 2, NAMES, 1.0, 2)
    return SimpleNamespace(
        probs=torch.cat([one.distribution.probs for one in judged]),
        output_tokens=torch.stack([one.tokens.float().mean(0) for one in judged]) + 1,
        truncated=torch.stack([one.truncated.float().mean(0) for one in judged]),
    )


def test_one_process_draws_all_traces_in_a_row(float64):
    """As every version did: figures that were published stay what they are."""
    alone, _ = predictions("sampled")
    torch.manual_seed(3)
    model, asked, probs = small_model(0), records(), []
    for start in (0, 2, 4):
        batch = asked[start : start + 2]
        judged = model.judge([one.image for one in batch], [one.prompt for one in batch], 2, NAMES, 1.0, 2)
        probs += [one.distribution.probs for one in judged]
    assert torch.equal(alone.probs, torch.cat(probs))
    assert not torch.allclose(alone.probs[2:], sampled_by_batch().probs[2:], atol=1e-3)


def predict_together(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for case in CASES:
        made, passed = predictions(case, Job(rank + 1, 2))
        facts = {name: getattr(made, name) for name in ("probs", "output_tokens", "truncated", "compares")}
        torch.save(facts | {"passed": passed}, folder / f"{case}-{rank}.pt")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    together(predict_together, folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_get_the_rows_of_one_and_each_asks_its_part(shared, float64, case):
    alone, passed = predictions(case)
    if case == "sampled":
        alone = sampled_by_batch()
    assert len({tuple(row) for row in alone.probs[:, 0].tolist()}) == 5, "rows could change places"
    ranks = [torch.load(shared / f"{case}-{rank}.pt") for rank in (0, 1)]
    for rank in ranks:
        for name in ("probs", "output_tokens", "truncated"):
            assert torch.allclose(rank[name], getattr(alone, name), rtol=0, atol=1e-12)
        assert rank["compares"] == (case == "compared")
    assert torch.equal(ranks[0]["probs"], ranks[1]["probs"])
    if case == "as if sharded":
        assert ranks[0]["passed"] == ranks[1]["passed"] < passed, "as many passes of as many pictures"
    else:
        assert sum(rank["passed"] for rank in ranks) == passed > max(rank["passed"] for rank in ranks)


def test_processes_that_need_one_another_ask_equally_much():
    one, two = (own_batches(5, 2, Job(number, 2), together=True) for number in (1, 2))
    assert one == [Batch(0, (0, 1), 2), Batch(2, (4, 4), 1)]
    assert two == [Batch(1, (2, 3), 2), Batch(None, (0, 1), 0)]
    assert own_batches(3, 8, Job(2, 2), together=True) == [Batch(None, (0, 1, 2), 0)]
    assert own_batches(3, 8, Job(2, 2), together=False) == []
    assert own_batches(3, 2, None, together=True) == [Batch(0, (0, 1), 2), Batch(1, (2,), 1)]


def command(folder: Path, name: str, launcher: list[str]) -> subprocess.CompletedProcess:
    out = [f"--{kind}={folder / f'{name}.{kind}'}" for kind in ("json", "csv", "html")]
    words = ["evaluate", str(folder / "base"), "--data", str(folder / "rated.jsonl"), "--batch-size", "2"]
    told = [sys.executable, *launcher, "-m", "zreward.cli", *words, "--reasoning", "--temperature", "0", *out]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(told, capture_output=True, text=True, env=settings, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_the_processes_of_torchrun_print_and_write_once_what_one_process_does(tmp_path):
    sharpen(tiny_model(trace_tokens=4), 4).save_pretrained(tmp_path / "base")
    save_records(records(), tmp_path / "rated.jsonl")
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    together, alone = command(tmp_path, "together", ranks), command(tmp_path, "alone", [])
    assert together.stdout.replace("together", "alone") == alone.stdout
    for one, other in zip(
        *(json.loads((tmp_path / f"{n}.json").read_text()) for n in ("together", "alone")), strict=True
    ):
        assert one.pop("dimension") == other.pop("dimension")
        assert one == pytest.approx(other, rel=1e-6)
    assert (tmp_path / "together.csv").exists() and (tmp_path / "together.html").exists()
