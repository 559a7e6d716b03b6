"""Judging other things than one picture, in the world: answers in words, and pictures before and after an edit.

Each task is a set of records with the panel's ratings, a rubric, and the base models with that rubric and forms of their own.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.files import write_text
from zreward.data import Record, save_records
from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric
from zreward.world import answers, edits
from zreward.world.base_models import SIZES, WORLD_FORMS, load_base
from zreward.world.dataset import AUDIT_ITEMS, AUDIT_THRESHOLD, SPLITS, WorldSize
from zreward.world.grammar import sample_prompt
from zreward.world.raters import Rater, audit, make_panel
from zreward.world.renderer import render
from zreward.world.scenes import Scene

FORMS = replace(WORLD_FORMS, picture=" {number}", several=" {prompt} .", answer=" {prompt} . {answer} .")

SIZE = WorldSize(train=(400, 3), dev=(40, 4), pool=(800, 3), test=(120, 4))
# There are 1,728 instructions, and what to compare in two pictures is not learned from a thousand items.
SIZE_OF_EDITS = WorldSize(train=(800, 8), dev=(60, 4), pool=(600, 6), test=(120, 4))
_MOST_DRAWS = 1000  # for one prompt

Candidate = tuple[dict[str, Any], Callable[[str], float]]
"""A record's own fields, and the truth of a dimension."""


@dataclass(frozen=True)
class Task:
    """What is judged: `sample` draws a prompt, and then candidates for it without end; `size` is what is usual."""

    dimensions: tuple[str, ...]
    sample: Callable[[random.Random], tuple[str, Iterator[Candidate]]]
    size: WorldSize = SIZE
    forms: PromptForms = FORMS


def make_task(
    name: str, out: Path, seed: int = 0, size: WorldSize | None = None, models: bool = True
) -> dict[str, Path]:
    """Write a task's records, rubric, truth and base models.

    Args:
        name: one of `TASKS`.
        out: the folder: train, dev, pool and test.parquet, rubric.yaml, truth.jsonl, panel.json, and the models large and small.
        seed: of everything.
        size: prompts, and candidates of each, in every split; default: the task's own. A training record has one rater's
            scores, the others as in `dataset.make_world`.
        models: also write the base models.

    Returns:
        The path of each split.

    Raises:
        InputError: an unknown task, or more prompts than it has.
    """
    if name not in TASKS:
        raise InputError(f"task {name!r} is unknown; expected one of {list(TASKS)}")
    task, rng = TASKS[name], random.Random(f"world {name} {seed}")
    panel = make_panel(rng)
    accuracy = audit(panel, [1 + 0.5 * rng.randrange(9) for _ in range(AUDIT_ITEMS)], rng)
    trusted = [rater for rater in panel if accuracy[rater.id] >= AUDIT_THRESHOLD] or panel
    paths, truths, used = {}, [], set[str]()
    for split in SPLITS:
        count, candidates = getattr(size or task.size, split)
        raters = {"train": (trusted, 1), "pool": (panel, 0)}.get(split, (panel, 7))
        records = []
        for number in tqdm(range(count), desc=f"world {name} {split}", unit="prompt"):
            prompt, drawn = _another(task, used, rng)
            used.add(prompt)
            for place, (fields, truth) in enumerate(islice(drawn, candidates)):
                name_of = f"{split}-{number:05d}-{place}"
                known = {dimension: truth(dimension) for dimension in task.dimensions}
                records.append(Record(prompt, **fields, scores=_rated(known, *raters, rng), split=split, id=name_of))
                truths.append({"id": name_of, "prompt": prompt} | known)
        paths[split] = save_records(records, out / f"{split}.parquet")
    write_text(out / "truth.jsonl", "".join(json.dumps(row) + "\n" for row in truths))
    raters_file = {"raters": [asdict(rater) for rater in panel], "audited_accuracy": accuracy, "seed": seed}
    write_text(out / "panel.json", json.dumps(raters_file, indent=1))
    write_text(out / "rubric.yaml", rubric_file(name).read_text(encoding="utf-8"))
    if models:
        for model_size in SIZES:
            task_base(name, model_size).save_pretrained(out / model_size)
    return paths


def _another(task: Task, used: set[str], rng: random.Random) -> tuple[str, Iterator[Candidate]]:
    """A prompt that is not used yet, with its candidates."""
    for _ in range(_MOST_DRAWS):
        prompt, drawn = task.sample(rng)
        if prompt not in used:
            return prompt, drawn
    raise InputError(
        f"no prompt left after {len(used):,} in {_MOST_DRAWS:,} draws; ask for fewer prompts, and more candidates of each"
    )


def rubric_file(name: str) -> Path:
    """The shipped rubric of a task."""
    return Path(__file__).parent / f"rubric-{name}.yaml"


def task_base(name: str, size: str) -> RewardModel:
    """A shipped base model that is asked with a task's rubric and forms."""
    base = load_base(size, device="cpu")
    rubric = Rubric.from_yaml(rubric_file(name))
    return RewardModel(base.backbone.model, base.tokenizer, rubric, TASKS[name].forms, max_trace_tokens=40)


def _rated(
    truth: dict[str, float], raters: list[Rater], count: int, rng: random.Random
) -> dict[str, dict[str, float | None]]:
    if not count:
        return {}
    chosen = rng.sample(raters, count)
    return {name: {rater.id: rater.rate(score, rng) for rater in chosen} for name, score in truth.items()}


def _answers(rng: random.Random) -> tuple[str, Iterator[Candidate]]:
    scene = sample_prompt(rng)

    def candidates() -> Iterator[Candidate]:
        while True:
            answer = answers.sample_answer(scene, rng)
            yield {"answer": answer.text}, answer.truth

    return answers.question(scene), candidates()


def _edits(rng: random.Random) -> tuple[str, Iterator[Candidate]]:
    asked = edits.sample_instruction(rng)
    before = _png(asked.before)

    def candidates() -> Iterator[Candidate]:
        while True:
            edit = edits.sample_edit(asked, rng)
            yield {"images": (before, _png(edit.after))}, edit.truth

    return asked.text, candidates()


def _png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    render(scene).save(buffer, format="PNG")
    return buffer.getvalue()


TASKS = {
    "text": Task(tuple(answers.SEVERITY), _answers),
    "edit": Task(tuple(edits.SEVERITY), _edits, SIZE_OF_EDITS),
}
