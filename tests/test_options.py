"""Every option of every command does something, or is refused by name before anything expensive happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from zreward.cli import main as cli

SCORE, RANK = ("score", "MODEL", "picture.png", "--prompt", "x"), ("rank", "MODEL", "picture.png", "--prompt", "x")
SCORE_DATA = ("score", "MODEL", "--data", "records.jsonl", "--out", "new.parquet")
EVALUATE = ("evaluate", "MODEL", "--data", "records.jsonl")
BENCH = ("bench", "MODEL", "--suite", "mine=records.jsonl")
LABEL = ("label", "MODEL", "--data", "records.jsonl", "--out", "targets")
CALIBRATE = ("calibrate", "model", "--data", "records.jsonl")
AUDIT = ("audit", "MODEL", "--data", "records.jsonl", "--out", "card")
STUDY, JUDGE = ("compare", "a", "b", "--study", "p"), ("compare", "a", "b", "--judge")

REFUSED = [
    (("score", "--skip-bad"), (*SCORE, "--skip-bad")),
    (("score", "--prompt-field"), (*SCORE, "--prompt-field", "x")),
    (("score", "--image-field"), (*SCORE, "--image-field", "x")),
    (("score", "--prompt"), (*SCORE_DATA, "--prompt", "x")),
    (("score", "images"), (*SCORE_DATA, "picture.png")),
    (("score", "--reference"), (*SCORE_DATA, "--reference", "picture.png")),
    (("score", "--json"), (*SCORE_DATA, "--json")),
    (("score", "--prompt"), ("score", "MODEL", "listed", "--prompt", "x")),
    (("score", "--out"), (*SCORE, "--out", "new.png")),
    (("score", "--out"), (*SCORE, "--out", "old.csv")),
    (("score", "--out"), ("score", "MODEL", "--data", "records.jsonl", "--out", "new.csv")),
    (("score", "--out"), ("score", "MODEL", "--data", "records.jsonl")),
    (("score", "--json"), (*SCORE, "--json", "new.csv")),
    (("score", "--dimensions"), (*SCORE, "--dimensions", ",")),
    (("score", "--temperature"), (*SCORE, "--temperature", "1.0")),
    (("score", "--seed"), (*SCORE, "--seed", "0")),
    (("score", "--traces"), (*SCORE, "--traces", "2", "--temperature", "0")),
    (("score", "--traces"), (*SCORE_DATA, "--traces", "2")),
    (("score", "--reference"), (*SCORE, "--traces", "2", "--reference", "picture.png")),
    (("rank", "--temperature"), (*RANK, "--temperature", "1.0")),
    (("rank", "--seed"), (*RANK, "--seed", "0")),
    (("rank", "--traces"), (*RANK, "--traces", "2", "--temperature", "0")),
    (("evaluate", "--traces"), (*EVALUATE, "--traces", "4")),
    (("evaluate", "--temperature"), (*EVALUATE, "--temperature", "1.0")),
    (("evaluate", "--seed"), (*EVALUATE, "--seed", "0")),
    (("evaluate", "--traces"), (*EVALUATE, "--reasoning", "--traces", "4", "--temperature", "0")),
    (("evaluate", "--html"), (*EVALUATE, "--html", "new.pdf")),
    (("evaluate", "--dev"), (*EVALUATE, "--dev", "records.jsonl")),
    (("evaluate", "--dev-split"), (*EVALUATE, "--dev-split", "dev")),
    (("evaluate", "--tie-threshold"), (*EVALUATE, "--tie-threshold", "0.1")),
    (("evaluate", "--resamples"), (*EVALUATE, "--resamples", "100")),
    (("evaluate", "--editor"), (*EVALUATE, "--reasoning", "--editor", "words")),
    (("evaluate", "--traces"), (*EVALUATE, "--coupling", "--traces", "2")),
    (("evaluate", "--coupling"), ("evaluate", "endpoint:m", "--data", "records.jsonl", "--coupling")),
    (("evaluate", "--csv"), (*EVALUATE, "--csv", "new.xlsx")),
    (("calibrate", "--data"), (*CALIBRATE, "--remove")),
    (("calibrate", "--split"), ("calibrate", "model", "--remove", "--split", "dev")),
    (("calibrate", "--kind"), ("calibrate", "model", "--remove", "--kind", "ordinal")),
    (("calibrate", "--json"), ("calibrate", "model", "--remove", "--json", "new.json")),
    (("calibrate", "--skip-bad"), ("calibrate", "model", "--remove", "--skip-bad")),
    (("calibrate", "--batch-size"), ("calibrate", "model", "--remove", "--batch-size", "4")),
    (("calibrate", "--device"), ("calibrate", "model", "--remove", "--device", "cpu")),
    (("calibrate", "--traces"), (*CALIBRATE, "--traces", "4")),
    (("calibrate", "--temperature"), (*CALIBRATE, "--temperature", "1.0")),
    (("calibrate", "--seed"), (*CALIBRATE, "--seed", "0")),
    (("audit", "--out"), ("audit", "MODEL", "--data", "records.jsonl", "--out", "listed")),
    (("audit", "--checks"), (*AUDIT, "--checks", "invariance,blur")),
    (("audit", "--checks"), (*AUDIT, "--checks", "invariance,invariance")),
    (("audit", "--json"), (*AUDIT, "--json", "new.csv")),
    (("bench", "--traces"), (*BENCH, "--traces", "4")),
    (("bench", "--temperature"), (*BENCH, "--temperature", "0.5")),
    (("bench", "--partial"), (*BENCH, "--partial")),
    (("bench", "--allow-overlap"), ("bench", "--suite", "a=b", "--allow-overlap")),
    (("bench", "--reasoning"), ("bench", "--suite", "a=b", "--reasoning")),
    (("bench", "--batch-size"), ("bench", "--suite", "a=b", "--batch-size", "4")),
    (("bench", "--device"), ("bench", "--suite", "a=b", "--device", "cpu")),
    (("bench", "--images"), (*BENCH, "--images", "other=listed")),
    (("bench", "--out"), (*BENCH, "--out", "old.csv")),
    (("bench", "--suite"), ("bench", "MODEL", "--suite", "records.jsonl")),
    (("label", "--traces"), (*LABEL, "--direct", "--traces", "1")),
    (("label", "--temperature"), (*LABEL, "--direct", "--temperature", "0.5")),
    (("label", "--seed"), (*LABEL, "--direct", "--seed", "1")),
    (("label", "--traces"), (*LABEL, "--traces", "2", "--temperature", "0")),
    (("label", "--resume"), (*LABEL, "--resume")),
    (("label", "--resume"), (*LABEL, "--resume", "--shard", "1/2")),
    (("label", "--shard"), (*LABEL, "--shard", "3/2")),
    (("label", "--vllm"), (*LABEL, "--vllm", "max_length=512")),
    (("label", "--device"), (*LABEL, "--engine", "vllm", "--device", "cpu")),
    (("label", "--workers"), (*LABEL, "--workers", "2")),
    (("label", "--shard"), (*LABEL, "--engine", "ray", "--shard", "1/2")),
    (("score", "--engine"), (*SCORE, "--engine", "ray")),
    (("score", "--workers"), (*SCORE_DATA, "--workers", "2")),
    (("push", "--private"), ("push", "model", "me/judge", "--license", "mit", "--data", "x", "--private", "--dry-run")),
    (("score", "--shard"), (*SCORE, "--shard", "1/2")),
    (("score", "--shard"), (*SCORE_DATA, "--shard", "0/2")),
    (("rank", "--prompt"), ("rank", "MODEL", "listed", "--prompt", "x")),
    (("rank", "--top"), (*RANK, "--top", "2", "--json")),
    (("rank", "--out"), (*RANK, "--out", "sheet.pdf")),
    (("plan", "--teacher-config"), ("plan", "recipe.yaml", "--teacher-config", "config.json")),
    (("train", "--resume"), ("train", "recipe.yaml", "--resume", "--dry-run")),
    (("optimize", "--resume"), ("optimize", "optimize.yaml", "--resume", "--dry-run")),
    (("demo", "--resume"), ("demo", "--out", "nothing", "--resume")),
    *((("compare", option), (*STUDY, option)) for option in ("--reasoning", "--json")),
    (("compare", "--same"), (*STUDY, "--same", "0.25")),
    (("compare", "--overall"), (*STUDY, "--overall", "realism")),
    (("compare", "--device"), (*STUDY, "--device", "cpu")),
    (("compare", "--out"), (*STUDY, "--out", "new.html")),
    (("compare", "--name"), (*JUDGE, "MODEL", "--name", "x")),
    (("compare", "--aspects"), (*JUDGE, "MODEL", "--aspects", "overall")),
    (("compare", "--raters"), (*JUDGE, "MODEL", "--raters", "3")),
    (("compare", "--reasoning"), (*JUDGE, "oracle", "--reasoning")),
    (("compare", "--device"), (*JUDGE, "oracle", "--device", "cpu")),
    (("compare", "--out"), (*JUDGE, "oracle", "--out", "pairs.pdf")),
    (("serve", "--allow-pickle"), ("serve", "MODEL", "--allow-pickle", "--host", "0.0.0.0")),
    (("score", "--dry-run"), ("score", "MODEL", "picture.png", "--prompt", "x", "--dry-run")),
    (("init", "--out"), ("init", "sft", "--out", "old.csv")),
    (("init", "--out"), ("init", "rubric", "--out", "recipe.yaml")),
    (("data import", "--seed"), ("data", "import", "csv", "old.csv", "new", "--seed", "0")),
    (("data import", "--seed"), ("data", "import", "imagerewarddb", ".", "new", "--seed", "0")),
    (("data import", "--pictures"), ("data", "import", "csv", "old.csv", "new", "--pictures", "exist")),
    (("data import", "--pictures"), ("data", "import", "agiqa3k", ".", "new", "--pictures", "exist")),
    (("data import", "--winner"), ("data", "import", "imagerewarddb", ".", "new", "--winner", "x")),
    (("data import", "--image-a"), ("data", "import", "csv", "old.csv", "new", "--image-a", "x")),
    (("data import", "--image-b"), ("data", "import", "csv", "old.csv", "new", "--image-b", "x")),
    (("data import", "--score"), ("data", "import", "csv", "old.csv", "new", "--winner", "x", "--score", "y")),
    *(
        (("data import", f"--{name}"), ("data", "import", "agiqa3k", ".", "new", f"--{name}", "x"))
        for name in ("prompt", "image", "rater", "dimensions", "dimension", "score", "images", "rubric")
    ),
    (("studio init", "--prompt"), ("studio", "init", "p", "--world", "--prompt", "x")),
    (("studio init", "--prompt"), ("studio", "init", "p", "records.jsonl", "--prompt", "x")),
    (("studio init", "--prompts"), ("studio", "init", "p", "listed", "--prompts", "20")),
    (("studio init", "--prompt"), ("studio", "init", "p", "listed", "--prompt", "x")),
    (("studio init", "--seed"), ("studio", "init", "p", "listed", "--seed", "0")),
    (("studio init", "--with-ratings"), ("studio", "init", "p", "listed", "--with-ratings")),
    (("studio init", "--world"), ("studio", "init", "p", "listed", "--world")),
]
"""(command, option) and a command line in which it would have no effect."""

ALWAYS = {
    "": "--version --install-completion --show-completion",
    "score": "--data --batch-size --device",
    "evaluate": "--data --split --reasoning --dimensions --batch-size --skip-bad --device --json --calibration",
    "calibrate": "--reasoning --remove",
    "audit": "--data --split --thresholds --pictures --batch-size --seed --skip-bad --device",
    "bench": "--suite --predictions --use --split --resamples --seed --json",
    "plan": "--gpus --gpu --memory --accelerate --engine --config --json",
    "train": "--dry-run",
    "label": "--data --out --split --dimensions --direct --batch-size --shard-size --skip-bad --device --engine --dry-run "
    "--prompt-field --image-field",
    "export": "--merge --device",
    "push": "--license --data --base --metrics --command --limits --dry-run",
    "demo": "--out --seed",
    "doctor": "--device --json",
    "reproduce": "--out --only --methods --seeds --world-seed --dimensions --jobs",
    "optimize": "--resume --dry-run",
    "rank": "--dimensions --batch-size --device --json",
    "serve": "--host --port --max-batch --max-wait --max-queue --max-image-tokens --max-prompt-tokens --dimensions --token "
    "--device",
    "compare": "--judge --study",
    "studio serve": "--host --port --database --model --https --proxies",
    "studio init": "--rubric --name --raters --administrator --url --database",
    "studio invite": "--role --database --url",
    "studio export": "--accepted-only --everybody --database",
    "studio import": "--images --database",
    "studio gold": "--database",
    "studio predict": "--database",
    "data import": "--skip-bad --winner --list",
    "data preferences": "--dimensions --margin",
    "data split": "--out --train --dev --test --seed",
    "data check": "--rubric --against --json --prompt-field --image-field",
    "rubric check": "--model --prompt --reasoning",
    "world data": "--out --seed --task",
    "world pretrain": "--out --seed",
}
"""Options that have an effect, or are refused for their value, in every command line of their command."""


def options(app: typer.Typer) -> dict[str, set[str]]:
    """command -> its options."""
    found: dict[str, set[str]] = {}

    def visit(command, path: str) -> None:
        names = {parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("-")}
        found[path] = names - {"--help", "-h"}
        for name, child in getattr(command, "commands", {}).items():
            visit(child, f"{path} {name}".strip())

    visit(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("command", sorted(options(cli.app)))
def test_every_option_is_accounted_for(command):
    """A new option is either tried below where it has no effect, or has one always."""
    known = set(ALWAYS.get(command, "").split()) | {option for (name, option), _ in REFUSED if name == command}
    assert options(cli.app)[command] <= known


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to stand in, with a picture, a listed folder and records; loading a model fails the test."""

    def load_model(*_, **__):
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr("zreward.models.reward_model.load", load_model)
    monkeypatch.setattr("zreward.models.reward_model.RewardModel.from_pretrained", load_model)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("picture.png")
    Path("old.csv").write_text("mine")
    Path("listed").mkdir()
    Image.new("RGB", (8, 8)).save("listed/0.png")
    Path("listed/pictures.jsonl").write_text(json.dumps({"image": "0.png", "prompt": "x", "seed": 0}) + "\n")
    Path("records.jsonl").write_text(json.dumps({"image": "picture.png", "prompt": "x"}) + "\n")
    Path("recipe.yaml").write_text("{method: sft, out: run, data: {train: records.jsonl}, model: {name: MODEL}}")
    Path("optimize.yaml").write_text(
        "{student: MODEL, out: run, prompts: p.txt, held_out: h.txt, generator: {name: G}}"
    )
    return tmp_path


@pytest.mark.parametrize(("option", "words"), REFUSED, ids=[" ".join(words) for _, words in REFUSED])
def test_an_option_without_effect_is_refused_by_name(option, words, place, monkeypatch, capsys):
    before = sorted(place.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["zreward", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert option[1].strip(",") in said and said.startswith("zreward: ")
    assert sorted(place.rglob("*")) == before
