"""`zreward plan` as a user meets it, and the figures in the recipes' headers."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from zreward.cli.main import main

ROOT = Path(__file__).parents[2]
KINDS = "weights gradients optimizer activations logits kv_cache reference teacher reserve total"


@pytest.fixture
def run(monkeypatch, capsys):
    """run(words) -> exit code, stdout, stderr; in the repository's folder."""
    monkeypatch.chdir(ROOT)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return command


@pytest.mark.parametrize("name", ["qwen3.5-27b-gdso", "qwen3.5-9b-risd"])
def test_a_recipes_header_says_what_the_command_says(run, name):
    lines = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("# zreward plan "))
    words = shlex.split(lines[place].removeprefix("# zreward "))
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert lines[place + 1] == f"#   {out.splitlines()[0]}"


def test_json_on_standard_output(run):
    code, out, _ = run("plan", "recipes/qwen3.5-9b-risd.yaml", "--gpus", "8", "--engine", "fsdp", "--json", "-")
    found = json.loads(out)
    assert code == 0 and found["fits"] is True
    assert found["parameters"] == 9_409_813_744
    assert set(KINDS.split()) <= set(found["bytes"])
    assert {"trainable", "tokens", "flops", "seconds", "assumptions"} <= set(found)
    assert found["machines"] == {"engine": "fsdp", "gpus": 8, "card": "H100 SXM", "memory": 80 * 10**9}


def test_a_recipe_that_does_not_fit(run, tmp_path):
    file = tmp_path / "plan.json"
    recipe = "recipes/qwen3.5-9b-risd.yaml"
    code, out, err = run("plan", recipe, "--gpus", "2", "--memory", "16", "--json", str(file))
    assert code == 2
    assert "does not fit" in out and json.loads(file.read_text())["fits"] is False
    assert re.fullmatch(
        rf"zreward: {recipe} needs [\d.]+ GB on each GPU, which has 16 GB; the nearest configuration that fits "
        r"\([\d.]+ GB\): .*--engine fsdp.* \(tried in this order: .*\)\n",
        err,
    )
    changes = re.search(r"GB\): (.*) \(tried", err)
    assert changes
    code, out, _ = run("plan", recipe, "--gpus", "2", "--memory", "16", *changes[1].split())
    assert code == 0 and ": fits;" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpu", "h1000"), "--gpu h1000 is unknown"),
        (("--engine", "none", "--gpus", "2"), "--engine none is one process"),
        (("model.name=nobody/none",), "give it with --config FILE.json"),
        (("model.lora_rnak=3",), "lora_rank"),
    ],
)
def test_refused(run, words, message, monkeypatch):
    code, _, err = run("plan", "recipes/qwen3.5-9b-risd.yaml", *words)
    assert code == 2 and message in err and err.count("\n") == 1
