"""`zreward reproduce` in miniature: what is planned, what is written, what a second run keeps."""

import json
import os

import pytest

from zreward.common.errors import InputError
from zreward.training.recipe import Recipe, load_recipe
from zreward.world.dataset import WorldSize
from zreward.world.reproduce import StudyPlan, reproduce
from zreward.world.reproduce.plan import DEFAULT_PARTS, METHODS, PARTS, StudyTask, tasks
from zreward.world.reproduce.results import predicted, with_spread
from zreward.world.reproduce.tasks import study_recipe
from zreward.world.settings import recipe_file

TINY = WorldSize(train=(6, 2), dev=(3, 3), pool=(4, 2), test=(4, 3))
SHORT = ("optimizer.steps=2", "optimizer.batch_size=2", "save_every=2")


def recipe_of(key: str, out, dimensions=("alignment",), overrides=()) -> Recipe:
    method = next(method for method in METHODS if method.key == key)
    study = StudyPlan(out, dimensions=tuple(dimensions), overrides=tuple(overrides))
    return study_recipe(study, StudyTask(f"train-{key}-2", "train", 2, method))


@pytest.mark.parametrize("parts", [DEFAULT_PARTS, PARTS, ("fig4",)])
def test_every_task_comes_after_what_it_waits_for(tmp_path, parts):
    planned = tasks(StudyPlan(tmp_path, seeds=2, parts=parts))
    names = [task.name for task in planned]
    assert len(set(names)) == len(names)
    for number, task in enumerate(planned):
        assert set(task.needs) <= set(names[:number])


def test_the_student_waits_for_its_own_seeds_teacher(tmp_path):
    planned = {task.name: task for task in tasks(StudyPlan(tmp_path, seeds=2))}
    assert planned["train-small-risd-1"].needs == ("data", "label-pool-1")
    assert planned["label-pool-1"].needs == ("train-large-gdso-1",)
    assert "train-large-gdso-1" in planned["train-small-opd-1"].needs
    assert "predict-large-zero-shot-1" not in planned  # it would say the same again


def test_a_student_sees_as_many_rows_a_step_whatever_the_dimensions(tmp_path):
    shipped = load_recipe(recipe_file("world-risd"))
    one, two = (recipe_of("small-risd", tmp_path, names) for names in (["alignment"], ["alignment", "realism"]))
    assert one.optimizer.batch_size == 2 * two.optimizer.batch_size == 4 * shipped.optimizer.batch_size
    assert one.optimizer.steps == two.optimizer.steps
    assert one.seed == 2 and one.data.dimensions == ["alignment"]


def test_methods_of_the_figures_have_a_curve_and_overrides_have_the_last_word(tmp_path):
    teacher, student = recipe_of("large-gdso", tmp_path), recipe_of("small-risd", tmp_path)
    assert teacher.optimizer.steps // teacher.eval_every == 8
    assert student.eval_every == 0
    chosen = next(method.rate for method in METHODS if method.key == "small-risd")
    assert student.optimizer.learning_rate == chosen
    assert recipe_of("small-risd", tmp_path, overrides=["optimizer.learning_rate=0.5"]).optimizer.learning_rate == 0.5


def test_some_methods_of_a_part_bring_only_what_they_wait_for(tmp_path):
    chosen = ("large-gdso", "large-gdso-without-gap")
    planned = tasks(StudyPlan(tmp_path, seeds=1, parts=("ablations",), chosen=chosen))
    assert {task.name for task in planned} == {
        "data",
        *(f"{kind}-{key}-0" for kind in ("train", "predict") for key in chosen),
    }
    study = StudyPlan(tmp_path, parts=("ablations",), chosen=chosen)
    assert StudyPlan.from_dict(study.to_dict()) == study


def test_tables_keep_the_rows_of_earlier_runs_with_other_methods(tmp_path):
    study = StudyPlan(tmp_path, seeds=2, parts=("table3",), chosen=("small-risd",))
    (tmp_path / "predictions").mkdir()
    for name in (
        "small-sft-0",
        "small-sft-1",
        "small-risd-0",
        "small-risd-1",
        "small-opd-0",
    ):  # OPD's second is missing
        (tmp_path / "predictions" / f"{name}.json").touch()
    assert [method.key for method in predicted(study)] == ["small-sft", "small-risd"]


@pytest.mark.parametrize(
    ("value", "seeds", "shown"), [(0.8371, 3, "0.837 ± 0.008"), (0.8371, 1, "0.837"), (float("nan"), 3, "–")]
)
def test_a_table_shows_a_spread_only_where_there_is_one(value, seeds, shown):
    assert with_spread("hpa", {"hpa": value, "spread": {"hpa": 0.0082}, "seeds": seeds}) == shown


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="method 'small-opd' is not in fig1; expected some of"):
        StudyPlan(tmp_path, parts=("fig1",), chosen=("small-opd",))
    with pytest.raises(InputError, match=r"unknown part \['table9'\]"):
        StudyPlan(tmp_path, parts=("table9",))
    with pytest.raises(InputError, match="seeds is 0"):
        StudyPlan(tmp_path, seeds=0)
    (tmp_path / "other").write_text("x")
    with pytest.raises(InputError, match="holds no study"):
        reproduce(StudyPlan(tmp_path))


def miniature(out, **options) -> StudyPlan:
    return StudyPlan(out, seeds=1, overrides=SHORT, size=TINY, **options)


@pytest.mark.slow
def test_a_miniature_writes_its_figure_and_keeps_what_is_done(tmp_path, capsys):
    study = miniature(tmp_path / "study", parts=("fig4",))
    page = reproduce(study, jobs=2)
    assert "Figure 4" in page.read_text()
    assert (study.out / "fig4.png").read_bytes().startswith(b"\x89PNG")
    claims = {(row["first"], row["second"]) for row in json.loads((study.out / "claims.json").read_text())}
    assert ("large-gdso", "large-gdso-parsed") in claims
    assert "0 tasks" not in capsys.readouterr().out
    before = {path: os.stat(path).st_mtime_ns for path in (study.out / "runs").rglob("*.safetensors")}
    reproduce(study)
    assert "0 tasks" in capsys.readouterr().out
    assert before == {path: os.stat(path).st_mtime_ns for path in (study.out / "runs").rglob("*.safetensors")}
    with pytest.raises(InputError, match="choose another --out"):
        reproduce(miniature(study.out, world_seed=5))


@pytest.mark.slow
def test_every_method_runs_and_has_its_row(tmp_path):
    study = miniature(tmp_path / "study", parts=PARTS)
    reproduce(study, jobs=2)
    rows = json.loads((study.out / "table2.json").read_text())
    assert {(row["model"], row["method"]) for row in rows} >= {
        *((size, name) for size in ("large", "small") for name in ("zero-shot", "sft", "rewarddance", "grpo", "gdso")),
        ("large", "grpo-parsed"),
        ("large", "gdso-parsed"),
        ("small", "opd"),
        ("small", "risd"),
    }
    assert all(row["seeds"] == 1 and row["spread"]["hpa"] == 0 for row in rows)
    cheap = {row["method"]: row["output_tokens"] for row in json.loads((study.out / "table3.json").read_text())}
    assert cheap["risd"] == 1 and cheap["opd"] > 1
