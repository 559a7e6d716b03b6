"""The world's data sets: a small labelled set, a dev set, a large unlabelled pool and a test set rated by seven.

Prompts are disjoint between the four. Everything follows from one seed.
"""

from __future__ import annotations

import io
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from zreward.common.files import write_text
from zreward.data import Record, save_records
from zreward.world.grammar import sample_prompts
from zreward.world.raters import Rater, audit, make_panel
from zreward.world.renderer import render
from zreward.world.scenes import DIMENSIONS, Scene, sample_scene

SPLITS = ("train", "dev", "pool", "test")
AUDIT_ITEMS = 200
AUDIT_THRESHOLD = 0.55


@dataclass(frozen=True)
class WorldSize:
    """How many prompts, and images per prompt, each split has."""

    train: tuple[int, int] = (200, 2)  # one annotation per image and rated dimension
    dev: tuple[int, int] = (40, 4)  # seven ratings
    pool: tuple[int, int] = (1300, 2)  # no ratings
    test: tuple[int, int] = (120, 4)  # seven ratings


def make_world(
    out: Path,
    seed: int = 0,
    size: WorldSize | None = None,
    dimensions: tuple[str, ...] = DIMENSIONS,
    rated_dimensions: int = 1,
) -> dict[str, Path]:
    """Write train, dev, pool and test records (Parquet, images inside) and truth.jsonl; returns the path of each split.

    The train set's annotator of an item is drawn from the raters whose audited accuracy passes `AUDIT_THRESHOLD`; test and
    dev ratings come from seven raters of the whole panel, the careless one among them at times. Of the train set's prompts
    each is rated on `rated_dimensions` of the dimensions, drawn: by default a training picture has one annotation in all.
    """
    size = size or WorldSize()
    rng = random.Random(f"world {seed}")
    panel = make_panel(rng)
    accuracy = audit(panel, [1 + 0.5 * rng.randrange(9) for _ in range(AUDIT_ITEMS)], rng)
    trusted = [rater for rater in panel if accuracy[rater.id] >= AUDIT_THRESHOLD] or panel
    counts = {name: getattr(size, name) for name in SPLITS}
    prompts = sample_prompts(sum(prompts for prompts, _ in counts.values()), rng)
    paths, truths = {}, []
    for name in SPLITS:
        count, images = counts[name]
        mine, prompts = prompts[:count], prompts[count:]
        raters = {"train": (trusted, 1), "pool": (panel, 0)}.get(name, (panel, 7))
        records = []
        for number, prompt in enumerate(tqdm(mine, desc=f"world {name}", unit="prompt")):
            most = rated_dimensions if name == "train" else len(dimensions)
            rated = tuple(rng.sample(dimensions, min(most, len(dimensions))))
            for candidate in range(images):
                scene = sample_scene(prompt, rng)
                record = make_record(scene, *raters, rated, rng, f"{name}-{number:05d}-{candidate}", name)
                records.append(record)
                truths.append({"id": record.id, "prompt": prompt.text} | {d: scene.truth(d) for d in DIMENSIONS})
        paths[name] = out / f"{name}.parquet"
        save_records(records, paths[name])
    write_text(out / "truth.jsonl", "".join(json.dumps(row) + "\n" for row in truths))
    raters_file = {"raters": [asdict(rater) for rater in panel], "audited_accuracy": accuracy, "seed": seed}
    write_text(out / "panel.json", json.dumps(raters_file, indent=1))
    return paths


def make_record(
    scene: Scene,
    raters: list[Rater],
    count: int,
    dimensions: tuple[str, ...],
    rng: random.Random,
    name: str,
    split: str,
) -> Record:
    """A rendered scene with `count` ratings per dimension by raters drawn without replacement (none: unlabelled)."""
    scores: dict[str, dict[str, float | None]] = {}
    for dimension in dimensions if count else ():
        chosen = rng.sample(raters, count)
        scores[dimension] = {rater.id: rater.rate(scene.truth(dimension), rng) for rater in chosen}
    return Record(prompt=scene.prompt.text, image=png(scene), scores=scores, split=split, id=name)


def png(scene: Scene) -> bytes:
    """The rendered scene as PNG bytes."""
    buffer = io.BytesIO()
    render(scene).save(buffer, format="PNG")
    return buffer.getvalue()
