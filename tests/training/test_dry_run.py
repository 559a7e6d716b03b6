"""`zreward train RECIPE --dry-run` runs one step of the real backbones' recipes on tiny random weights."""

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from accelerate import PartialState

from tests.two_ranks import together
from zreward.cli import main as cli
from zreward.common.errors import InputError
from zreward.data import load_records, save_records
from zreward.training.checks import check_inputs
from zreward.training.dry_run import _common_folder, architecture, dry_run
from zreward.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
RUBRICS = Path(cli.__file__).parents[1] / "rubrics"


@pytest.mark.parametrize("name", ["qwen3.5-27b-gdso", "qwen3.5-9b-risd"])
def test_the_recipes_of_real_backbones_run_a_step(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert f"dry run: {recipe.method}" in dry_run(recipe)


def test_qwen3_vl_runs_too():
    recipe = load_recipe(RECIPES / "qwen3.5-9b-risd.yaml", ["model.name=Qwen/Qwen3-VL-8B-Instruct"])
    assert "on qwen3_vl" in dry_run(recipe)


def test_an_unknown_architecture_is_named():
    with pytest.raises(InputError, match="llava"):
        architecture("llava-hf/llava-1.5-7b-hf")


@pytest.fixture
def said(capsys, monkeypatch):
    """said(words) -> (exit code, standard output, standard error) of `zreward train ...`."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def written(tiny_data, tmp_path):
    """written(**top-level keys) -> a recipe file over the tiny world, and its base model."""

    def make(**changes) -> Path:
        raw = {
            "method": "sft",
            "out": str(tmp_path / "run"),
            "data": {"train": str(tiny_data["train"]), "dev": str(tiny_data["dev"])},
            "model": {"name": str(tiny_data["base"])},
            "eval_every": 1,
        }
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw | changes))
        return tmp_path / "recipe.yaml"

    return make


def test_it_says_what_it_checked(written, said, tmp_path, tiny_data):
    code, out, err = said("train", written(), "--dry-run")
    assert code == 0, err
    assert out.count("checked: ") == 3 and "dry run: sft" in out
    assert f"{tiny_data['train']}, {tiny_data['dev']}: read" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["gdso", "grpo", "rewarddance-pairwise"])
def test_pairs_are_counted_as_training_mines_them(written, method):
    own = {"negative": "1", "positive": "9", "answer_prefix": " level "}
    recipe = load_recipe(written(method=method, comparison=own))
    lines = check_inputs(recipe)
    assert re.search(r"[1-9]\d* (pairs|items) to train on", lines[0])


def test_a_model_that_is_not_here_is_stood_in_for(written):
    model = {"name": "Qwen/Qwen3.5-9B", "rubric": str(RUBRICS / "default.yaml"), "dtype": "bfloat16"}
    lines = check_inputs(load_recipe(written(model=model, method="grpo"), ["trainer.bf16=true"]))
    assert "the tokenizer of Qwen/Qwen3.5-9B was not checked" in lines[1]


def test_what_training_would_refuse_is_refused(written, said, tiny_data, tmp_path):
    data = {"train": str(tiny_data["train"])}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "a-file").write_text("")
    records = load_records(tiny_data["train"])
    save_records([replace(r, scores={"beauty": 3}) for r in records], tmp_path / "beauty.jsonl")
    save_records([replace(r, scores={"alignment": 7}) for r in records], tmp_path / "seven.jsonl")
    (tmp_path / "cut.png").write_bytes(Path(str(records[0].image)).read_bytes()[:60])
    (tmp_path / "cut.jsonl").write_text('{"prompt": "x", "image": "cut.png", "scores": {"alignment": 3}}\n')
    for changes, message in (
        ({"data": {"train": "none.jsonl"}}, "none.jsonl: no such file"),
        ({"data": {"train": str(tmp_path / "beauty.jsonl")}}, "beauty"),
        ({"data": {"train": str(tmp_path / "seven.jsonl")}}, "7 is off the scale"),
        ({"data": {"train": str(tmp_path / "cut.jsonl")}}, "cut.png"),
        ({"data": data | {"dev": str(tiny_data["train"])}}, "in both train and test"),
        ({"method": "risd", "data": data | {"targets": str(tmp_path / "nothing")}}, "nothing"),
        ({"method": "opd", "rollout": {"teacher": str(tmp_path / "nobody")}}, "nobody"),
        ({"out": str(tmp_path / "full")}, "is not empty"),
        ({"out": str(tmp_path / "a-file" / "run")}, "cannot be written"),
        ({"model": {"name": str(tmp_path / "nobody")}}, "no such checkpoint folder"),
        ({"trainer": {"foo": 1}}, "trainer.foo"),
        ({"trainer": {"max_steps": 9}}, "trainer.max_steps is optimizer.steps of the recipe"),
        ({"trainer": {"output_dir": "x"}}, "trainer.output_dir is out of the recipe"),
        ({"model": {"name": "scratch:qwen3_5", "dtype": "int8"}}, "dtype 'int8' is unknown"),
        ({"model": {"name": "scratch:qwen3_5", "quantization": "2bit"}}, "model.quantization is '2bit'"),
    ):
        code, out, err = said("train", written(**changes), "--dry-run")
        assert code == 2 and message in err, (changes, out, err)


def test_optimize_checks_without_drawing(said, tmp_path):
    recipe = RECIPES / "world-refl.yaml"
    words = (
        "optimize",
        recipe,
        "student=world:small",
        f"out={tmp_path / 'run'}",
        "guards.holdout=world:large",
        "--dry-run",
    )
    code, out, err = said(*words)
    assert code == 0, err
    assert out.count("checked: ") == 4 and not (tmp_path / "run").exists()
    (tmp_path / "p.txt").write_text("a\nb\n")
    for change, message in (
        (f"held_out={tmp_path / 'p.txt'}", "2 prompts, expected"),
        (f"student={tmp_path / 'nobody'}", "no such checkpoint folder"),
        ("reward.dimensions=[beauty]", "beauty"),
        (f"generator.name={tmp_path}", "no model_index.json"),
        (f"out={tmp_path}", "is not empty"),
    ):
        code, _, err = said(*words, change)
        assert code == 2 and message in err, (change, err)


def use(folder: Path, rank: int) -> None:
    with _common_folder(folder / "out") as common:
        assert common.parent == folder
        (common / str(rank)).touch()
        time.sleep(1.5 * rank)
        assert (common / str(rank)).exists()
        raise InputError("what both processes say")


def fail(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process comes to its error later, and needs the folder's files until then."""
    PartialState(cpu=True)
    with pytest.raises(InputError, match="both"):
        use(folder, rank)
    assert rank == 1 or not list(folder.glob("dry-run-*"))


def test_where_one_process_fails_the_others_keep_their_files_until_they_fail(tmp_path):
    together(fail, tmp_path)
