"""The main job from end to end, in miniature: every artefact is written and whole; resuming keeps what is there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zreward.common.errors import InputError
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import load_recipe
from zreward.world import demo, demo_generation
from zreward.world.dataset import WorldSize, make_world

ROWS = {("large", name) for name in ("zero-shot", "zero-shot-reasoning", "sft", "gdso")} | {
    ("small", name) for name in ("zero-shot", "zero-shot-reasoning", "sft", "risd")
}


@pytest.fixture
def miniature(monkeypatch):
    """The demo with a handful of pictures and two steps of each training."""

    def small_world(out, seed):
        return make_world(out, seed, WorldSize(train=(6, 2), dev=(2, 2), pool=(6, 1), test=(4, 3)))

    def short_recipe(path):
        recipe = load_recipe(path, ["optimizer.batch_size=2", "rollout.group_size=2", "eval_every=2"])
        return replace(recipe, optimizer=replace(recipe.optimizer, steps=2, warmup_steps=0))

    monkeypatch.setattr(demo, "make_world", small_world)
    monkeypatch.setattr(demo, "load_recipe", short_recipe)
    monkeypatch.setattr(demo, "EXAMPLES", 2)
    steps = ("optimizer.steps=2", "optimizer.batch_size=2", "guards.every=2", "guards.prompts=2")
    monkeypatch.setattr(demo_generation, "SHORT", (*steps, "final.prompts=2"))


def test_the_main_job_runs_from_data_to_report(miniature, tmp_path, capsys):
    rows = demo.run_demo(tmp_path / "demo", seed=3)
    out = tmp_path / "demo"
    assert json.loads((out / "metrics.json").read_text()) == rows
    keys = {"dimension", "model", "method", "plcc", "srcc", "hpa", "margin_hpa", "tie_rate", "output_tokens", "n_pairs"}
    assert all(keys <= set(row) for row in rows)
    assert {(row["model"], row["method"]) for row in rows} == ROWS
    assert {row["dimension"] for row in rows} == {"alignment", "realism", "aesthetics", "plausibility", "all"}
    tokens = {(row["model"], row["method"]): row["output_tokens"] for row in rows if row["dimension"] == "all"}
    assert tokens["small", "risd"] == 1
    assert tokens["large", "gdso"] > 5
    for name in ("teacher", "student"):
        assert RewardModel.from_pretrained(out / "models" / name).rubric.name == "world"
    assert (out / "examples" / "0.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<img" in page
    assert "gdso" in capsys.readouterr().out
    assert "Good, same, bad" in page
    assert json.loads((out / "runs" / "optimize" / "gsb.json").read_text())["pairs"] == 4

    student = out / "models" / "student" / "model.safetensors"
    before = student.stat().st_mtime_ns
    assert demo.run_demo(out, seed=3, resume=True) == rows
    assert student.stat().st_mtime_ns == before
    student.write_bytes(b"")
    message = (
        f"{student} is empty; the run is finished, but its model is damaged: delete {student.parent} and .*demo.json"
    )
    with pytest.raises(InputError, match=message):
        demo.run_demo(out, seed=3, resume=True)


def test_another_folder_is_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="is not empty; add --resume"):
        demo.run_demo(tmp_path)


def test_resuming_with_another_seed_is_refused(miniature, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "panel.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(InputError, match="seed 1.*seed 2"):
        demo.run_demo(tmp_path, seed=2, resume=True)
