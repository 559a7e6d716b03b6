"""What a folder of pictures is, for every command that takes one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data.folders import list_pictures, match_folders, read_folder
from zreward.data.images import open_image
from zreward.generation.comparison import read_pairs
from zreward.inference.contact_sheet import find_candidates
from zreward.studio.create import from_folder
from zreward.studio.storage.study_pictures import match_pictures

LITTER = ("._0.png", ".DS_Store", ".hidden.png", "Thumbs.db", "notes.txt", "desktop.ini", "photo.heic")


def save(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4), "red").save(folder / name)
    return folder


def manifest(folder: Path, *rows: tuple[str, str, int]) -> Path:
    lines = [json.dumps({"image": image, "prompt": prompt, "seed": seed}) for image, prompt, seed in rows]
    (folder / "pictures.jsonl").write_text("\n".join(lines))
    return folder


def test_pictures_are_told_by_their_suffix_and_come_in_natural_order(tmp_path):
    names = ["10.png", "2.JPG", "1.tiff", "b.Tif", "a.jpeg", "x.webp", "y.BMP", "z.gif"]
    folder = save(tmp_path / "c", *names)
    assert [path.name for path in list_pictures(folder).pictures] == [
        "1.tiff", "2.JPG", "10.png", "a.jpeg", "b.Tif", "x.webp", "y.BMP", "z.gif",
    ]  # fmt: skip
    assert list_pictures(folder).note == ""
    for path in list_pictures(folder).pictures:
        assert open_image(path).size == (4, 4)


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow reads no AVIF")
def test_avif_counts_where_pillow_reads_it(tmp_path):
    assert len(list_pictures(save(tmp_path / "c", "0.avif")).pictures) == 1


def test_litter_is_skipped_and_named_in_one_line(tmp_path):
    folder = save(tmp_path / "c", "0.png")
    for name in LITTER:
        (folder / name).write_bytes(b"\0\5\26\7")
    save(folder / "__MACOSX", "1.png")
    save(folder / "more", "2.png")
    os.mkfifo(folder / "pipe.png")  # to open it would wait for ever
    found = list_pictures(folder)
    assert [path.name for path in found.pictures] == ["0.png"]
    assert "\n" not in found.note
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "notes.txt", "pipe.png", "__MACOSX", "more"):
        assert name in found.note
    assert "folders, whose pictures are not read" in found.note


def test_many_skipped_names_are_counted_and_odd_ones_stay_on_the_line(tmp_path):
    folder = save(tmp_path / "c", "0.png")
    for number in range(40):
        (folder / f"{number}.txt").touch()
    (folder / "0\n\udcff.txt").touch()
    note = list_pictures(folder).note
    assert "0\\n\\udcff.txt" in note and "and 36 more (not pictures)" in note and len(note) < 300
    note.encode()


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    (tmp_path / "c").mkdir()
    save(tmp_path / "c" / "sub", "0.png")
    with pytest.raises(
        InputError, match=r"no pictures in it \(skipped sub \(folders.*expected files that end in \.png"
    ):
        list_pictures(tmp_path / "c")
    with pytest.raises(InputError, match="no such folder"):
        list_pictures(tmp_path / "none")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        list_pictures(tmp_path / "c" / "sub" / "0.png")


def test_rank_and_the_studio_take_the_same_pictures(tmp_path):
    folder = save(tmp_path / "c", "10.png", "9.bmp", "8.gif")
    (folder / "._9.png").write_bytes(b"\0\5\26\7")
    expected = [str(folder / name) for name in ("8.gif", "9.bmp", "10.png")]
    files, prompts, notes = find_candidates([folder], "a cat")
    assert files == expected and prompts == ["a cat"] * 3
    pictures, note = from_folder(folder, "a cat")
    assert [str(picture.image) for picture in pictures] == expected
    assert notes == [note] and "._9.png (hidden)" in note


def test_a_manifest_decides_and_what_it_leaves_out_is_named(tmp_path):
    folder = manifest(save(tmp_path / "c", "0.png", "1.png"), ("1.png", "a dog", 5))
    (folder / ".DS_Store").touch()
    found, note = read_folder(folder)
    assert [(one.path.name, one.prompt, one.seed) for one in found] == [("1.png", "a dog", 5)]
    assert note.endswith("skipped 0.png (not in pictures.jsonl)")
    with pytest.raises(InputError, match="leave --prompt out"):
        read_folder(folder, "a cat")


def test_compare_and_the_study_match_the_same_pictures(tmp_path):
    first = manifest(save(tmp_path / "a", "0.png", "1.png", "x.png"), ("0.png", "p", 1), ("1.png", "q", 1))
    second = manifest(save(tmp_path / "b", "0.png", "1.png"), ("0.png", "q", 1), ("1.png", "p", 1))
    matched, notes = match_folders(first, second)
    assert [(one.path.name, other.path.name) for one, other in matched] == [("0.png", "1.png"), ("1.png", "0.png")]
    assert read_pairs(first, second).prompts == ("p", "q")
    assert [(m.before.name, m.after.name) for m in match_pictures(first, second)] == [
        ("0.png", "1.png"),
        ("1.png", "0.png"),
    ]
    assert len(notes) == 1 and "x.png" in notes[0]
    manifest(second, ("0.png", "q", 1), ("1.png", "q", 1))
    for function in (read_pairs, match_pictures):
        with pytest.raises(InputError, match="prompt 'q' with seed 1 is there twice"):
            function(first, second)
