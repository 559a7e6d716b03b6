"""Two processes evaluate a generator: each draws its prompts only, and both get one process's numbers; one writes the grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from tests.generation.gradients import make_recipe, prepared, small_generator, write_inputs
from tests.plain_model import small_model
from tests.two_ranks import together
from zreward.common.jobs import Job
from zreward.generation import comparison, evaluator, final
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


def other_generator():
    pipeline, generator = small_generator(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return pipeline


def compare(folder: Path, run: str, monkeypatch: pytest.MonkeyPatch, job: Job | None) -> dict:
    """The final comparison of two random generators: what was found, and the prompts of every draw."""
    drawn, draw_all = [], final.draw_all

    def noted(pipeline, prompts, *rest, **options):
        drawn.append(list(prompts))
        return draw_all(pipeline, prompts, *rest, **options)

    monkeypatch.setattr(final, "draw_all", noted)
    monkeypatch.setattr(final, "load_pipeline", lambda *_: small_generator())
    monkeypatch.setattr(final, "load_optimized", lambda *_: other_generator())
    monkeypatch.setattr(comparison, "BATCH", 2)
    told = {"judge": "holdout", "prompts": 5, "seeds": 2, "same": 0.0}
    recipe = make_recipe(folder, out=str(folder / run), final=told, guards={"holdout": str(folder / "judge")})
    found, pairs = final.measure_final(recipe, HELD_OUT, "cpu", job)
    return {"verdict": found.verdict(), "before": found.before.tolist(), "prompts": pairs.prompts, "drawn": drawn}


def compare_together(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compare(folder, "both", monkeypatch, Job(rank + 1, 2))
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


def test_two_processes_compare_as_one_does(tmp_path, float64, monkeypatch):
    """Each draws, and lets the student and the judge score, its part; the files are those of one process."""
    write_inputs(tmp_path, small_model(0, patch_size=4))
    together(compare_together, tmp_path)
    alone = json.loads(json.dumps(compare(tmp_path, "alone", monkeypatch, None)))
    parts = (HELD_OUT[::2], HELD_OUT[1::2])
    assert alone.pop("drawn") == [HELD_OUT] * 2
    for rank, part in enumerate(parts):
        found = json.loads((tmp_path / f"found-{rank}.json").read_text())
        assert found.pop("drawn") == [part] * 2 and found == alone
    both, one = (json.loads((tmp_path / run / "gsb.json").read_text()) for run in ("both", "alone"))
    assert one["reward_before"] != pytest.approx(one["reward_after"], rel=1e-5) and one["diversity_ratio"] > 0
    assert both.keys() == one.keys()
    for name in ("reward_before", "reward_after", "diversity_ratio", "gsb", "pairs"):
        assert both[name] == pytest.approx(one[name], rel=1e-9), name
    for side in ("before", "after"):
        files = sorted(path.name for path in (tmp_path / "alone" / side).iterdir())
        assert len(files) == 11 and files == sorted(path.name for path in (tmp_path / "both" / side).iterdir())
        for name in files:
            assert (tmp_path / "both" / side / name).read_bytes() == (tmp_path / "alone" / side / name).read_bytes()
