"""What a reader of the guides has at hand: the demo's outputs, in miniature, and a few pictures and records of their own."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

from PIL import Image

from tests.docs.blocks import ROOT
from zreward.data import Preference, load_records, save_preferences
from zreward.rubric import Rubric
from zreward.world.base_models import WEIGHTS
from zreward.world.dataset import WorldSize, make_world

TINY = WorldSize(train=(6, 2), dev=(5, 4), pool=(6, 1), test=(4, 3))
COLOURS = ("red", "green", "blue", "gold")


def make_demo(folder: Path) -> Path:
    """A folder like runs/demo: the shipped base models as student and teacher, records of a tiny world, examples."""
    make_world(folder / "data", 0, TINY)
    shutil.copytree(WEIGHTS / "small", folder / "models" / "student")
    shutil.copytree(WEIGHTS / "large", folder / "models" / "teacher")
    (folder / "examples").mkdir()
    for n, record in enumerate(load_records(folder / "data" / "test.parquet")[:6]):
        record.open_image().save(folder / "examples" / f"{n}.png")
    return folder


def furnish(folder: Path, demo: Path) -> None:
    """Everything that a guide may name without having made it."""
    shutil.copytree(demo, folder / "runs" / "demo")
    for name in ("recipes", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("a", "b", "image1", "image2"):
        Image.new("RGB", (32, 32), "red").save(folder / f"{name}.png")
    for name in ("pictures", "frozen", "tuned", "plain"):
        _pictures(folder / name)
    (folder / "plain" / "pictures.jsonl").unlink()
    names = Rubric.default().dimension_names
    rows = [
        {
            "prompt": f"a {colour} cup",
            "image": f"pictures/{n + 1:04d}.png",
            "scores": {name: [3, 4 - n] for name in names},
        }
        for n, colour in ((0, "red"), (1, "red"), (2, "blue"), (3, "gold"))
    ]
    for name in ("ratings.jsonl", "records.jsonl"):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    vote = {"prompt": "a red cup", "images": ["a.png", "b.png"], "votes": {"a": 7, "b": 2}}
    (folder / "votes.jsonl").write_text(json.dumps(vote) + "\n")
    both = [
        Preference(
            f"a {colour} cup", (_plain(colour, 32), _plain(colour, 24)), {"overall": {"a": 2, "b": 1}}, split=split
        )
        for colour, split in (("lime", "dev"), ("navy", "test"))
    ]
    save_preferences(both, folder / "votes.parquet")
    for name in ("Xception", "ResNet152V2"):  # another project's predictions, as it publishes them
        (folder / f"{name}_predictions.csv").write_text("truth,prediction\n0.2,0.3\n0.5,0.4\n0.7,0.9\n")
    Rubric.default().to_yaml(folder / "my-rubric.yaml")
    _shards(folder / "shards")


def _shards(folder: Path) -> None:
    """Two tars of a picture each, with its prompt in a .txt and in a .json."""
    folder.mkdir()
    for n, colour in enumerate(COLOURS[:2]):
        picture, caption = folder.parent / "pictures" / f"{n + 1:04d}.png", f"a {colour} cup"
        with tarfile.open(folder / f"{n:06d}.tar", "w") as shard:
            shard.add(picture, "0001.png")
            for extension, text in (("txt", caption), ("json", json.dumps({"caption": caption}))):
                member = tarfile.TarInfo(f"0001.{extension}")
                member.size = len(text)
                shard.addfile(member, io.BytesIO(text.encode()))


def _plain(colour: str, side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def _pictures(folder: Path) -> None:
    folder.mkdir()
    shade = 40 if folder.name == "tuned" else 0
    for n, colour in enumerate(COLOURS):
        picture = Image.new("RGB", (32, 32), colour)
        picture.putpixel((0, 0), (shade, shade, shade))
        picture.save(folder / f"{n + 1:04d}.png")
    rows = [{"image": f"{n + 1:04d}.png", "prompt": f"a cup {n // 2}", "seed": n % 2} for n in range(len(COLOURS))]
    (folder / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
