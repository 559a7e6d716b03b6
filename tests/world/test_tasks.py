"""The world's tasks without a picture and with two: truths counted again from what is said and shown, and whole small sets."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from zreward.cli.world import world_data
from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.models.reward_model import RewardModel
from zreward.rubric import Rubric
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label
from zreward.world import answers, edits
from zreward.world.dataset import WorldSize
from zreward.world.grammar import sample_prompt
from zreward.world.settings import recipe_file
from zreward.world.tasks import TASKS, Task, make_task

REPOSITORY = Path(__file__).parents[2]
SMALL = WorldSize(train=(6, 2), dev=(3, 3), pool=(4, 2), test=(2, 3))


def points(answer: str, scene) -> tuple[float, float]:
    """(correctness, brevity) of an answer by its words alone, where at most one object differs."""
    clauses = answer.split(" ; ")
    said = [one for n, one in enumerate(clauses) if one not in clauses[:n] and one not in answers.FILLERS]
    extra = len(clauses) - len(said)
    fillers = sum(one in answers.FILLERS for one in clauses)
    brevity = 5 - 0.5 * fillers - 1.0 * (extra - fillers)
    wanted = [f"a {one}" for one in scene.objects]
    relation = [] if scene.relation is None else [f"first {scene.relation} second"]
    lost = 0.0
    named = [one for one in said if one.startswith("a ")]
    if len(named) == len(wanted):
        costs = (0.5, 1.0, 1.5)  # size, colour, shape
        for mine, asked in zip(named, wanted, strict=True):
            pairs = zip(mine.split()[1:], asked.split()[1:], costs, strict=True)
            lost += sum(cost for one, other, cost in pairs if one != other)
        lost += 1.5 * (said[len(named) :] != relation)
    else:
        return float("nan"), brevity
    return max(1.0, 5 - lost), max(1.0, brevity)


def test_truths_of_answers_are_those_of_their_words():
    rng, counted = random.Random(0), 0
    for _ in range(400):
        scene = sample_prompt(rng)
        answer = answers.sample_answer(scene, rng)
        correctness, brevity = points(answer.text, scene)
        assert answer.truth("brevity") == max(1.0, brevity)
        if correctness == correctness and not {("correctness", "missing"), ("correctness", "extra")} <= set(
            answer.defects
        ):
            counted += 1
            assert answer.truth("correctness") == correctness, answer
    assert counted > 200


def test_truths_of_edits_are_those_of_what_is_drawn():
    """The target's attribute and every other object, compared between the two scenes."""
    rng = random.Random(0)
    kinds: set[str] = set()
    for _ in range(200):
        asked = edits.sample_instruction(rng)
        edit = edits.sample_edit(asked, rng)
        before = {one.role: one for one in asked.before.objects}
        after = {one.role: one for one in edit.after.objects}
        target = after[asked.role]
        value = getattr(target, asked.attribute)
        others_asked = [
            role
            for role, one in after.items()
            if role != asked.role
            and getattr(one, asked.attribute) == asked.value != getattr(before[role], asked.attribute)
        ]
        followed = (
            5.0 if value == asked.value else 3.0 if value != getattr(before[asked.role], asked.attribute) else 2.0
        )
        assert edit.truth("instruction") == followed
        kept = 5.0
        for role, one in before.items():
            if role == asked.role:
                continue
            if role not in after:
                kept -= 2.0
                continue
            costs = {"size": 0.5, "colour": 1.0, "shape": 1.5}
            kept -= sum(cost for name, cost in costs.items() if getattr(one, name) != getattr(after[role], name))
        kept -= 1.5 * edit.after.harsh + 2.0 * (edit.after.noise == 2) + 1.0 * (edit.after.blur == 1)
        if not (others_asked and len(after) < len(before)):  # a changed object that is missing has cost both
            assert edit.truth("preservation") == max(1.0, kept), edit
        assert (target.centre, target.shadow) == (before[asked.role].centre, "ok")
        kinds |= {name for _, name in edit.defects}
    assert kinds == {name for costs in edits.SEVERITY.values() for name in costs}


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_is_trained_distilled_and_evaluated_by_its_recipes(name, tmp_path):
    paths = make_task(name, tmp_path / "data", size=SMALL)
    records = {split: load_records(path) for split, path in paths.items()}
    rubric = Rubric.from_yaml(tmp_path / "data" / "rubric.yaml")
    for split, (prompts, candidates) in vars(SMALL).items():
        assert len(records[split]) == prompts * candidates
        raters = {"train": 1, "pool": 0}.get(split, 7)
        for record in records[split]:
            record.validate(rubric)
            assert len(record.pictures) == (2 if name == "edit" else 0)
            assert [len(record.ratings(one)) for one in rubric.dimension_names] == [raters] * 2
    groups = [{record.prompt for record in part} for part in records.values()]
    assert len(set.union(*groups)) == sum(map(len, groups))
    truths = [json.loads(line) for line in (tmp_path / "data" / "truth.jsonl").read_text().splitlines()]
    assert [row["id"] for row in truths] == [record.id for part in records.values() for record in part]
    again = make_task(name, tmp_path / "again", size=SMALL, models=False)
    assert all(paths[split].read_bytes() == again[split].read_bytes() for split in paths)

    steps = ["optimizer.steps=2", "optimizer.batch_size=2", "eval_every=2", "save_every=2", f"data.dev={paths['dev']}"]
    given = [f"out={tmp_path}/teacher", f"data.train={paths['train']}", f"model.name={tmp_path}/data/small"]
    teacher = train(load_recipe(recipe_file(f"world-{name}-sft"), [*given, *steps]))
    options = LabelOptions(reasoning=False)
    label(RewardModel.from_pretrained(teacher), "teacher", records["pool"], tmp_path / "targets", options)
    given = [f"out={tmp_path}/student", f"data.train={paths['pool']}", f"model.name={tmp_path}/data/small"]
    given.append(f"data.targets={tmp_path}/targets")
    student = train(load_recipe(recipe_file(f"world-{name}-risd"), [*given, *steps]))
    curve = [json.loads(line) for line in (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()]
    assert any("dev_hpa" in row for row in curve)
    assert RewardModel.from_pretrained(student).rubric.dimension_names == rubric.dimension_names


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(InputError, match="--task 'texts' is unknown; expected image, text or edit"):
        world_data(tmp_path / "out", 0, "texts")
    with pytest.raises(InputError, match="expected one of"):
        make_task("texts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_prompts_than_a_task_has_are_refused(tmp_path, monkeypatch):
    """It looked for another one without end."""
    few = Task(("brevity",), lambda rng: (f"prompt {rng.randrange(4)}", iter([({"answer": "yes"}, lambda _: 4.0)])))
    monkeypatch.setitem(TASKS, "text", few)
    with pytest.raises(InputError, match="no prompt left after 4 in .* draws; ask for fewer prompts"):
        make_task("text", tmp_path, size=WorldSize(train=(2, 1), dev=(1, 1), pool=(2, 1), test=(1, 1)), models=False)


def test_the_repositorys_recipes_of_the_world_are_the_shipped_ones():
    """A copy in place of a link is edited, and what is shipped is not."""
    shipped = recipe_file("world-sft").parent
    for path in sorted(shipped.glob("*.yaml")):
        assert (REPOSITORY / "recipes" / path.name).resolve() == path.resolve()
