"""Records: reading strictly, writing whole, targets from ratings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import Record, load_records, save_records
from zreward.data.aggregation import synthetic_target
from zreward.distribution import ScoreScale
from zreward.rubric import Rubric

RATED: dict[str, Any] = {"alignment": {"r1": 4, "r2": 4.5, "r3": None}, "realism": [1, 3, 5, 5], "aesthetics": 3.5}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 6), "red").save(path)
    return path


def write_lines(folder: Path, *lines: object) -> Path:
    path = folder / "records.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def line(**fields: object) -> dict[str, object]:
    return {"prompt": "a red square", "image": "images/a.png", "scores": RATED} | fields


class TestRecord:
    def test_ratings_score_and_target(self) -> None:
        record = Record("p", "a.png", RATED)
        assert record.ratings("alignment") == [4.0, 4.5]
        assert record.ratings("plausibility") == [] and record.score("plausibility") is None
        assert record.score("realism") == pytest.approx((3 + 5) / 2)  # 1 and one 5 dropped
        assert record.score("alignment") == pytest.approx(4.25)  # two raters: nothing is dropped
        target = record.target("realism", ScoreScale())
        assert target is not None
        assert target.tolist() == [0.25, 0, 0, 0, 0.25, 0, 0, 0, 0.5]
        assert record.target("plausibility", ScoreScale()) is None

    def test_group_key_falls_back_to_the_prompt(self) -> None:
        assert Record("p", "a.png").group_key == "p"
        assert Record("p", "a.png", group="g").group_key == "g"

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"prompt": " "}, "prompt is empty or blank"),
            ({"prompt": "\ud800"}, "is no Unicode text"),
            ({"image": 7}, "image is 7, expected a path, encoded bytes or a PIL image"),
            ({"scores": [3]}, r"scores is \[3\], expected"),
            ({"scores": {"realism": "4"}}, "score of 'realism' is '4', expected a finite number"),
            ({"scores": {"realism": True}}, "score of 'realism' is True"),
            ({"scores": {"realism": float("nan")}}, "score of 'realism' is nan"),
            ({"scores": {"realism": 10**400}}, "expected a finite number"),
            ({"scores": {"realism": []}}, "score of 'realism' is empty"),
            ({"scores": {"realism": {"r1": "x"}}}, "score of 'realism' by 'r1' is 'x'"),
            ({"tags": "one"}, "tags is 'one', expected a list"),
            ({"split": 3}, "split is 3, expected text"),
            ({"scores": {"realism": [3, 4]}, "stds": {"realism": 0.5}}, "beside 2 ratings"),
            ({"scores": {"realism": 3}, "stds": {"realism": -1}}, "std of 'realism' is -1"),
        ],
    )
    def test_refuses(self, fields: dict[str, object], reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            Record(**({"prompt": "p", "image": "a.png"} | fields))  # type: ignore[arg-type]


class TestSyntheticTarget:
    scale = ScoreScale()

    @pytest.mark.parametrize("score", [1.03, 1.6, 2.5, 3.77, 4.9])
    @pytest.mark.parametrize("std", [0.01, 0.2, 0.5, 1.4])
    def test_expectation_is_the_score(self, score: float, std: float) -> None:
        target = synthetic_target(score, std, self.scale)
        assert target.sum().item() == pytest.approx(1, abs=1e-6)
        assert (target @ self.scale.bins).item() == pytest.approx(score, abs=1e-5)

    def test_is_the_sampled_gaussian_away_from_the_ends(self) -> None:
        density = torch.exp(-0.5 * ((self.scale.bins - 3) / 0.5) ** 2)
        torch.testing.assert_close(synthetic_target(3, 0.5, self.scale), density / density.sum())

    def test_without_spread_it_is_the_soft_target(self) -> None:
        assert synthetic_target(3.2, 1e-9, self.scale).tolist() == self.scale.soft_target(3.2).tolist()
        torch.testing.assert_close(synthetic_target(3.2, 0.02, self.scale), self.scale.soft_target(3.2))
        assert synthetic_target(1, 0.5, self.scale).tolist() == self.scale.soft_target(1).tolist()

    def test_record_with_a_spread_uses_it_and_keeps_its_one_number(self) -> None:
        record = Record("p", "a.png", {"quality": 3.0}, stds={"quality": 0.3})
        assert record.ratings("quality") == [3.0]
        torch.testing.assert_close(record.target("quality", self.scale), synthetic_target(3, 0.3, self.scale))
        smoothed = record.target("quality", self.scale, smoothing=0.4)  # 0.3^2 + 0.4^2 = 0.5^2
        torch.testing.assert_close(smoothed, synthetic_target(3, 0.5, self.scale))


class TestJsonLines:
    def test_reads_all_forms_of_scores(self, tmp_path: Path, picture: Path) -> None:
        path = write_lines(tmp_path, line(id="1", group=None, tags=["x"], split="test"), "", line(scores={}))
        first, second = load_records(path, Rubric.default())
        assert (first.id, first.group, first.tags, first.split) == ("1", None, ("x",), "test")
        assert first.ratings("alignment") == [4.0, 4.5]
        assert Path(str(first.image)) == picture  # relative to the file, not to the working folder
        assert first.open_image().size == (8, 6)
        assert second.scores == {}

    def test_byte_order_mark(self, tmp_path: Path, picture: Path) -> None:
        path = tmp_path / "records.jsonl"
        path.write_text(json.dumps(line()), encoding="utf-8-sig")
        assert len(load_records(path)) == 1

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (line(scroes={}), "unknown key 'scroes'; did you mean 'scores'"),
            (line(image="images/b.png"), r"images/b\.png: no such image file"),
            (line(image="https://example.org/a.png"), "is a URL; images are not fetched"),
            (line(image="data:image/png;base64,AAAA"), "is a URL"),
            (line(image={"bytes": "AAAA"}), "image is .*, expected a path"),
            (line(image="images"), "is a folder"),
            (line(image=" "), "image is ' ', expected text"),
            (line(image="images/\0.png"), "no such image file"),
            (line(scores={"alignment": 7}), "score of 'alignment' 7 is off the scale 1 to 5"),
            (line(scores={"alignment": {"r1": 4, "r2": 0.5}}), "0.5 is off the scale"),
            (line(scores={"realsm": 3}), "unknown dimension 'realsm'; .* has: realism"),
            ({"prompt": "p"}, "missing 'image'"),
            (line(prompt=None), "missing 'prompt'"),
            ("{", "not valid JSON"),
            ("[1]", "a list, expected an object"),
            ('{"prompt": "p", "prompt": "q"}', "key 'prompt' stands twice"),
            ('{"prompt": "p", "scores": {"realism": NaN}}', "NaN is not JSON"),
            ('{"scores": {"realism": 1e999}, "prompt": "p", "image": "images/a.png"}', "is inf, expected a finite"),
            ('{"prompt": ' + "9" * 5000 + "}", "not valid JSON"),
            ("[" * 100_000, "not valid JSON"),
        ],
    )
    def test_bad_line_is_named(self, tmp_path: Path, picture: Path, bad: object, reason: str) -> None:
        path = write_lines(tmp_path, line(), bad, line())
        with pytest.raises(InputError, match=rf"records\.jsonl:2: .*{reason}"):
            load_records(path, Rubric.default())

    def test_not_utf8(self, tmp_path: Path, picture: Path) -> None:
        path = write_lines(tmp_path, line())
        path.write_bytes(path.read_bytes() + b'{"prompt": "\xff"}\n')
        with pytest.raises(InputError, match=r":2: not UTF-8 text"):
            load_records(path)

    def test_truncated_image(self, tmp_path: Path, picture: Path) -> None:
        noise = Image.effect_noise((64, 64), 80)
        noise.save(picture)
        picture.write_bytes(picture.read_bytes()[:-200])
        path = write_lines(tmp_path, line())
        with pytest.raises(InputError, match=r":1: .*a\.png: broken or truncated image"):
            load_records(path)
        (record,) = load_records(path, check_images=False)
        with pytest.raises(InputError, match=r"a\.png: broken or truncated image"):
            record.open_image()

    def test_missing_image_is_found_without_decoding(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such image file"):
            load_records(write_lines(tmp_path, line()), check_images=False)

    def test_id_that_stands_twice(self, tmp_path: Path, picture: Path) -> None:
        with pytest.raises(InputError, match=r"jsonl:2: id 'x' is that of .*jsonl:1 already"):
            load_records(write_lines(tmp_path, line(id="x"), line(id="x")))

    def test_all_bad_lines_come_in_one_error_and_twenty_end_it(self, tmp_path: Path, picture: Path) -> None:
        with pytest.raises(InputError) as caught:
            load_records(write_lines(tmp_path, "{", line(), "}"))
        assert "2 bad lines" in str(caught.value) and ":1: " in str(caught.value) and ":3: " in str(caught.value)
        with pytest.raises(InputError) as caught:
            load_records(write_lines(tmp_path, *["{"] * 30))
        assert "20 bad lines, and reading stopped there" in str(caught.value)
        assert ":20: " in str(caught.value) and ":21: " not in str(caught.value)
        assert not list(tmp_path.glob("*.skipped.jsonl"))

    def test_skip_bad(self, tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_lines(tmp_path, *["{"] * 25, line(prompt="été"), line(promt="été"))
        assert [record.prompt for record in load_records(path, skip_bad=True)] == ["été"]
        output = capsys.readouterr()
        assert "skipped 26 of 27 lines" in output.err and output.out == ""
        report = [json.loads(x) for x in (tmp_path / "records.jsonl.skipped.jsonl").read_text("utf-8").splitlines()]
        assert len(report) == 26
        assert report[-1]["line"] == 27 and "did you mean 'prompt'" in report[-1]["reason"]
        assert json.loads(report[-1]["text"])["promt"] == "été"  # as it came: correct it and paste it back
        write_lines(tmp_path, line())
        load_records(path, skip_bad=True)
        assert not (tmp_path / "records.jsonl.skipped.jsonl").exists()  # a stale report would mislead

    def test_skip_bad_with_nothing_left(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="all 2 lines of it are bad, written to .*skipped"):
            load_records(write_lines(tmp_path, "{", "}"), skip_bad=True)

    @pytest.mark.parametrize("skip_bad", [False, True])
    def test_empty(self, tmp_path: Path, skip_bad: bool) -> None:
        with pytest.raises(InputError, match="it is empty; expected at least one record"):
            load_records(write_lines(tmp_path, ""), skip_bad=skip_bad)

    def test_no_file_and_unknown_type(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"x\.jsonl: no such file"):
            load_records(tmp_path / "x.jsonl")
        (tmp_path / "x.csv").write_text("prompt")
        with pytest.raises(InputError, match=r"unknown file type '\.csv'; expected \.jsonl, \.parquet or \.tar"):
            load_records(tmp_path / "x.csv")

    def test_split(self, tmp_path: Path, picture: Path) -> None:
        path = write_lines(tmp_path, line(split="train"), line(split="test"), line(split="train"), line())
        assert len(load_records(path, split="train")) == 2
        with pytest.raises(InputError, match="no record of split 'dev'; the splits in it are 'test', 'train'"):
            load_records(path, split="dev")
        with pytest.raises(InputError, match="its records name no split at all"):
            load_records(write_lines(tmp_path, line()), split="dev")


class TestSaveRecords:
    @pytest.fixture
    def records(self, picture: Path) -> list[Record]:
        return [
            Record("été", str(picture), RATED, id="1", split="train", tags=("x", "y"), rubric_version="1"),
            Record("p", picture.read_bytes(), {"realism": 3}, stds={"realism": 0.5}, group="g"),
            Record("p", Image.new("RGB", (4, 4), "blue")),
        ]

    @pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
    def test_round_trip(self, tmp_path: Path, records: list[Record], suffix: str) -> None:
        path = save_records(records, tmp_path / "out" / f"r.{suffix}")
        loaded = load_records(path)
        for before, after in zip(records, loaded, strict=True):
            for name in ("prompt", "scores", "stds", "group", "split", "rubric_version", "tags", "id"):
                assert getattr(after, name) == getattr(before, name)
            assert after.open_image().tobytes() == before.open_image().tobytes()
        assert not list(path.parent.glob(".*.tmp"))

    def test_paths_below_the_folder_are_relative(self, tmp_path: Path, records: list[Record]) -> None:
        inside = json.loads(save_records(records[:1], tmp_path / "r.jsonl").read_text("utf-8"))
        outside = json.loads(save_records(records[:1], tmp_path / "out" / "r.jsonl").read_text("utf-8"))
        assert inside["image"] == "images/a.png"
        assert outside["image"] == str(tmp_path / "images" / "a.png")

    def test_saving_over_itself_keeps_everything(self, tmp_path: Path, records: list[Record]) -> None:
        path = save_records(records, tmp_path / "r.jsonl")
        before = path.read_bytes()
        save_records(load_records(path), path)
        assert path.read_bytes() == before

    def test_failure_leaves_the_old_file(self, tmp_path: Path, records: list[Record]) -> None:
        path = save_records(records, tmp_path / "r.jsonl")
        before = path.read_bytes()
        with pytest.raises(InputError, match="broken|not an image"):
            save_records([*records, Record("p", b"no image")], path)
        assert path.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))

    def test_refuses_no_records_and_unknown_types(self, tmp_path: Path, records: list[Record]) -> None:
        with pytest.raises(InputError, match="no record to write"):
            save_records([], tmp_path / "r.jsonl")
        with pytest.raises(InputError, match="expected .jsonl or .parquet"):
            save_records(records, tmp_path / "r.csv")


class TestColumns:
    """Parquet and Hugging Face data sets: one type for all rows, so null wherever a row has nothing."""

    def rows(self, picture: Path) -> list[dict[str, object]]:
        return [
            {"prompt": "p", "image": str(picture), "scores": {"realism": 4.0, "alignment": {"r1": 3.0}}},
            {"prompt": "q", "image": str(picture), "scores": {"realism": None, "alignment": {"r2": 2.0}}},
            {"prompt": "r", "image": str(picture), "scores": None},
        ]

    def test_struct_columns(self, tmp_path: Path, picture: Path) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(self.rows(picture)), tmp_path / "r.parquet")
        first, second, third = load_records(tmp_path / "r.parquet", Rubric.default())
        assert first.scores == {"realism": 4.0, "alignment": {"r1": 3.0}}
        assert second.scores == {"alignment": {"r2": 2.0}}
        assert third.scores == {}

    def test_bad_parquet(self, tmp_path: Path, picture: Path) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = tmp_path / "r.parquet"
        pq.write_table(pa.table({"prompt": ["p", "q"], "image": [str(picture)] * 2, "scores": ["{}", "{"]}), path)
        with pytest.raises(InputError, match=r"r\.parquet:row 1: scores: not valid JSON"):
            load_records(path)
        assert [r.prompt for r in load_records(path, skip_bad=True)] == ["p"]
        assert json.loads((tmp_path / "r.parquet.skipped.jsonl").read_text())["line"] == 1
        pq.write_table(pa.table({"prompt": ["p"] * 50, "imgae": [str(picture)] * 50}), path)
        with pytest.raises(InputError, match=r"r\.parquet: column: unknown key 'imgae'; did you mean 'image'"):
            load_records(path, skip_bad=True)
        path.write_bytes(b"no parquet")
        with pytest.raises(InputError, match=r"r\.parquet: not a Parquet file"):
            load_records(path)

    def test_dataset(self, tmp_path: Path, picture: Path) -> None:
        datasets = pytest.importorskip("datasets")
        plain = load_records(datasets.Dataset.from_list(self.rows(picture)), Rubric.default())
        assert [r.scores for r in plain] == [{"realism": 4.0, "alignment": {"r1": 3.0}}, {"alignment": {"r2": 2.0}}, {}]
        images = datasets.Dataset.from_list(self.rows(picture)).cast_column("image", datasets.Image())
        assert [r.open_image().size for r in load_records(images)] == [(8, 6)] * 3
        assert len(load_records(images.to_iterable_dataset())) == 3
        with pytest.raises(InputError, match=r"from a DatasetDict: .* choose one of its splits \['train'\]"):
            load_records(datasets.DatasetDict(train=images))
        with pytest.raises(InputError, match="expected a path or a datasets.Dataset"):
            load_records([{"prompt": "p"}])

    def test_truncated_image_in_a_dataset_is_one_bad_row(
        self, picture: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        datasets = pytest.importorskip("datasets")
        content = picture.read_bytes()
        rows = {
            "prompt": ["p", "q"],
            "image": [{"bytes": content[:40], "path": None}, {"bytes": content, "path": None}],
        }
        features = datasets.Features({"prompt": datasets.Value("string"), "image": datasets.Image()})
        dataset = datasets.Dataset.from_dict(rows, features=features)
        with pytest.raises(InputError, match="data set:row 0: image of 40 bytes"):
            load_records(dataset)
        assert [record.prompt for record in load_records(dataset, skip_bad=True)] == ["q"]
        assert "data set:row 0: image of 40 bytes" in capsys.readouterr().err  # there is no file to put it beside

    def test_saved_parquet_opens_as_images_in_datasets(self, tmp_path: Path, picture: Path) -> None:
        datasets = pytest.importorskip("datasets")
        path = save_records(
            [Record("p", picture.read_bytes(), {"realism": 3}, tags=("x",))] * 2, tmp_path / "r.parquet"
        )
        dataset = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
        assert dataset[0]["image"].size == (8, 6) and dataset[0]["tags"] == ["x"]
        assert [record.scores for record in load_records(dataset)] == [{"realism": 3.0}] * 2
