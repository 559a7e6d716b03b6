"""Folders of pictures, patterns of Parquet files, and Hugging Face data sets by name, as records."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import Record, file_state, load_preferences, load_records, open_records, save_records
from zreward.data.sources import Fields, Source, read_rows

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path) -> Path:
    """The working directory, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_state, "_SETTLED", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 7)).save(file, "PNG")
    return file.getvalue()


def write(files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


# --- folders


CAPTIONED: dict[str, bytes | str] = {
    "pool/b.png": png(1),
    "pool/b.txt": "a cube\n",
    "pool/a/x.y.json": "{}",
    "pool/a/c.png": png(2),
    "pool/a/c.json": json.dumps({"prompt": "a ball", "scores": {"realism": 3}, "width": 4}),
    "pool/.hidden/d.png": b"",
    "pool/.e.png": b"",
    "pool/notes": "",
}


@pytest.mark.parametrize("name", ["pool", "pool/", "./pool", "../{}/pool"])
def test_a_folder_of_pictures_with_their_captions(place, name):
    write({key: value for key, value in CAPTIONED.items() if "x.y" not in key})
    name = name.format(place.name)
    for records in (load_records(name), open_records(name), open_records(name)):
        assert [(one.id, one.prompt, dict(one.scores)) for one in records] == [
            ("b", "a cube", {}),
            ("a/c", "a ball", {"realism": 3.0}),
        ]
        assert [one.open_image().getpixel((0, 0))[0] for one in records] == [1, 2]  # type: ignore[index]
    assert str(load_records(name)[1].image).endswith("pool/a/c.png")


def test_a_folder_is_read_again_when_a_caption_or_its_files_change(place):
    write({"pool/0.png": png(0), "pool/0.txt": "a cube"})
    assert [one.prompt for one in open_records("pool")] == ["a cube"]
    write({"pool/0.txt": "a ball"})
    assert [one.prompt for one in open_records("pool")] == ["a ball"]
    write({"pool/1.png": png(1), "pool/1.txt": "a cone"})
    assert [one.prompt for one in open_records("pool")] == ["a ball", "a cone"]
    write({"pool/1.png": png(9)})
    assert open_records("pool")[1].open_image().getpixel((0, 0)) == (9, 0, 7)
    Path("pool/0.png").unlink()
    with pytest.raises(InputError, match=r"pool/0: no picture: its members are txt"):
        open_records("pool")


def test_a_folder_with_a_list_of_its_pictures(place):
    lines = [{"image": f"{n}.png", "prompt": f"cube {n}", "seed": n, "tags": ["t"]} for n in range(2)]
    write({f"drawn/{n}.png": png(n) for n in range(2)})
    write({"drawn/pictures.jsonl": "".join(json.dumps(one) + "\n" for one in lines)})
    records = open_records("drawn")
    assert [(one.prompt, one.image, one.tags) for one in records] == [
        ("cube 0", "drawn/0.png", ("t",)),
        ("cube 1", "drawn/1.png", ("t",)),
    ]
    write({"drawn/pictures.jsonl": json.dumps(lines[0]) + '\n{"image": "../x.png", "prompt": "p", "seed": 1}\n'})
    with pytest.raises(InputError, match=r"pictures.jsonl:2: image '\.\./x\.png' is not in the folder"):
        open_records("drawn")


def test_wrong_folders(place):
    write({"empty/notes": "", "captions/0.txt": "a"})
    with pytest.raises(InputError, match="empty: it is empty"):
        load_records("empty")
    with pytest.raises(InputError, match="captions/0: no picture"):
        load_records("captions")
    with pytest.raises(InputError, match="such a source holds single pictures"):
        load_preferences("captions")


# --- many files


def test_parquet_and_jsonl_files_by_a_pattern(place):
    """Pictures in rows, and paths, which start at their own file."""
    for shard in range(3):
        records = [Record(f"p {shard} {n}", png(10 * shard + n)) for n in range(2)]
        save_records(records, f"pool/{shard}.parquet")
        save_records(records, f"lines/part-{shard}/rows.jsonl")
    shades = [0, 1, 10, 11, 20, 21]
    for name in (
        "pool",
        "pool/*.parquet",
        "pool/{0..2}.parquet",
        "lines/*/rows.jsonl",
        "lines/part-{0,1,2}/rows.jsonl",
    ):
        records = open_records(name)
        assert [one.prompt for one in records] == [f"p {shade // 10} {shade % 10}" for shade in shades]
        assert [one.open_image().getpixel((0, 0))[0] for one in records] == shades  # type: ignore[index]
        assert [row.number for row in read_rows(name)] == list(range(6))
    write({"lines/part-1/rows.jsonl": "{\n"})
    with pytest.raises(
        InputError, match=r"lines/part-1/rows.jsonl:1: not valid JSON.*\n1 bad line in lines/\*/rows.jsonl"
    ):
        load_records("lines/*/rows.jsonl")
    assert len(load_records("lines/*/rows.jsonl", skip_bad=True)) == 4
    assert Path("lines_rows.jsonl.skipped.jsonl").exists()
    save_records([Record("p", png(1))], "pool/3.parquet")
    assert len(open_records("pool")) == 7


def foreign(count: int, first: int = 0) -> Any:
    """A data set in a layout that is not ours."""
    numbers = range(first, first + count)
    pictures = [{"bytes": png(n), "path": None} for n in numbers]
    rows = {
        "caption": [f"cube {n}" for n in numbers],
        "img": pictures,
        "url": ["http://x"] * count,
        "id": list(numbers),
    }
    return datasets.Dataset.from_dict(rows).cast_column("img", datasets.Image())


FIELDS = Fields("caption", "img")


def test_columns_of_other_names(place):
    foreign(3).to_parquet("f.parquet")
    with pytest.raises(InputError, match=r"f.parquet: column: unknown key 'caption'.*--prompt-field"):
        load_records("f.parquet")
    with pytest.raises(InputError, match=r"f.parquet: no column 'text'; its columns are caption, img, url, id"):
        load_records(Source("f.parquet", Fields("text")))
    records = open_records(Source("f.parquet", FIELDS))
    assert [(one.prompt, one.image, one.id) for one in records] == [(f"cube {n}", png(n), str(n)) for n in range(3)]
    with pytest.raises(InputError, match="missing 'prompt'"):
        open_records(Source("f.parquet", Fields(image="img")))  # the cache knows which fields were named
    write({"l.jsonl": json.dumps({"caption": "a", "file": "0.png", "width": 3}) + "\n", "0.png": png(0)})
    assert load_records(Source("l.jsonl", Fields("caption", "file")))[0].prompt == "a"


# --- Hugging Face data sets


@pytest.fixture
def sets(place) -> None:
    foreign(3).save_to_disk("one")
    datasets.DatasetDict(train=foreign(3), test=foreign(2, 3)).save_to_disk("two")
    foreign(3).to_parquet("files/data/train-00000-of-00001.parquet")
    foreign(2, 3).to_parquet("files/data/test-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("name", "count", "splits"), [("one", 3, {None}), ("two", 5, {"train", "test"}), ("hf:files", 5, {"train", "test"})]
)
def test_data_sets_by_name(sets, name, count, splits):
    source = Source(name, FIELDS)
    for records in (load_records(source), open_records(source), open_records(source)):
        assert sorted((one.prompt, one.image) for one in records) == [(f"cube {n}", png(n)) for n in range(count)]
        assert {one.split for one in records} == splits
    if splits != {None}:
        assert [one.prompt for one in open_records(source, split="test")] == ["cube 3", "cube 4"]
    assert sorted(row.number for row in read_rows(source)) == list(range(count))


def test_a_set_is_read_again_when_a_file_of_it_changes(sets):
    source = Source("hf:files", FIELDS)
    assert len(open_records(source)) == 5
    foreign(4, 10).to_parquet("files/data/train-00000-of-00001.parquet")
    assert {one.prompt for one in open_records(source)} == {f"cube {n}" for n in (3, 4, 10, 11, 12, 13)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hf:nobody", "no such folder, and no name on the hub; expected hf:OWNER/NAME"),
        ("hf:a/b/c/d", "no name on the hub"),
        ("hf:nobody/nothing", "the hub cannot be asked for it"),
        ("hf:nobody/no thing", "the hub cannot be asked for it .Repo id must use"),
        ("hf:nobody/nothing@" + "0" * 40, "hf:nobody/nothing@0+: cannot be read"),
        ("hf:empty", "hf:empty: cannot be read"),
    ],
)
def test_sets_that_cannot_be_had(place, monkeypatch, name, reason):
    """Without a network, and without the library's half a minute of attempts."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Path("empty").mkdir()
    with pytest.raises(InputError, match=reason):
        load_records(name)


def test_a_name_on_the_hub_is_read_at_one_commit(place, monkeypatch):
    """What is asked of the hub, by stand-ins: there is no network here."""
    from zreward.data import hub_sets

    asked: list[Any] = []
    monkeypatch.setattr(hub_sets, "_asked", lambda *names: asked.append(names) or "f" * 40)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or {"train": foreign(2)})
    records = open_records(Source("hf:owner/name/config@v1", FIELDS))
    assert [one.prompt for one in records] == ["cube 0", "cube 1"] and records[0].split == "train"
    assert (("owner/name", "config"), {"revision": "f" * 40, "streaming": True}) in asked
    assert {one for one in asked if len(one) == 2 and isinstance(one[0], str)} == {("owner/name", "v1")}
    asked.clear()
    assert len(open_records(Source("hf:owner/name/config@v1", FIELDS))) == 2
    assert asked == [("owner/name", "v1")]  # nothing is loaded again
    monkeypatch.setattr(hub_sets, "_asked", lambda *names: "e" * 40)
    assert len(open_records(Source("hf:owner/name/config@v1", FIELDS))) == 2 and len(asked) == 2


def test_data_check_takes_a_pool(place):
    write({key: value for key, value in CAPTIONED.items() if "x.y" not in key})
    told = [sys.executable, "-m", "zreward.cli", "data", "check", "pool"]
    assert subprocess.run(told, capture_output=True, check=False).returncode == 0
    write({"pool/b.txt": " "})
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pool/b: prompt is empty" in done.stderr


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("saved", "state.json", "{}"),
        ("saved", "dataset_dict.json", "{}"),
        ("saved", "dataset_dict.json", '{"splits": 5}'),
        ("hf:saved", "saved.py", "raise SystemExit"),
        ("hf:saved", "README.md", "---\nconfigs:\n- 5\n---\n"),
        ("hf:saved", "README.md", "---\ndataset_info: [1]\n---\n"),
        ("hf:saved", "a.zip", "no"),
        ("hf:saved", "a.tar", ""),
    ],
)
def test_damaged_sets_of_another_library(place, name, file, text):
    Path("saved").mkdir()
    Path("saved", "dataset_info.json").write_text('{"features": {"a": {"_type": "Value", "dtype": "string"}}}')
    if "README" in file:
        Path("saved", "a.csv").write_text("prompt,image\na,b\n")
    Path("saved", file).write_text(text)
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        list(read_rows(name))


@pytest.mark.parametrize(
    "files",
    [
        "https://example.com/a.parquet",
        "hf://datasets/owner/name/a.parquet",
        "zip://*::https://example.com/a.zip",
        "/etc/passwd",
        "../other/*.parquet",
        ["data/*", {"split": "train", "path": ["https://example.com/a.parquet"]}],
    ],
)
@pytest.mark.parametrize("key", ["data_files", "data_dir"])
def test_a_card_that_names_files_elsewhere_is_refused(sets, monkeypatch, files, key):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the library was asked"))
    card = yaml.safe_dump({"configs": [{"config_name": "default", key: files}]})
    Path("files", "README.md").write_text(f"---\n{card}---\n# A set\n")
    with pytest.raises(InputError, match=r"hf:files: its README.md names .* expected files inside the folder"):
        list(read_rows(Source("hf:files", FIELDS)))


def test_a_card_that_names_files_of_its_folder_is_followed(sets):
    Path("files", "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: data/train*\n---\n# A set\n"
    )
    assert len(list(read_rows(Source("hf:files", FIELDS)))) == 3


def test_a_name_that_the_hub_does_not_allow():
    with pytest.raises(InputError, match="the hub cannot be asked for it"):
        Source("hf:https:/x/y").state(lambda file: None)
