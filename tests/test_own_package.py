"""A package outside zreward adds a model, a judge and a training method by entry points: the twenty lines of README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.tiny import tiny_model, tiny_records
from zreward import RewardModel
from zreward.common import registry
from zreward.common.errors import InputError
from zreward.common.runs import read_metrics
from zreward.data.writing import save_records
from zreward.generation.judges import load_judge
from zreward.training.recipe import load_recipe
from zreward.training.run import train

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """README's package, where Python finds installed ones; its model is an untrained one."""
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## A package of your own") :]
    declared = re.search(r"```toml\n(.*?)```", section, re.S)[1]
    code = re.search(r"```python\n(.*?)```", section, re.S)[1]
    site = tmp_path / "site"
    (site / "acme_rewards-1.0.dist-info").mkdir(parents=True)
    (site / "acme_rewards-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-rewards\nVersion: 1.0\n"
    )
    groups = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", declared[declared.index("[project.entry-points") :])
    (site / "acme_rewards-1.0.dist-info" / "entry_points.txt").write_text(groups.replace('"', ""))
    model = tmp_path / "strict"
    tiny_model().save_pretrained(model)
    (site / "acme_rewards.py").write_text(code.replace("/models", str(tmp_path)))
    monkeypatch.syspath_prepend(site)
    registry._registered.cache_clear()
    yield
    registry._registered.cache_clear()


def test_its_model_is_loaded_by_its_name(installed):
    scores = RewardModel.from_pretrained("acme:strict", device="cpu").score(
        [Image.new("RGB", (32, 32))], "a red circle"
    )
    assert len(scores) == 1


def test_its_judge_judges(installed):
    judge = load_judge("brightness")
    assert judge([Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))], ["x", "y"]).tolist() == [[1.0], [0.0]]


def test_its_method_trains(installed, tmp_path):
    data = save_records(tiny_records(3, 2, seed=0), tmp_path / "data.jsonl")
    raw = {
        "method": "squared",
        "out": str(tmp_path / "run"),
        "data": {"train": str(data)},
        "model": {"name": "acme:strict"},
    }
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(raw | {"optimizer": {"steps": 2, "batch_size": 2, "warmup_steps": 0}})
    )
    train(load_recipe(tmp_path / "recipe.yaml"))
    assert [row["loss"] > 0 for row in read_metrics(tmp_path / "run") if "loss" in row] == [True, True]


def test_without_it_the_names_are_unknown(tmp_path):
    with pytest.raises(InputError, match="no installed package offers models called acme"):
        RewardModel.from_pretrained("acme:strict")
    with pytest.raises(InputError, match="brightness: no such checkpoint folder"):
        load_judge("brightness")
    (tmp_path / "recipe.yaml").write_text("{method: squared, out: o, data: {train: t}, model: {name: m}}")
    with pytest.raises(InputError, match="squared"):
        load_recipe(tmp_path / "recipe.yaml")
