"""Projects from folders, records and the world: whole or not at all."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from PIL import Image
from sqlalchemy import func, select
from typer.testing import CliRunner

from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import Record, load_records, save_records
from zreward.data.images import open_image
from zreward.rubric import Rubric
from zreward.studio import create
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.project import Project, ProjectSettings
from zreward.studio.storage.schema import CandidatePicture, Gold, PromptGroup, Repetition, User

Image.new("RGB", (2, 2)).save(file := BytesIO(), "PNG")
PNG = file.getvalue()


def opened(folder):
    return sessions(connect(Project(folder).database_url))()


def make(folder, pictures, rubric=None):
    return create.create_project(folder, pictures, rubric or Rubric.default(), ProjectSettings(name="x"))


def test_the_world_makes_a_try_out_with_hidden_items(tmp_path):
    done = CliRunner().invoke(app, ["studio", "init", str(tmp_path / "try"), "--world", "--prompts", "10"])
    assert done.exit_code == 0 and "/invitation/" in done.output
    with opened(tmp_path / "try") as session:
        counts = [
            session.scalar(select(func.count()).select_from(table)) for table in (PromptGroup, CandidatePicture, User)
        ]
        assert counts == [10, 40, 1]
        gold = session.scalars(select(Gold)).all()
        assert {one.dimension for one in gold} == {"alignment", "realism", "aesthetics", "plausibility"}
        assert all(1 <= one.score <= 5 for one in gold) and session.scalar(select(func.count(Repetition.id)))
        for candidate in session.scalars(select(CandidatePicture)):
            assert Image.open(Project(tmp_path / "try").file(candidate.image)).size == (32, 32)


def test_records_keep_their_ids_groups_splits_and_tags(tmp_path):
    pictures = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(3)]
    records = [
        Record("a cat", pictures[0], id="one", group="g", split="train", tags=("animal",)),
        Record("a cat", pictures[1], id="two", group="g", split="train", tags=("animal",)),
        Record("a dog", pictures[2], {"realism": 4.0}),
    ]
    save_records(records, tmp_path / "records.parquet")
    make(tmp_path / "p", create.from_records(load_records(tmp_path / "records.parquet"), "records"))
    with opened(tmp_path / "p") as session:
        prompts = session.scalars(select(PromptGroup).order_by(PromptGroup.id)).all()
        assert [(p.text, p.split, p.tags, len(p.candidates)) for p in prompts] == [
            ("a cat", "train", ["animal"], 2),
            ("a dog", None, [], 1),
        ]
        assert [c.key for c in prompts[0].candidates] == ["one", "two"]


def test_folders_with_a_manifest_or_one_prompt(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    with pytest.raises(InputError, match=r"no pictures\.jsonl in it; give --prompt"):
        create.from_folder(tmp_path / "a")
    assert [p.prompt for p in create.from_folder(tmp_path / "a", "a cat")[0]] == ["a cat"]
    (tmp_path / "a" / "pictures.jsonl").write_text(json.dumps({"image": "0.png", "prompt": "a dog", "seed": 1}))
    assert [(p.prompt, p.key) for p in create.from_folder(tmp_path / "a")[0]] == [("a dog", "0.png")]


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "no pictures"),
        ([create.NewPicture("a", b"nothing", "k")], "not an image"),
        ([create.NewPicture(" ", b"x", "k")], "empty prompt"),
        ([create.NewPicture("a", PNG, "k"), create.NewPicture("b", PNG, "k")], "two pictures are called 'k'"),
        (
            [create.NewPicture("a", PNG, "k", "g"), create.NewPicture("b", PNG, "l", "g")],
            "prompt 'a' already, and now 'b'",
        ),
        ([create.NewPicture("a", PNG, "k" * 201)], "a name of 201 letters; expected at most 200"),
    ],
)
def test_what_fails_leaves_nothing_behind(tmp_path, pictures, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "p", pictures)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "file").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        make(tmp_path / "p", [])
    assert (tmp_path / "p" / "file").read_text() == "mine"


def test_pictures_with_unreadable_metadata_come_in(tmp_path):
    """And the studio shows what the model sees of them."""
    Image.new("RGB", (4, 4), "red").save(tmp_path / "0.png", icc_profile=bytes(1_200_000))
    make(tmp_path / "p", [create.NewPicture("a", tmp_path / "0.png", "k")])
    (kept,) = (tmp_path / "p" / "images").iterdir()
    assert kept.suffix == ".png" and open_image(kept).getpixel((0, 0)) == (255, 0, 0)
