"""Which words a picture shows, by ridge regression: what it finds where there is something, and where there is nothing."""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.models.parts import write_language
from zreward.data import load_records
from zreward.data.importers.agiqa3k import COLUMNS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import agiqa3k_prompts

    yield agiqa3k_prompts
    for name in ("agiqa3k_prompts", "agiqa3k_pretrained", "agiqa3k"):
        sys.modules.pop(name, None)


@pytest.fixture
def pictures():
    """60 prompts of 5 pictures: the less noise, the better a picture shows its prompt; alignment is minus the noise."""
    rng = np.random.default_rng(0)
    embedding, mapping = rng.normal(size=(60, 12)), rng.normal(size=(12, 40))
    prompt = np.repeat(np.arange(60), 5)
    noise = rng.uniform(0.2, 4, len(prompt))
    shown = embedding[prompt] + noise[:, None] * rng.normal(size=(len(prompt), 12))
    return shown @ mapping, prompt, -noise, embedding


def test_a_picture_that_shows_its_prompt_is_found_and_its_similarity_adds_to_ridge(benchmark, pictures):
    found = benchmark.evaluate(*pictures, penalty=10)
    assert found["rank"] < 0.2 and found["first"] > 0.3
    assert found["similarity"] > 0.4 and found["both"] > found["ridge"] + 0.2


def test_nothing_is_found_where_pictures_are_another_prompts(benchmark, pictures):
    """Catches a split that lets a prompt stand on both sides, or a similarity that sees the held-out prompt."""
    x, prompt, y, embedding = pictures
    found = benchmark.evaluate(x, prompt, y, np.random.default_rng(1).permutation(embedding), penalty=10)
    assert 0.4 < found["rank"] < 0.6 and found["first"] < 0.15


def test_a_prompts_pictures_are_in_one_part(benchmark, pictures):
    prompt = pictures[1]
    fold = benchmark.fold_of(prompt.tolist())
    assert sorted(set(fold)) == [0, 1, 2, 3, 4]
    assert all(len(set(fold[prompt == one])) == 1 for one in set(prompt))


def test_an_embedding_is_the_mean_of_the_last_states(benchmark, tmp_path):
    write_language(tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = tokenizer("a red cube", return_tensors="pt")
    with torch.no_grad():
        states = model(**tokens, output_hidden_states=True).hidden_states[-1][0]
    found = benchmark.embeddings_of(str(tmp_path), ["a ball", "a red cube"])
    np.testing.assert_allclose(
        found[1], [float(column.sum() / len(states)) for column in states.T], rtol=1e-5, atol=1e-6
    )


@pytest.fixture
def root(tmp_path):
    """24 prompts with two pictures each, in AGIQA-3K's layout."""
    (tmp_path / "images").mkdir()
    draw = random.Random(0)
    with (tmp_path / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n in range(48):
            name, scores = f"sd1.5_normal_{n:03d}.jpg", [draw.uniform(0, 4.5), 0.6, draw.uniform(0, 4.5), 0.7]
            Image.new("RGB", (8, 8), (n, 5 * n, 255 - n)).save(tmp_path / "images" / name)
            writer.writerow([name, f"a thing number{n // 2}, anime style", "", "", "anime style", *scores])
    return tmp_path


def run(benchmark, monkeypatch, root: Path) -> None:
    language = write_language(root / "language")
    arguments = ["agiqa3k_prompts", str(root), "--out", str(root / "out"), "--language", str(language)]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()


def test_the_command_takes_training_pictures_only(benchmark, monkeypatch, root, capsys):
    (root / "out").mkdir()
    np.save(root / "out" / "tower.npy", np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32))
    run(benchmark, monkeypatch, root)
    training = load_records(root / "out" / "records.jsonl", split="train")
    prompts = len({record.prompt for record in training})
    said = capsys.readouterr().out
    assert f"{len(training)} training pictures of {prompts} prompts" in said and 0 < len(training) < 48
    assert all(word in said for word in ("rank 0.", "first 0.", "ridge", "similarity", "both"))


def test_statistics_that_are_missing_or_of_other_pictures_are_refused(benchmark, monkeypatch, root, capsys):
    with pytest.raises(SystemExit):
        run(benchmark, monkeypatch, root)
    assert "tower.npy is not there; run benchmarks/agiqa3k_pretrained.py" in capsys.readouterr().err
    (root / "out").mkdir()
    np.save(root / "out" / "tower.npy", np.zeros((47, 6)))
    with pytest.raises(SystemExit):
        run(benchmark, monkeypatch, root)
    assert "holds 47 pictures" in capsys.readouterr().err
