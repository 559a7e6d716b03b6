"""Official metrics of public benchmarks in tiny files of their layouts, beside the publishers' own rules in plain loops."""

from __future__ import annotations

import csv
import itertools
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zreward.bench.commands import Request, run_bench
from zreward.bench.figures import FIGURES
from zreward.bench.published import OFFICIAL
from zreward.bench.quoted import quoted_for
from zreward.bench.run import Asking
from zreward.common.errors import InputError
from zreward.data.importers.registry import IMPORTERS


def table(path: Path, rows: dict[str, object]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "score"), *rows.items()])
    return str(path)


def official(suite: str, root: Path, predictions: str, **options) -> float:
    request = Request({}, {suite: root}, {"m": predictions}, asking=Asking(resamples=2), **options)
    report = run_bench(request, lambda name: None, print)
    (row,) = [row for row in report.document["results"] if row["official"]]
    return row["value"]


def test_every_official_figure_is_one_and_of_a_known_data_set():
    assert OFFICIAL.keys() <= IMPORTERS.keys()
    assert all(one.figure in FIGURES and one.source and one.rule for one in OFFICIAL.values())


def test_quoted_figures_are_of_known_suites_have_a_source_and_are_marked():
    rows = quoted_for(IMPORTERS)
    assert len(rows) > 30 and all(row["source"] and -1 <= row["value"] <= 1 for row in rows)
    models = {row["model"] for row in rows}
    assert {"HPSv3", "ImageReward", "PickScore", "Qwen3-VL-8B zero-shot"} <= models and any(
        "UnifiedReward" in m for m in models
    )
    assert quoted_for(["mine"]) == []


def test_imagerewarddb_all_pairs_together_a_predicted_tie_is_wrong(tmp_path):
    lists = [("p0", [1, 2, 2, 4]), ("p1", [2, 1])]
    rows = [
        {"id": name, "prompt": name, "generations": [f"{name}/{n}.jpg" for n in range(len(ranks))], "ranking": ranks}
        for name, ranks in lists
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    scores = {"p0/0.jpg": 3.0, "p0/1.jpg": 3.0, "p0/2.jpg": 1.0, "p0/3.jpg": 2.0, "p1/0.jpg": 0.0, "p1/1.jpg": 1.0}
    total = right = 0
    for name, ranks in lists:
        for i, j in itertools.combinations(range(len(ranks)), 2):
            if ranks[i] != ranks[j]:
                total += 1
                gap = scores[f"{name}/{i}.jpg"] - scores[f"{name}/{j}.jpg"]
                right += gap * (ranks[j] - ranks[i]) > 0
    assert official("imagerewarddb", tmp_path, table(tmp_path / "s.csv", scores)) == pytest.approx(right / total)


def test_hpdv2_inversions_per_list_by_the_averaged_rank(tmp_path):
    rng, rows, scores = random.Random(3), [], {}
    for n in range(6):
        size = rng.choice([3, 5, 9])
        images = [f"{n}_{k}.jpg" for k in range(size)]
        users = [{"rank": rng.sample(range(size), size), "user_hash": u} for u in "xyz"]
        ranks = [rng.randrange(size) for _ in images]  # ties among them
        rows.append({"prompt": f"prompt {n}", "image_path": images, "rank": ranks, "raw_annotations": users})
        scores |= dict(zip([f"test/{one}" for one in images], rng.sample(range(100), size), strict=True))
    (tmp_path / "test.json").write_text(json.dumps(rows))
    expected = []
    for row in rows:  # inversion_score of the publisher, on places from 0
        own = [scores[f"test/{one}"] for one in row["image_path"]]
        places = [sorted(own, reverse=True).index(one) for one in own]
        pairs = list(itertools.combinations(range(len(own)), 2))
        inverted = sum((places[i] - places[j]) * (row["rank"][i] - row["rank"][j]) < 0 for i, j in pairs)
        expected.append(1 - inverted / len(pairs))
    found = official("hpdv2", tmp_path, table(tmp_path / "s.csv", scores))
    assert found == pytest.approx(sum(expected) / len(expected))


def test_pickapic_half_a_point_and_the_threshold_of_validation_unique(tmp_path):
    rng = random.Random(5)
    (tmp_path / "data").mkdir()
    logits: dict[bytes, float] = {}
    for split, count in (("validation_unique", 30), ("test_unique", 20), ("train", 4)):
        rows = []
        for n in range(count):
            label = rng.choice([(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
            pictures = [f"{split} {n} {side}".encode() for side in (0, 1)]
            logits |= {one: rng.gauss(0, 1) for one in pictures}
            both = {f"jpg_{k}": pictures[k] for k in (0, 1)} | {f"label_{k}": label[k] for k in (0, 1)}
            rows.append({"caption": f"{split} {n}", "has_label": True} | both)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    from zreward.bench.answers import with_thresholds
    from zreward.bench.figures import estimates
    from zreward.bench.others import PairAnswers, groups_of, votes_of
    from zreward.bench.published import load_suite

    suite = load_suite("pickapic", tmp_path, None, None, "none")
    assert (len(suite.preferences), len(suite.tuning.preferences)) == (20, 30)

    def said(part) -> PairAnswers:
        import numpy as np

        gap = np.array([logits[one.images[0]] - logits[one.images[1]] for one in part.preferences])
        prob = 1 / (1 + np.exp(-gap))
        return PairAnswers(gap, prob, votes_of(part.preferences, "overall"), *groups_of(part.preferences))

    def credit(part, threshold: float) -> float:
        points = []
        for one, p in zip(part.preferences, said(part).prob, strict=True):
            told = "tie" if abs(2 * p - 1) <= threshold else "a" if p > 0.5 else "b"
            points.append(1 if told == one.counts().winner else 0.5 if "tie" in (told, one.counts().winner) else 0)
        return sum(points) / len(points)

    tenths = [step / 10 for step in range(11)]
    best = max(tenths, key=lambda one: credit(suite.tuning, one))
    answers = with_thresholds(said(suite), said(suite.tuning))
    assert answers.half_threshold == best
    assert estimates(answers, 2, 0)["half_credit"].value == pytest.approx(credit(suite, best))


def test_mmrb2_both_orders_count(tmp_path):
    def pair(name: str, chosen: str) -> dict:
        sides = {
            f"response_{s}": {"model_name": s, "response_content": [["image", f"images/{name}{s}.jpg"]]} for s in "ab"
        }
        annotations = [5, 5, 2] if chosen == "A" else [1, 2, 5]
        return {
            "id": name,
            "chosen": chosen,
            "human_annotations": annotations,
            "prompt_content": [["text", name]],
        } | sides

    (tmp_path / "t2i.json").write_text(json.dumps({"pairs": [pair("x", "A"), pair("y", "B"), pair("z", "B")]}))
    judged = {
        "x": {"forward": [{"judgement": "A"}], "reverse": [{"judgement": "B"}]},  # right twice
        "y": {"forward": [{"judgement": "A"}], "reverse": [{"judgement": "A"}]},  # wrong, right
        "z": {"forward": [{"judgement": "A"}], "reverse": []},  # wrong once
    }
    (tmp_path / "judged.json").write_text(json.dumps(judged))
    assert official("mmrb2", tmp_path, str(tmp_path / "judged.json")) == pytest.approx(3 / 5)


def votes(path: Path, *rows: tuple[str | None, str]) -> Path:
    lines = [{"idx": n, "model_vote": told, "human_vote": label} for n, (told, label) in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_genai_bench_votes_have_four_labels(tmp_path):
    good = [
        ("[[A>>B]]", "leftvote"),
        ("[[B>A]]", "rightvote"),
        ("[[A=B=Good]]", "tievote"),
        ("[[A=B]]", "bothbad_vote"),
    ]
    bad = [("[[A=B=Good]]", "bothbad_vote"), ("[[A>B]]", "rightvote"), (None, "tievote"), ("[[maybe]]", "leftvote")]
    file = votes(tmp_path / "pairwise.jsonl", *good, *bad)
    assert official("genai-bench-votes", file, f"{file}#model_vote") == 0.5
    with pytest.raises(InputError, match=r"human_vote 'nobody'; expected a number, and one of leftvote"):
        official("genai-bench-votes", votes(tmp_path / "x.jsonl", ("[[A>B]]", "nobody")), f"{file}#model_vote")


def test_a_published_suite_without_its_official_split(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps([{"prompt": "x", "path1": "a.jpg", "path2": "b.jpg"}]))
    with pytest.raises(InputError, match="suite hpdv3: its official split is 'test'; there is only train"):
        official("hpdv3", tmp_path, table(tmp_path / "s.csv", {"a.jpg": 1}))
