"""The command line as a user meets it: what it prints, and one clear error with exit code 2 for everything that is wrong."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from zreward import __version__ as version
from zreward import cli
from zreward.commands.examples import EXAMPLES
from zreward.world.base_models import WEIGHTS, world_rubric

RUBRICS = Path(cli.__file__).parent / "rubrics"


@pytest.fixture
def zreward(monkeypatch, capsys):
    """zreward("score", ...) -> (exit code, what was printed, what was complained about)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (32, 32), (200, 40, 40)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def truncated(picture, tmp_path) -> Path:
    Image.effect_noise((32, 32), 80).convert("RGB").save(tmp_path / "truncated.png")
    whole = (tmp_path / "truncated.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path / "truncated.png"


def records(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def commands(app: typer.Typer, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group by its words, () being zreward itself."""
    found = [path, *((*path, one.name or one.callback.__name__) for one in app.registered_commands)]
    return found + [
        name for group in app.registered_groups for name in commands(group.typer_instance, (*path, group.name))
    ]


@pytest.mark.parametrize("path", commands(cli.app), ids=" ".join)
def test_help_ends_with_examples_that_the_command_takes(zreward, path):
    """Every example is read by the command line's library: its commands, options and numbers are there."""
    code, out, _ = zreward(*path, "-h")
    assert code == 0
    assert "$ zreward" in out.split("Examples:")[1]
    for example in EXAMPLES[" ".join(path)]:
        words = [word for word in shlex.split(example) if "=..." not in word]
        assert words.pop(0) == "zreward"
        command = typer.main.get_command(cli.app)
        if words == ["--install-completion"]:
            assert any(words[0] in parameter.opts for parameter in command.params)
            continue
        while hasattr(command, "commands"):
            with command.make_context("zreward", list(words)) as context:
                name, command, words = command.resolve_command(context, words)
        command.make_context(name, list(words)).close()


def test_alone_it_prints_its_help(zreward):
    for group in ((), ("data",), ("world",), ("studio",)):
        code, out, err = zreward(*group)
        assert (code, err) == (0, "")
        assert "Usage: " in out and "Examples:" in out


def test_version_and_completion(zreward, monkeypatch):
    assert zreward("--version") == (0, f"zreward {version}\n", "")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = zreward("--show-completion", "bash")
    assert code == 0 or "bash" in out


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("scor",), "'score'"),
        (("data", "inport"), "'import'"),
        (("studio", "exprt", "x"), "'export'"),
        (("score", "world:small", "--promt", "x"), "--prompt"),
    ],
)
def test_mistyped_words_name_the_nearest(zreward, words, near):
    code, _, err = zreward(*words)
    assert code == 2
    assert near in err and "Traceback" not in err


def row(image: Path, **changes) -> dict:
    return {"prompt": "a red circle", "image": str(image), "scores": {"realism": 3}} | changes


def recipe(path: Path, data: Path, **changes) -> Path:
    raw = {
        "method": "sft",
        "out": str(path.parent / "run"),
        "data": {"train": str(data)},
        "model": {"name": "world:small"},
        "optimizer": {"steps": 1, "batch_size": 2},
    }
    path.write_text(yaml.safe_dump(raw | changes))
    return path


def test_score_prints_a_table_and_states_the_scale(zreward, picture, tmp_path):
    code, out, _ = zreward("score", "world:small", picture, "--prompt", "a red circle", "--json", tmp_path / "s.json")
    assert code == 0
    assert "scores from 1 (worst) to 5 (best) in steps of 0.5" in " ".join(out.split())
    assert all(name in out for name in world_rubric().dimension_names)
    saved = json.loads((tmp_path / "s.json").read_text())
    assert saved["scale"]["bins"] == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    for scores in saved["scores"][0]["dimensions"].values():
        mean = sum(p * b for p, b in zip(scores["probs"], saved["scale"]["bins"], strict=True))
        assert scores["mean"] == pytest.approx(mean, abs=1e-5)
        assert sum(scores["probs"]) == pytest.approx(1, abs=1e-5)
        assert scores["std"] > 0


@pytest.mark.parametrize("end", [["--json"], ["--json", "-"]], ids=["alone", "dash"])
def test_json_without_a_file_prints_nothing_but_json(zreward, picture, end):
    code, out, _ = zreward("score", "world:small", picture, "--prompt", "a red circle", *end)
    assert code == 0
    assert json.loads(out)["scores"][0]["image"] == str(picture)


def test_json_does_not_overwrite_an_image(zreward, picture):
    before = picture.read_bytes()
    command = ("score", "world:small", "--prompt", "x", "--json", picture, picture)
    complains(zreward(*command), "--json", "would overwrite what is there")
    assert picture.read_bytes() == before


def test_score_takes_many_images_and_chosen_dimensions(zreward, picture, tmp_path):
    code, _, _ = zreward(
        "score",
        "world:small",
        picture,
        picture,
        "--prompt",
        "x",
        "--dimensions",
        "realism",
        "--json",
        tmp_path / "s.json",
    )
    saved = json.loads((tmp_path / "s.json").read_text())
    assert code == 0
    assert [list(r["dimensions"]) for r in saved["scores"]] == [["realism"], ["realism"]]


def test_rank_of_a_folder_shares_the_best_place_out(zreward, picture, tmp_path):
    folder = tmp_path / "candidates"
    folder.mkdir()
    shutil.copy(picture, folder / "red.png")
    Image.new("RGB", (32, 32), (40, 40, 200)).save(folder / "blue.png")
    files = ("--out", tmp_path / "sheet.html", "--json", tmp_path / "r.json")
    code, out, _ = zreward("rank", "world:small", folder, "--prompt", "a large [red] circle", *files)
    assert code == 0 and "P(best)" in out and "[red]" in out
    ranked = json.loads((tmp_path / "r.json").read_text())
    assert {Path(one["image"]).name for one in ranked} == {"red.png", "blue.png"}
    assert [one["rank"] for one in ranked] == [1, 2]
    assert sum(one["best"] for one in ranked) == pytest.approx(1)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("<img") == 2 and "a large [red] circle" in page


def test_rank_reads_the_prompts_of_a_manifest(zreward, picture, tmp_path):
    rows = [{"image": picture.name, "prompt": prompt, "seed": 0} for prompt in ("a red circle", "a blue cross")]
    records(tmp_path / "pictures.jsonl", *rows)
    code, out, _ = zreward("rank", "world:small", tmp_path, "--json")
    assert code == 0
    assert [(one["prompt"], one["best"]) for one in json.loads(out)] == [("a red circle", 1.0), ("a blue cross", 1.0)]
    complains(zreward("rank", "world:small", tmp_path, "--prompt", "x"), "leave --prompt out")


def test_rank_without_what_it_needs(zreward, picture, tmp_path):
    (tmp_path / "empty").mkdir()
    complains(zreward("rank", "world:small", picture), "give --prompt")
    complains(zreward("rank", "world:small", tmp_path / "empty", "--prompt", "x"), "no pictures in it", ".png")


def test_evaluate_prints_metrics_and_writes_them(zreward, picture, tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (32, 32), (10, 40, 240)).save(other)
    data = records(tmp_path / "rated.jsonl", row(picture), row(other, scores={"realism": [4, 4.5, 5]}))
    code, out, _ = zreward("evaluate", "world:small", "--data", data, "--json", tmp_path / "m.json")
    assert code == 0
    assert "realism" in out
    rows = json.loads((tmp_path / "m.json").read_text())
    assert {r["dimension"] for r in rows} >= {"realism", "all"}
    assert all(r["hpa"] in (0, 1) for r in rows if r["n_pairs"] == 1)


def complains(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one message that holds the words, no traceback."""
    code, _, err = result
    assert code == 2, err
    assert "Traceback" not in err
    message = " ".join(err.split())
    assert message.count("zreward: ") == 1, message
    for word in words:
        assert word in message


def test_truncated_image(zreward, truncated, tmp_path):
    complains(zreward("score", "world:small", truncated, "--prompt", "x"), "truncated.png")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(truncated)))
    complains(zreward("train", train), "d.jsonl:1", "truncated.png")
    assert not (tmp_path / "run" / "model").exists()


def test_missing_image_file(zreward, tmp_path):
    complains(zreward("score", "world:small", tmp_path / "none.png", "--prompt", "x"), "none.png", "no such image file")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(tmp_path / "none.png")))
    complains(zreward("train", train), "d.jsonl:1", "no such image file")


def test_missing_data_file(zreward, tmp_path):
    train = recipe(tmp_path / "r.yaml", tmp_path / "none.jsonl")
    complains(zreward("train", train), "none.jsonl", "no such file")
    complains(zreward("evaluate", "world:small", "--data", tmp_path / "none.jsonl"), "none.jsonl", "no such file")


def test_score_off_the_scale(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture), row(picture, scores={"realism": 7}))
    for command in (("train", recipe(tmp_path / "r.yaml", data)), ("evaluate", "world:small", "--data", data)):
        complains(zreward(*command), "d.jsonl:2", "7", "1", "5")


def test_unknown_dimension(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture, scores={"realsim": 3}))
    complains(zreward("train", recipe(tmp_path / "r.yaml", data)), "d.jsonl:1", "realsim", "realism")
    complains(zreward("score", "world:small", picture, "--prompt", "x", "--dimensions", "beauty"), "beauty", "realism")


def test_unknown_recipe_key(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture))
    bad = recipe(tmp_path / "r.yaml", data, optimizer={"learning_rat": 1e-4})
    complains(zreward("train", bad), "optimizer.learning_rat", "did you mean optimizer.learning_rate?")
    complains(zreward("train", recipe(tmp_path / "r.yaml", data), "sede=3"), "sede", "did you mean seed?")


def test_empty_data_set(zreward, tmp_path):
    data = records(tmp_path / "d.jsonl")
    complains(
        zreward("train", recipe(tmp_path / "r.yaml", data)), "d.jsonl", "is empty", "expected at least one record"
    )
    complains(zreward("evaluate", "world:small", "--data", data), "d.jsonl", "is empty", "expected at least one record")


def test_label_of_two_tokens(zreward, picture, tmp_path):
    """A model folder without zreward.json takes the recipe's rubric; its labels must be single tokens."""
    shutil.copytree(WEIGHTS / "small", tmp_path / "model")
    (tmp_path / "model" / "zreward.json").unlink()
    raw = world_rubric().to_dict()
    raw["labels"] = [*raw["labels"][:-1], "10"]
    (tmp_path / "rubric.yaml").write_text(yaml.safe_dump(raw))
    wanted = {"name": str(tmp_path / "model"), "rubric": str(tmp_path / "rubric.yaml")}
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)), model=wanted)
    complains(zreward("train", train), "label '10'", "tokens", "exactly one token")


def test_checkpoint_of_another_rubric(zreward, picture, tmp_path):
    wanted = {"name": "world:small", "rubric": str(RUBRICS / "default.yaml")}
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)), model=wanted)
    complains(zreward("train", train), "rubric 'world'", "'default'")


def test_missing_checkpoint_and_recipe(zreward, picture, tmp_path):
    complains(zreward("score", tmp_path / "nothing", picture, "--prompt", "x"), "no such checkpoint folder")
    complains(zreward("train", tmp_path / "none.yaml"), "none.yaml")


def test_a_run_directory_in_use_is_not_overwritten(zreward, picture, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("keep me")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)))
    complains(zreward("train", train), "is not empty", "--resume")
    complains(zreward("demo", "--out", tmp_path / "run"), "is not empty", "--resume")


def test_a_failed_start_does_not_block_the_corrected_one(zreward, picture, tmp_path):
    train = recipe(tmp_path / "r.yaml", tmp_path / "d.jsonl")
    complains(zreward("train", train), "d.jsonl")
    records(tmp_path / "d.jsonl", row(picture))
    code, _, _ = zreward("train", train)
    assert code == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.steps=[", "not YAML"),
        ("optimizer.schedule=cosin", "cosin"),
        ("trainer.foo=1", "foo"),
        ("report_to=[foo]", "foo"),
        ("model.lora_rank=-1", "model.lora_rank is -1"),
    ],
)
def test_overrides_that_cannot_be(zreward, picture, tmp_path, override, words):
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)))
    complains(zreward("train", train, override), words)
    assert not (tmp_path / "run").exists()


def test_targets_of_json_are_not_inputs(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture))
    before = data.read_bytes()
    complains(zreward("evaluate", "world:small", "--data", data, "--json", data), "would overwrite")
    complains(zreward("score", "world:small", picture, "--prompt", " "), "--prompt is empty")
    complains(zreward("evaluate", "world:small", "--data", data, "--traces", 4), "--reasoning")
    assert data.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(zreward, picture, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "scores.json"
    complains(zreward("score", "world:small", picture, "--prompt", "x", "--json", target), str(tmp_path / "file"))
    complains(zreward("world", "data", "--out", tmp_path / "file"), str(tmp_path / "file"))


def test_skip_bad_goes_on_and_keeps_what_was_skipped(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture), row(picture, scores={"realism": 7}))
    code, _, _ = zreward("evaluate", "world:small", "--data", data, "--skip-bad", "--json", tmp_path / "m.json")
    assert code == 0
    skipped = [path for path in tmp_path.iterdir() if "bad" in path.name or "skipped" in path.name]
    assert len(skipped) == 1
    assert "7" in skipped[0].read_text()


def test_a_bad_batch_size_is_refused(zreward, picture):
    for value in ("0", "-3"):
        code, _, err = zreward("score", "world:small", picture, "--prompt", "x", "--batch-size", value)
        assert code == 2
        assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "import", "laion", "/nowhere", "/tmp/x"),
        ("world", "pretrain", "huge", "--out", "/tmp/x"),
        ("label", "world:huge", "--data", "x.jsonl", "--out", "/tmp/x"),
    ],
)
def test_unknown_names(zreward, arguments):
    code, _, err = zreward(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert "zreward: " in err


@pytest.fixture
def folder(tmp_path, picture) -> Path:
    """A folder whose pictures.jsonl lists two pictures of two prompts."""
    (tmp_path / "listed").mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(picture, tmp_path / "listed" / name)
    rows = [
        {"image": f"{n}.png", "prompt": prompt, "seed": 0} for n, prompt in enumerate(["a red [circle]", "=a, 'b'"])
    ]
    records(tmp_path / "listed" / "pictures.jsonl", *rows)
    return tmp_path / "listed"


def test_score_takes_folders_whose_manifest_names_the_prompts(zreward, folder, tmp_path):
    code, out, _ = zreward("score", "world:small", folder, "--json")
    assert code == 0
    rows = json.loads(out)["scores"]
    assert [(Path(r["image"]).name, r["prompt"]) for r in rows] == [("0.png", "a red [circle]"), ("1.png", "=a, 'b'")]


def test_score_mixes_files_and_folders_and_names_what_it_skips(zreward, picture, tmp_path):
    (tmp_path / "some").mkdir()
    shutil.copy(picture, tmp_path / "some" / "b.png")
    (tmp_path / "some" / "notes.txt").write_text("x")
    code, out, err = zreward("score", "world:small", picture, tmp_path / "some", "--prompt", "x", "--json")
    assert code == 0
    assert [Path(r["image"]).name for r in json.loads(out)["scores"]] == ["picture.png", "b.png"]
    assert "notes.txt" in err


def test_score_writes_the_same_table_in_every_format(zreward, folder, tmp_path):
    import csv

    import pyarrow.parquet as pq

    for suffix in ("csv", "jsonl", "parquet"):
        target = tmp_path / "deep" / f"scores.{suffix}"
        code, out, err = zreward("score", "world:small", folder, "--out", target, "--json")
        assert code == 0, err
        expected = json.loads(out)["scores"]
    with (tmp_path / "deep" / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "deep" / "scores.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(tmp_path / "deep" / "scores.parquet").to_pylist()
    for cells, line, row in zip(table, lines, expected, strict=True):
        assert (line["image"], line["prompt"]) == (row["image"], row["prompt"]) == (cells["image"], cells["prompt"])
        for name, score in row["dimensions"].items():
            assert {key: line[f"{name}_{key}"] for key in score} == score
            assert float(cells[f"{name}_mean"]) == score["mean"]
            assert [float(cell) for cell in cells[f"{name}_probs"].split(" ")] == score["probs"]
