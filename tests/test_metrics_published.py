"""Metrics against TIFA-160's published figures; TIFA's own notebook names Pearson's r "Spearman"."""

from __future__ import annotations

import csv
import json
from collections import defaultdict

import numpy as np
import pytest

from zreward.evaluation import metrics as m

PUBLISHED_PLCC = {
    "meteor": 0.339659,
    "bleu": 0.183340,
    "rouge": 0.328889,
    "spice": 0.328053,
    "clipscore_vitb32": 0.331818,
    "tifa_vilt": 0.493225,
    "tifa_git-large": 0.544501,
    "tifa_ofa-large": 0.496147,
    "tifa_blip2-flant5xl": 0.558983,
    "tifa_mplug-large": 0.596720,
}


@pytest.fixture(scope="session")
def tifa(shared_data):
    return json.loads((shared_data / "tifa160" / "human_annotations_with_scores.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED_PLCC)
def test_published_tifa_correlations(tifa, name):
    human = [item["human_avg"] for item in tifa.values()]
    assert len(human) == 800
    assert m.plcc([item[name] for item in tifa.values()], human) == pytest.approx(PUBLISHED_PLCC[name], abs=1e-5)


def test_published_mplug_rank_correlation(tifa):
    human = [item["human_avg"] for item in tifa.values()]
    assert m.srcc([x["tifa_mplug-large"] for x in tifa.values()], human) == pytest.approx(0.592188, abs=1e-5)


def test_few_distinct_values_lose_hpa_to_ties(tifa):
    items = list(tifa.values())
    human, prompt = [x["human_avg"] for x in items], [x["text_id"] for x in items]
    clip, mplug = ([x[name] for x in items] for name in ("clipscore_vitb32", "tifa_mplug-large"))
    assert m.hpa(clip, human, prompt) == pytest.approx(0.695, abs=1e-3)
    assert m.hpa(mplug, human, prompt) == pytest.approx(0.495, abs=1e-3)
    assert m.tie_rate(clip, human, prompt) < 0.01
    assert m.tie_rate(mplug, human, prompt) > 0.2


def test_five_rater_panel_against_two_raters(tifa, shared_data):
    panel = defaultdict(list)
    with open(shared_data / "tifa160" / "dsg_tifa160_anns.csv", newline="") as file:
        for row in csv.DictReader(file):
            model = row["model_type"].replace("-", "_").replace("sd", "stable_diffusion_v").replace("dot", "_")
            panel[f"{row['source_id']}_{model}"].append(float(row["answer"]))
    assert set(panel) == set(tifa)
    five, two = [np.mean(panel[key]) for key in tifa], [item["human_avg"] for item in tifa.values()]
    assert m.plcc(five, two) == pytest.approx(0.818, abs=5e-4)
    assert m.srcc(five, two) == pytest.approx(0.830, abs=5e-4)
