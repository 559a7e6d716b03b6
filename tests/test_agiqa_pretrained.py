"""AGIQA-3K by pretrained parts: the recipe, a miniature of it with tiny parts, and the ridge regression beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.models.parts import write_language, write_tower
from tests.test_agiqa_recipe import miniature  # noqa: F401 (a fixture)
from zreward.data import Record, load_records
from zreward.data.importers.agiqa3k import agiqa3k_rubric
from zreward.evaluation.calibration import interval_coverage
from zreward.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "agiqa3k-clip-smollm2.yaml"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import agiqa3k_pretrained

    yield agiqa3k_pretrained
    for name in ("agiqa3k_pretrained", "agiqa3k"):
        sys.modules.pop(name, None)


def test_the_recipe_names_hub_models_and_opens_with_its_commands():
    recipe = load_recipe(RECIPE)
    spec = recipe.model.compose
    assert (spec.vision, spec.language) == ("openai/clip-vit-base-patch16", "HuggingFaceTB/SmolLM2-135M-Instruct")
    header = RECIPE.read_text().splitlines()[:6]
    assert header[0].startswith("# zreward data import agiqa3k") and "SYNTHETIC" in "".join(header)


def test_ridge_is_the_minimum_of_its_loss(benchmark):
    """Against gradients: at the minimum of squared errors + penalty * squared weights on standardised columns, they vanish."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (40, 5)), rng.normal(size=(40, 2))
    new = rng.normal(3, 2, (7, 5))
    scores = benchmark.ridge(x, y, new, 10.0)
    z, z_new = (x - x.mean(0)) / (x.std(0) + 1e-6), (new - x.mean(0)) / (x.std(0) + 1e-6)
    weights = np.linalg.lstsq(z_new, scores - y.mean(0), rcond=None)[0]
    errors = z @ weights + y.mean(0) - y
    np.testing.assert_allclose(z.T @ errors + 10.0 * weights, 0, atol=1e-8)


def test_a_gaussian_over_bins_has_its_mean_and_its_spread(benchmark):
    bins = np.arange(1, 9.01, 0.5)
    probs = benchmark.gaussian(np.array([4.2, 5.0]), 0.8, bins)
    np.testing.assert_allclose(probs.sum(1), 1)
    np.testing.assert_allclose(probs @ bins, [4.2, 5.0], atol=1e-3)
    np.testing.assert_allclose(probs @ bins**2 - (probs @ bins) ** 2, 0.8**2 + 0.5**2 / 12, atol=1e-2)
    assert benchmark.gaussian(np.array([-9.0]), 0.1, bins)[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("which", "name"), [(["--folds", "2"], "2-folds"), pytest.param([], "test", marks=pytest.mark.slow)]
)
def test_the_whole_comparison_on_a_miniature(benchmark, miniature, tmp_path, monkeypatch, which, name):  # noqa: F811
    root = Path(load_records(miniature)[0].image).parents[1]
    tower, language = write_tower("clip", tmp_path / "clip"), write_language(tmp_path / "language")
    small = [f"model.compose.vision={tower}", f"model.compose.language={language}", "model.compose.layers=[1, 3]"]
    small += ["model.compose.language_layers=2", "model.image_pool=2", "optimizer.steps=4", "optimizer.batch_size=4"]
    small += ["optimizer.projector_steps=2", "optimizer.warmup_steps=1", "eval_every=0"]
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["agiqa3k_pretrained", str(root), *small, "--out", str(out), *which])
    monkeypatch.setattr(benchmark, "FOLDS", 2)
    benchmark.main()
    found = json.loads((out / f"results-{name}-0.json").read_text())
    names = [(row["model"], row["dimension"]) for row in found["rows"]]
    assert names == [
        (m, d)
        for d in agiqa3k_rubric().dimension_names
        for m in ("CLIP and SmolLM2, SFT", "ridge on the same tokens", "ridge on CLIP")
    ]
    ours, _, peer = found["rows"][:3]
    assert peer["nll_gain"] == pytest.approx(ours["nll"] - peer["nll"]) and ours["nll_gain"] == 0
    assert all(np.isfinite(row["nll"]) and row["nll"] > 0 for row in found["rows"])
    assert all(0 < row["coverage_80"] < 1 and "spread_srcc" in row for row in found["rows"])
    assert set(found["other_prompts_srcc"]) == set(agiqa3k_rubric().dimension_names)
    assert found["about"].startswith(f"{len(load_records(miniature, split=None if which else 'test'))} pictures")
    assert "features" in found["about"] and "| ridge on CLIP | quality |" in (out / f"results-{name}-0.md").read_text()


def test_spread_and_coverage_are_those_of_the_predicted_distributions(benchmark):
    scale, rng = agiqa3k_rubric().scale, np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(len(scale)), (20, 2))
    stds = rng.uniform(0.2, 1, (20, 2))
    records = [
        Record(f"prompt {n}", b"x", {"quality": 2.5, "alignment": 3.0}, stds={"quality": a, "alignment": b})
        for n, (a, b) in enumerate(stds.tolist())
    ]
    bins = scale.bins.double().numpy()
    judge = benchmark.Judge("one", probs @ bins, probs, records, scale)
    items, d = np.arange(4, 20), 1
    second_moment, mean = probs[items, d] @ bins**2, probs[items, d] @ bins
    expected = spearmanr((second_moment - mean**2) ** 0.5, stds[items, d]).statistic
    assert judge.figure("spread_srcc", d, items, None) == pytest.approx(expected)
    counts = np.stack([records[n].target("alignment", scale).numpy() for n in items])
    assert judge.figure("coverage_80", d, items, None) == pytest.approx(interval_coverage(probs[items, d], counts, 0.8))


def test_statistics_are_those_of_the_last_layer(benchmark):
    features = torch.arange(24.0).view(3, 8) ** 2
    found = benchmark.statistics_of(features, 2).tolist()
    last = [row[-2:] for row in features.tolist()]
    others = np.array(last[1:])
    np.testing.assert_allclose(found, [*last[0], *others.mean(0), *others.std(0, ddof=1)])


def test_every_picture_gets_another_prompt_of_the_same_ones(benchmark):
    records = [Record(prompt, b"x", group="g") for prompt in "bacb"]
    assert [record.prompt for record in benchmark.with_other_prompts(records)] == list("cbac")
