"""A plain table of ratings as a suite, beside scipy and plain loops; what cannot be matched is refused."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr
from typer.testing import CliRunner

from tests.bench.inputs import picture, records
from tests.tiny import sharpen, tiny_model
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking
from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import Record, save_records

MOS = [4.1, 2.0, 3.5, 1.2, 4.8, 2.9, 3.5, 1.9]
SAID = [0.7, 0.1, 0.8, 0.3, 0.5, 0.6, 0.2, 0.2]
PROMPTS = ["cat", "cat", "cat", "dog", "dog", "dog", "sun", "sky"]
NAMES = [f"p{n}.png" for n in range(8)]


def write(path: Path, **columns: list) -> Path:
    """A table in the form that its name ends in; of .json a list of objects."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns, *(row.values() for row in rows)])
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


def measure(suite: Path, said: Path, column: str = "said", ratings: str = "mos", **options):
    request = Request({}, {"mine": Path(f"{suite}#{ratings}")}, {"m": f"{said}#{column}"}, asking=Asking(resamples=5))
    return run_bench(
        Request(**vars(request) | options), lambda name: pytest.fail("a model was loaded"), lambda note: None
    )


def figures(report) -> dict[str, float]:
    return {row["figure"]: row["value"] for row in report.document["results"]}


def hpa(said: list[float], mos: list[float], prompts: list[str]) -> float:
    right = pairs = 0
    for i in range(len(mos)):
        for j in range(len(mos)):
            if prompts[i] == prompts[j] and mos[i] > mos[j]:
                pairs, right = pairs + 1, right + (said[i] > said[j])
    return right / pairs


@pytest.mark.parametrize("end", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_rows_are_found_by_their_key_whatever_the_order_and_the_form(end, tmp_path):
    order = random.Random(0).sample(range(8), 8)
    suite = write(tmp_path / f"mos.{end}", image=NAMES, prompt=PROMPTS, mos=MOS)
    said = write(tmp_path / f"said.{end}", image=[NAMES[n] for n in order], said=[SAID[n] for n in order])
    report = measure(suite, said)
    found = figures(report)
    assert found.keys() == {"srcc", "plcc", "krcc", "hpa", "tie_calibrated"}
    assert {name: found[name] for name in ("srcc", "plcc", "krcc", "hpa")} == {
        "srcc": pytest.approx(spearmanr(SAID, MOS).statistic),
        "plcc": pytest.approx(pearsonr(SAID, MOS).statistic),
        "krcc": pytest.approx(kendalltau(SAID, MOS).statistic),
        "hpa": pytest.approx(hpa(SAID, MOS, PROMPTS)),
    }
    assert [row["figure"] for row in report.document["results"] if row["official"]] == ["srcc"]
    assert (report.document["suites"][0]["items"], report.document["suites"][0]["prompts"]) == (8, 4)
    assert report.notes == [] and report.measured[0].dimension == "mos"


def test_rows_without_a_key_are_matched_by_number_and_the_report_says_so(tmp_path):
    suite, said = write(tmp_path / "mos.csv", mos=MOS), write(tmp_path / "said.csv", said=SAID)
    report = measure(suite, said)
    assert figures(report)["srcc"] == pytest.approx(spearmanr(SAID, MOS).statistic)
    assert "hpa" not in figures(report) and report.document["results"][0]["prompts"] == 8
    note = "m on mine: rows were matched by their number; no column says what a row is about"
    assert report.document["notes"] == [note]
    assert f"- {note}" in report.write(tmp_path / "out")[1].read_text()
    assert note in (tmp_path / "out" / "bench.html").read_text()


def test_one_table_may_hold_both_and_the_command_takes_it(tmp_path):
    both = write(tmp_path / "both.csv", truth=MOS, prediction=SAID)
    words = ["bench", "--suite", f"mine={both}#truth", "--predictions", f"m={both}#prediction", "--json", "-"]
    result = CliRunner().invoke(app, words)
    found = {row["figure"]: row["value"] for row in json.loads(result.stdout)["results"]}
    assert found["srcc"] == pytest.approx(spearmanr(SAID, MOS).statistic)
    assert "note: m on mine: rows were matched by their number" in result.stderr


def test_prompts_are_the_groups_of_rows_without_a_key(tmp_path):
    report = measure(write(tmp_path / "mos.csv", prompt=PROMPTS, mos=MOS), write(tmp_path / "said.csv", said=SAID))
    assert figures(report)["hpa"] == pytest.approx(hpa(SAID, MOS, PROMPTS))
    assert report.document["results"][0]["prompts"] == 4


def test_only_the_rows_of_a_split_count_and_keep_their_number(tmp_path):
    split = ["train", "test", "test", "train", "test", "test", "test", "train"]
    suite, said = write(tmp_path / "mos.csv", mos=MOS, split=split), write(tmp_path / "said.csv", said=SAID)
    chosen = [n for n in range(8) if split[n] == "test"]
    expected = spearmanr([SAID[n] for n in chosen], [MOS[n] for n in chosen]).statistic
    assert figures(measure(suite, said, split="test"))["srcc"] == pytest.approx(expected)
    with pytest.raises(InputError, match=r"no row of split 'dev'; there are test, train"):
        measure(suite, said, split="dev")
    with pytest.raises(InputError, match="no column 'split'"):
        measure(said, said, ratings="said", split="test")


@pytest.mark.parametrize(
    ("suite", "said", "message"),
    [
        ({"mos": MOS}, {"said": SAID[1:]}, r"said.csv has 7 rows, .*mos.csv has 8. Neither has a column"),
        ({"mos": MOS}, {"id": NAMES, "said": SAID}, r"said.csv has a column id, .*mos.csv has none"),
        ({"id": NAMES, "mos": MOS}, {"said": SAID}, r"said.csv: no column says what a row is about"),
        ({"mos": MOS}, {"mos": MOS[::-1], "said": SAID}, r"said.csv:2: mos is '1.9', at .*mos.csv:2 it is '4.1'"),
        (
            {"mos": MOS, "prompt": PROMPTS},
            {"prompt": PROMPTS[::-1], "said": SAID},
            r"prompt is 'sky', at .* it is 'cat'.*not in the same order",
        ),
        ({"": list(range(8)), "mos": MOS}, {"": [*range(1, 8), 0], "said": SAID}, "row numbers.* is '1', at .* '0'"),
        ({"id": NAMES, "mos": MOS}, {"id": NAMES[:6], "said": SAID[:6]}, "says nothing of 2 of the 8 pictures"),
    ],
)
def test_rows_that_are_not_about_the_same_are_refused(suite, said, message, tmp_path):
    with pytest.raises(InputError, match=message):
        measure(write(tmp_path / "mos.csv", **suite), write(tmp_path / "said.csv", **said))


def test_the_same_ratings_written_otherwise_are_in_the_same_order(tmp_path):
    said = write(tmp_path / "said.csv", mos=[f"{one:.3f}" for one in MOS], said=SAID)
    assert measure(write(tmp_path / "mos.csv", mos=MOS), said).notes


def test_predictions_may_have_the_name_of_the_ratings(tmp_path):
    report = measure(write(tmp_path / "mos.csv", mos=MOS), write(tmp_path / "said.csv", mos=SAID), column="mos")
    assert figures(report)["srcc"] == pytest.approx(spearmanr(SAID, MOS).statistic)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": NAMES, "mos": [*MOS[:7], ""]}, r":9: mos is '', expected the mean rating, a finite number"),
        ({"id": NAMES, "mos": [*MOS[:7], "nan"]}, ":9: mos is 'nan', expected the mean rating"),
        ({"id": NAMES, "mos": [*MOS[:7], "4;5"]}, ":9: mos is '4;5', expected"),
        ({"id": [*NAMES[:7], "p0.png"], "mos": MOS}, r":9: id 'p0.png' is that of .*:2 already"),
        ({"id": [*NAMES[:7], ""], "mos": MOS}, ":9: no id"),
        ({"id": NAMES, "prompt": [*PROMPTS[:7], ""], "mos": MOS}, ":9: prompt is empty or blank"),
        ({"id": NAMES, "rating": MOS}, r"no column 'mos'; there are id, rating"),
    ],
)
def test_tables_that_are_no_suite(columns, message, tmp_path):
    said = write(tmp_path / "said.csv", id=NAMES, said=SAID)
    with pytest.raises(InputError, match=message):
        measure(write(tmp_path / "mos.csv", **columns), said)


def test_ratings_and_scores_that_are_lists(tmp_path):
    ratings = write(tmp_path / "ratings.json", id=NAMES, mos=[[one, one] for one in MOS])
    lists = write(tmp_path / "lists.json", id=NAMES, said=[[one, one] for one in SAID])
    plain = write(tmp_path / "plain.json", id=NAMES, mos=MOS, said=SAID)
    with pytest.raises(InputError, match=r"ratings.json: entry 0: mos is \[4.1, 4.1\], expected the mean rating"):
        measure(ratings, plain)
    with pytest.raises(InputError, match=r"said is \[0.7, 0.7\], expected a number; of several, write the number that"):
        measure(plain, lists)


def test_a_table_without_its_column_is_told_how_to_name_it(tmp_path):
    table = write(tmp_path / "mos.csv", id=NAMES, mos=MOS)
    request = Request({}, {"mine": table}, {"m": f"{table}#mos"})
    with pytest.raises(InputError, match=r"or a column of ratings in a table: mos.csv#COLUMN"):
        run_bench(request, lambda name: None, print)


def test_models_need_prompts_and_pictures_and_give_what_they_give_for_records(tmp_path):
    own = records(tmp_path)
    ratings = [one.ratings("realism") for one in own]
    columns = {"image": [Path(one.image).name for one in own], "realism": [sum(one) / len(one) for one in ratings]}
    with pytest.raises(InputError, match="has no column prompt; a model is asked with a prompt and a picture"):
        measure(
            write(tmp_path / "none.csv", **columns),
            tmp_path / "x",
            ratings="realism",
            models={"t": "x"},
            predictions={},
        )
    with pytest.raises(InputError, match="has no column prompt and no column image"):
        measure(write(tmp_path / "none.csv", mos=MOS), tmp_path / "x", models={"t": "x"}, predictions={})
    columns["prompt"] = [one.prompt for one in own]
    table = write(tmp_path / "mos.csv", **columns)
    model = sharpen(tiny_model())
    suites = {"table": Path(f"{table}#realism"), "records": save_records(own, tmp_path / "r.jsonl")}
    report = run_bench(Request({"t": "x"}, suites, asking=Asking(resamples=2)), lambda name: model, lambda note: None)
    rows = [row for row in report.document["results"] if row["dimension"] == "realism"]
    values = {name: [row["value"] for row in rows if row["suite"] == name] for name in suites}
    assert values["table"] == pytest.approx(values["records"], abs=1e-4) and len(values["table"]) == 5
    Path(own[3].image).unlink()
    with pytest.raises(InputError, match=r"mos.csv:5: .*1-0.png: no such image file"):
        measure(table, tmp_path / "x", ratings="realism", models={"t": "x"}, predictions={})


def test_embedded_pictures_are_named_by_their_path(tmp_path):
    picture(1).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    images = [{"bytes": content, "path": name} for name in NAMES]
    suite = write(tmp_path / "mos.parquet", image=images, mos=MOS)
    report = measure(suite, write(tmp_path / "said.csv", image=NAMES, said=SAID))
    assert figures(report)["srcc"] == pytest.approx(spearmanr(SAID, MOS).statistic)
    assert isinstance(report.suites[0].pictures[0], Record) and report.suites[0].pictures[0].image == content
