"""Two processes evaluate a generator: each draws its prompts only, and both get one process's numbers; one writes the grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from tests.generation.gradients import make_recipe, prepared, write_inputs
from tests.plain_model import small_model
from tests.two_ranks import together
from zreward.generation import evaluator
from zreward.generation.judges import Judge

HELD_OUT = ["a green circle", "a red cross", "two small squares", "a large blue triangle", "a red circle below"]


def evaluate(folder: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    """What is measured, the prompts of every draw, and how many pictures the held-out judge saw.

    Five prompts of two pictures, in batches of two: the first of two processes has three prompts, the other one two.
    """
    drawn, judged, draw_all, judge = [], [], evaluator.draw_all, Judge.__call__

    def noted(pipeline, prompts, *rest, **options):
        drawn.append(list(prompts))
        return draw_all(pipeline, prompts, *rest, **options)

    monkeypatch.setattr(evaluator, "draw_all", noted)
    monkeypatch.setattr(Judge, "__call__", lambda *asked: judged.append(len(asked[1])) or judge(*asked))
    guards = {"prompts": 5, "holdout": str(folder / "judge")}
    reward = {"dimensions": ["alignment", "realism"], "aggregate": {"kind": "beats"}}
    optimization, _ = prepared(make_recipe(folder, out=str(folder / run), guards=guards, reward=reward), monkeypatch)
    generator = torch.Generator().manual_seed(0)
    for weight in optimization.adaptation.average.values():
        weight += 0.02 * torch.randn(weight.shape, generator=generator)
    measured = optimization.evaluator.evaluate(1, folder / run)
    return {"measured": measured.to_dict(), "drawn": drawn, "judged": judged}


def evaluate_together(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"rank-{rank}.json").write_text(json.dumps(evaluate(folder, f"run-{rank}", monkeypatch)))


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path, float64, monkeypatch):
    write_inputs(tmp_path, small_model(0, patch_size=4))
    (tmp_path / "held_out.txt").write_text("\n".join(HELD_OUT) + "\n")
    together(evaluate_together, tmp_path)
    alone = evaluate(tmp_path, "alone", monkeypatch)
    expected = alone["measured"]
    assert expected["drift"] > 0 and expected["diversity"] > 0 and expected["reward"] != pytest.approx(0.5, abs=1e-3)
    assert expected["holdout"]["alignment"] != expected["holdout"]["realism"]
    watched = alone["drawn"][0]
    assert sorted(watched) == sorted(HELD_OUT)
    parts = (watched[::2], watched[1::2])
    for rank, part in enumerate(parts):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert found["drawn"] == [part, part] and found["judged"] == [2 * len(part)]  # with the average, and frozen
        for name, value in expected.items():
            assert found["measured"][name] == pytest.approx(value, rel=1e-6), name
    one, other = (Image.open(tmp_path / run / "step-00001.png") for run in ("alone", "run-0"))
    assert one.getextrema() != ((255, 255),) * 3 and not ImageChops.difference(one, other).getbbox()
    assert not (tmp_path / "run-1" / "step-00001.png").exists()
