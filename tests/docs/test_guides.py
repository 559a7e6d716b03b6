"""Every command and code block of README.md and docs/guides runs, in order, by the rules of tests/docs/reader.py."""

from __future__ import annotations

import functools
import re

import pytest

from tests.docs import reader
from tests.docs.blocks import GUIDES, ROOT, Block, blocks_of
from tests.docs.reader import Reader
from tests.docs.stand_ins import TINY, furnish, make_demo

GUIDE = ROOT / "docs" / "guides"
BARE = ("first-hour.md", "your-data.md")
"""Guides that make all that they name."""


def by_name(path) -> str:
    return path.name


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def place(request, tmp_path, monkeypatch):
    """A furnished folder to stand in (an empty one for the guide that brings its own); worlds made there are tiny."""
    from zreward.world import dataset, tasks

    make_world, make_task = dataset.make_world, tasks.make_task
    monkeypatch.setattr(dataset, "make_world", lambda out, seed: make_world(out, seed, TINY))
    monkeypatch.setattr(tasks, "make_task", lambda name, out, seed: make_task(name, out, seed, TINY))
    callspec = getattr(request.node, "callspec", None)
    if callspec is None or getattr(callspec.params.get("path"), "name", "") not in BARE:
        furnish(tmp_path, request.getfixturevalue("demo"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(guide: str, monkeypatch) -> dict:
    """Names that a guide's Python takes for granted."""
    import torch

    if guide == "scoring.md":
        return {"pixels": torch.rand(2, 3, 32, 32), "prompts": ["a red circle", "a blue square"]}
    if guide == "plugins.md":
        return plugin_values(monkeypatch)
    return {}


@pytest.mark.parametrize("path", GUIDES, ids=by_name)
def test_every_block_of_the_guide_runs(path, place, monkeypatch):
    blocks = blocks_of(path)
    somebody = Reader(values(path.name, monkeypatch))
    try:
        for block in blocks:
            somebody.follow(block)
    finally:
        somebody.close()
        print("\n".join(somebody.done))
    told = {line.split(": ")[0] for line in somebody.done}
    assert told == {block.place for block in blocks}


def test_the_pickle_example_is_answered_where_pickles_are_allowed(place, capsys):
    """The serving guide's server runs without --allow-pickle, so its example was answered with 404 above."""
    from tests.serving.running import running
    from zreward.world.base_models import load_base

    example = [block for block in blocks_of(GUIDE / "serving.md") if "pickle.loads" in block.text]
    assert len(example) == 1
    with running(load_base("small").eval(), allow_pickle=True) as url:
        somebody = Reader()
        somebody.servers.urls["http://127.0.0.1:8000"] = url
        somebody.follow(example[0])
    assert re.fullmatch(r"\[\d\.\d+\]", capsys.readouterr().out.splitlines()[-1])


def plugin_values(monkeypatch) -> dict:
    """A tiny language model on disk, rows and batches of pictures, a tiny pipeline."""
    import datasets
    import torch
    from PIL import Image
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl.trainer import grpo_trainer

    from tests.generation.conftest import stable_diffusion
    from tests.tiny import tiny_tokenizer

    # TRL's own defaults ask for a GPU.
    plain = functools.partial(grpo_trainer.GRPOConfig, use_cpu=True, bf16=False, report_to=[])
    monkeypatch.setattr(grpo_trainer, "GRPOConfig", plain)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    Qwen2ForCausalLM(Qwen2Config(**sizes, **heads)).save_pretrained("writer")
    tokenizer.save_pretrained("writer")
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    rows = datasets.Dataset.from_dict({"prompt": [" judge the"] * 4, "image": [pictures[0]] * 4})
    return {
        "writer": "writer",
        "rows": rows,
        "batches": [(pictures, ["a red circle", "a blue cross"])],
        "pipeline": stable_diffusion(),
    }


# The rules themselves: each refuses what it should.


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "zreward score MODEL --promt x a.png"),
        ("sh", 'pip install "zreward[nothing]"'),
        ("sh", "make nothing"),
        ("sh", "rm -rf /"),
        ("sh", "accelerate launch -m zreward.cli train none.yaml"),
        ("sh", "torchrun --nproc_per_node 2 -m zreward.cli score MODEL --data none.jsonl --out scores.parquet"),
        ("sh", "torchrun -m zreward.cli score MODEL --data records.jsonl --out scores.parquet"),
        ("sh", "zreward reproduce --only nothing"),
        ("sh", "python benchmarks/refl_step.py --nothing"),
        ("python", "raise SystemError"),
        ("yaml", "dimensions: [{name: x}]"),
        ("yaml", "method: sft"),
        ("json", '{"prompt": "x"}'),
        ("csv", "picture,dimension\n0001.png,alignment"),
        ("", "zreward/\n  nothing.py   what is not there"),
        ("ruby", "puts 1"),
    ],
)
def test_a_block_that_is_wrong_fails(language, text, place):
    with pytest.raises(Exception, match=r".") as found:
        Reader().follow(Block("guide.md", 1, language, text))
    assert found.type is not KeyError


@pytest.mark.parametrize(
    "line",
    [
        "zreward score MODEL a.png --prompt x --out scores.csv",
        "zreward evaluate MODEL --data ratings.jsonl --html page.html",
        "zreward train recipes/world-sft.yaml out=runs/mine",
        "zreward merge scores.parquet",
        "zreward studio export campaign labels.jsonl",
    ],
)
def test_a_command_that_writes_nothing_fails(line, place, monkeypatch):
    monkeypatch.setattr(reader, "run_zreward", lambda words, may_fail: "")
    monkeypatch.setattr(reader, "rate", lambda folder: "rated")
    with pytest.raises(AssertionError, match="did not write"):
        Reader().follow(Block("guide.md", 1, "sh", line))
