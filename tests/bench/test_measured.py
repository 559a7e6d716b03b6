"""What `zreward bench` measures, beside plain loops over the model's own scores; tables of other models' predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.bench.inputs import preferences, records, write_preferences, write_records
from tests.tiny import sharpen, tiny_model
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking
from zreward.common.errors import InputError

FAST = Asking(resamples=20)


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model())


def found(report, figure: str, model: str = "m", dimension: str = "overall") -> float:
    rows = [
        r for r in report.document["results"] if (r["model"], r["figure"], r["dimension"]) == (model, figure, dimension)
    ]
    assert len(rows) == 1
    return rows[0]["value"]


def run(models, suites, tables=None, asking=FAST, **options):
    request = Request(dict.fromkeys(models, "x"), suites, tables or {}, asking=asking, **options)
    return run_bench(request, lambda place: models[next(iter(models))], lambda note: None)


def test_rated_pictures(model, tmp_path):
    report = run({"m": model}, {"mine": write_records(tmp_path)})
    own = records(tmp_path)
    scores = model.score([r.image for r in own], [r.prompt for r in own])
    for name in ("alignment", "realism"):
        mean = scores.mean[:, scores.dimensions.index(name)].numpy()
        target = [np.mean(r.scores[name]) for r in own]
        assert found(report, "srcc", dimension=name) == pytest.approx(spearmanr(mean, target).statistic, abs=1e-5)
    first = report.document["suites"][0]
    assert (first["items"], first["prompts"], first["official"]) == (15, 5, "srcc")
    assert all(row["low"] <= row["high"] for row in report.document["results"])


def test_pairs_are_answered_by_the_mean_of_all_dimensions_or_by_those_named(model, tmp_path):
    path = write_preferences(tmp_path)
    pairs = [one for one in preferences(tmp_path) if one.split == "test"]
    a, b = (model.score([one.images[side] for one in pairs], [one.prompt for one in pairs]) for side in (0, 1))
    for uses, columns in (({}, range(4)), ({"overall": ("realism", "alignment")}, (0, 1))):
        report = run({"m": model}, {"mine": path}, split="test", asking=Asking(resamples=5, uses=uses))
        gap = (a.mean - b.mean)[:, list(columns)].mean(1)
        prob = a.prefers(b)[:, list(columns)].mean(1)
        right = decided = loss = votes = 0.0
        for one, g, p in zip(pairs, gap.tolist(), prob.tolist(), strict=True):
            counts = one.counts()
            if counts.winner != "tie":
                decided, right = (
                    decided + 1,
                    right + (counts.winner == ("a" if g > 1e-6 else "b" if g < -1e-6 else "tie")),
                )
            share = counts.share
            loss -= counts.total * (share * np.log(p) + (1 - share) * np.log(1 - p))
            votes += counts.total
        assert found(report, "accuracy") == pytest.approx(right / decided)
        assert found(report, "preference_nll") == pytest.approx(loss / votes, rel=1e-5)
        assert found(report, "accuracy_with_ties") >= 0  # its threshold comes from the dev pairs
    assert report.document["suites"][0]["items"] == 9


def test_without_a_split_there_are_no_other_pairs_to_choose_a_threshold_on(model, tmp_path):
    report = run({"m": model}, {"mine": write_preferences(tmp_path)})
    assert not [row for row in report.document["results"] if row["figure"] == "accuracy_with_ties"]


def test_a_suite_that_a_model_has_no_dimension_for(model, tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_preferences(tmp_path)
    path.write_text(path.read_text().replace('"overall"', '"charm"'))
    with pytest.raises(InputError, match=r"suite mine asks about charm.*--use charm=alignment"):
        run({"m": model}, {"mine": path})
    with pytest.raises(InputError, match=r"--use charm: the model has no dimension 'colour'"):
        run({"m": model}, {"mine": path}, asking=Asking(uses={"charm": ("colour",)}))


def write_csv(path: Path, rows: list[dict]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_tables_of_scores_by_id_by_path_and_of_choices_agree(tmp_path):
    path, pairs = write_preferences(tmp_path), preferences(tmp_path)
    scores = {image: n * 7 % 11 for n, image in enumerate(sorted({i for one in pairs for i in one.images}))}
    by_path = write_csv(tmp_path / "s.csv", [{"image": Path(i).name, "score": s} for i, s in scores.items()])
    gaps = {one.id: scores[one.images[0]] - scores[one.images[1]] for one in pairs}
    by_id = write_csv(tmp_path / "g.csv", [{"id": name, "gap": gap} for name, gap in gaps.items()])
    words = {name: "tie" if gap == 0 else "A" if gap > 0 else "B" for name, gap in gaps.items()}
    (tmp_path / "c.json").write_text(json.dumps({name: {"choice": word} for name, word in words.items()}))
    tables = {"path": by_path, "id": f"{by_id}#gap", "choice": f"{tmp_path}/c.json"}
    report = run({}, {"mine": path}, tables)
    decided = [one for one in pairs if one.counts().winner != "tie"]
    right = np.mean([one.counts().winner == words[one.id].lower() for one in decided])
    for name in tables:
        assert found(report, "accuracy", name) == pytest.approx(right)
    nll = [row["model"] for row in report.document["results"] if row["figure"] == "preference_nll"]
    assert nll == ["path", "id"]  # a choice is no probability
    assert {row["value"] for row in report.document["differences"]} == {0.0}


def test_every_judgement_of_a_pair_counts(tmp_path):
    path, pairs = write_preferences(tmp_path), preferences(tmp_path)
    rows = [{"id": one.id, "choice": side} for one in pairs for side in ("a", "b")]
    report = run({}, {"mine": path}, {"both": write_csv(tmp_path / "c.csv", rows)})
    assert found(report, "accuracy", "both") == 0.5


def test_a_table_must_have_an_answer_to_everything(tmp_path):
    path, pairs = write_preferences(tmp_path), preferences(tmp_path)
    rows = [{"id": one.id, "choice": "a"} for one in pairs]
    part = write_csv(tmp_path / "part.csv", rows[2:])
    with pytest.raises(
        InputError, match=r"says nothing of 2 of the 15 pairs of suite mine, such as 'p0/0-1'; --partial"
    ):
        run({}, {"mine": path}, {"part": part})
    assert run({}, {"mine": path}, {"part": part}, partial=True).document["results"][0]["answers"] == 13
    rows[0]["choice"] = "neither"
    with pytest.raises(InputError, match=r"choice is 'neither', expected a, b, tie or a number"):
        run({}, {"mine": path}, {"part": write_csv(tmp_path / "bad.csv", rows)})
    rows[0]["choice"] = "nan"
    with pytest.raises(InputError, match="expected a finite number"):
        run({}, {"mine": path}, {"part": write_csv(tmp_path / "nan.csv", rows)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,score\na,1\n", "says nothing of 15 of the 15"),
        ("who,score\na,1\n", "no column says what a row is about"),
        ("id,x,y\na,1,2\n", "name its column of scores after a #"),
        ("id,score\n", "it is empty"),
        ("id,score\n,1\n", ":2: no id"),
    ],
)
def test_tables_that_are_none(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        run({}, {"mine": write_preferences(tmp_path)}, {"t": str(tmp_path / "t.csv")})


def test_what_cannot_be_asked_is_refused_before_anything_is_read(tmp_path):
    table = {"t": str(tmp_path / "t.csv")}
    with pytest.raises(InputError, match="expected models or --predictions"):
        run({}, {"mine": tmp_path / "x.jsonl"})
    with pytest.raises(InputError, match="say which suite it answers, as in t@one="):
        run({}, {"one": tmp_path, "two": tmp_path}, table)
    with pytest.raises(InputError, match="no suite is called 'three'"):
        run({}, {"one": tmp_path}, {"t@three": "x.csv"})
    with pytest.raises(InputError, match=r"no published suite is called 'mine'.*imagerewarddb"):
        run({"m": None}, {"mine": tmp_path})


def test_files_of_a_run(model, tmp_path):
    report = run({"m": model}, {"mine": write_records(tmp_path)})
    written = report.write(tmp_path / "out")
    assert [path.name for path in written[:2]] == ["bench.json", "bench.md"]
    stored = json.loads(written[0].read_text())
    assert stored["schema_version"] == 1 and stored["results"] == report.document["results"]
    lines = written[1].read_text().splitlines()
    assert (
        lines[0].startswith("| suite | dimension | figure | model | value |")
        and "| mine | alignment | SRCC | m |" in lines[2]
    )


def test_tables_with_values_of_another_kind(tmp_path):
    suite, name = write_preferences(tmp_path), "p0/0-1"
    for row, said in (
        ({"id": name, "score": 10**400}, "score is a number of about 400 digits, expected"),
        ({"id": name, "score": [1]}, r"score is \[1\], expected"),
        ({"id": name, "forward": [{"judgement": ["A"]}]}, r"judgement is \['A'\], expected"),
        ({"forward": [{"judgement": "A"}]}, "entry 0: no id"),
    ):
        (tmp_path / "said.json").write_text(json.dumps([row]))
        with pytest.raises(InputError, match=said):
            run({}, {"own": suite}, {"m": str(tmp_path / "said.json")}, partial=True)


def test_votes_of_another_kind(tmp_path):
    from zreward.bench.labels import is_label, read_votes

    (tmp_path / "votes.jsonl").write_text('{"idx": 1, "human_vote": ["leftvote"]}\n')
    with pytest.raises(InputError, match=r"human_vote \['leftvote'\]; expected"):
        read_votes(tmp_path / "votes.jsonl")
    assert not is_label({"a": 1}, "leftvote") and not is_label(["[[A>B]]"], "leftvote")
