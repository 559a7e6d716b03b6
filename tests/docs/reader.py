"""Somebody who follows a guide: every block is run in order, in one folder, by a rule that stands here. Nothing is passed over.

Rules make things small (two steps of training, a tiny world), give a server a free port and ask it, or check a line that cannot
be run here (pip, make, several GPUs) against what it names. `done` says what was done with each command and block.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import typer
import yaml

from tests.docs import checked
from tests.docs.blocks import ROOT, Block, commands_of
from tests.docs.servers import Endpoint, Servers
from tests.docs.team import rate
from zreward.cli import main as cli
from zreward.common import registry
from zreward.common.config import config_from_dict
from zreward.data import Record
from zreward.data.preference import preferences_of
from zreward.endpoint.settings import EndpointSettings
from zreward.generation.recipe import OptimizeRecipe
from zreward.rubric import Rubric
from zreward.studio.domain.gold_files import gold_rows
from zreward.training.recipe import Recipe

STUDIO = typer.main.get_command(cli.studio_app).commands.values()  # type: ignore[attr-defined]
SHORT_AUDIT = ("--pictures", "2")
SHORT_TRAINING = (
    *("optimizer.steps=2", "optimizer.batch_size=2", "optimizer.warmup_steps=0", "rollout.group_size=2"),
    *("data.dev_records=4", "model.max_trace_tokens=8", "save_every=2"),
)
SHORT_OPTIMIZATION = (
    *("optimizer.steps=1", "optimizer.batch_size=2", "generator.steps=3", "gradient.steps=[1,2]"),
    *("guards.every=1", "guards.prompts=2", "final.prompts=3"),
)


class Reader:
    """Works in the current folder. `values` are names that a guide's Python uses without defining them."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values = {"__name__": "guide"} | (values or {})
        self.servers, self.endpoint = Servers(), Endpoint()
        self.done: list[str] = []

    def follow(self, block: Block) -> None:
        """Run a block; AssertionError where it fails or no rule knows it."""
        rule = {"sh": self._shell, "bash": self._shell, "python": self._python, "yaml": self._yaml, "json": self._json}
        rule |= {"csv": self._csv, "toml": self._toml, "": self._listing}
        assert block.language in rule, f"{block.place}: no rule for {block.language!r}"
        try:
            rule[block.language](block)
        except Exception as error:
            error.add_note(f"in the block at {block.place}")
            raise

    def close(self) -> None:
        self.servers.stop()
        self.endpoint.stop()

    def _note(self, block: Block, what: str) -> None:
        self.done.append(f"{block.place}: {what}")

    def _toml(self, block: Block) -> None:
        """A package's declaration: it must be TOML, and name groups that the registry knows."""
        groups = tomllib.loads(block.text)["project"]["entry-points"]
        known = {registry.MODELS, registry.GENERATORS, registry.PROMPTS, registry.JUDGES, registry.METHODS}
        known.add(registry.AUDIT_DEFECTS)
        known.add(registry.TRACE_EDITORS)
        assert set(groups) <= known, f"{set(groups) - known} are no groups of zreward"
        self._note(block, "entry points")

    # Shell

    def _shell(self, block: Block) -> None:
        for words in commands_of(block):
            shown = " ".join(words)
            variables = {}
            while "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                variables[name] = value
            words = [checked.NAMES.get(word, word) for word in words]
            rules = {
                "pip": checked.pip,
                "make": checked.make,
                "accelerate": checked.accelerate,
                "python": checked.script,
                "torchrun": self._torchrun,
            }
            assert words[0] in {"zreward", *rules}, f"{block.place}: no rule for {shown!r}"
            name, *rest = words
            what = self._zreward(rest, variables) if name == "zreward" else rules[name](rest)
            self._note(block, f"{shown}: {what}")

    def _torchrun(self, words: list[str]) -> str:
        """Several GPUs: one process checks the inputs. tests/test_jobs_killed.py runs two."""
        module = words.index("zreward.cli")
        assert words[module - 1] == "-m" and words[0] == "--nproc_per_node" and int(words[1]) > 1
        return self._zreward([*words[module + 1 :], "--dry-run"], {})

    def _zreward(self, words: list[str], variables: dict[str, str]) -> str:
        serves_studio = words[0] == "studio" and not any(words[1] == one.name for one in STUDIO)
        if words[0] == "serve" or serves_studio or words[:2] == ["studio", "serve"]:
            return self.servers.start(words, variables)
        meanwhile = ""
        words = [self.endpoint.named(word) if word.startswith("endpoint:") else word for word in words]
        if words[0] == "reproduce":
            return checked.plan(words[1:])
        if words[0] == "demo":
            return "its miniature is tests/test_demo.py"
        if words[:2] == ["studio", "init"]:
            shutil.rmtree(words[2], ignore_errors=True)  # alternatives of one name stand below each other
            words = ["plain" if word == "pictures/" and "--prompt" in words else word for word in words]
        if words[:2] == ["studio", "export"]:
            meanwhile = f"{rate(Path(words[2]))}; "
        if words[0] == "train" and "--dry-run" not in words:
            words = [*words, *SHORT_TRAINING]
        if words[0] == "optimize" and "--dry-run" not in words:
            words = [*words, *SHORT_OPTIMIZATION]
        if words[0] == "audit":
            words = [*words, *SHORT_AUDIT]
        run_zreward(words, may_fail=words[0] == "audit")
        absent = [name for name in _promised(words) if not Path(name).exists()]
        assert not absent, f"zreward {' '.join(words)} did not write {absent}"
        return f"{meanwhile}run"

    # Python, YAML, JSON and listings

    def _python(self, block: Block) -> None:
        text = block.text
        for usual, url in self.servers.urls.items():
            text = text.replace(usual, url)
        exec(compile("\n" * (block.line - 1) + text, block.guide, "exec"), self.values)
        self._note(block, f"Python of {len(text.splitlines())} lines: run")

    def _yaml(self, block: Block) -> None:
        raw = yaml.safe_load(block.text)
        if "dimensions" in raw:
            Rubric.from_dict(raw)
            what = "read as a rubric"
        elif "url" in raw:
            config_from_dict(EndpointSettings, raw)
            what = "read as an endpoint's settings"
        elif {"student", "monitor"} & set(raw):  # the second alone is a part of one
            config_from_dict(OptimizeRecipe, dict.fromkeys(("student", "out", "prompts", "held_out"), "named") | raw)
            what = "read as a recipe of zreward optimize"
        else:
            config_from_dict(Recipe, raw)
            what = "read as a recipe of zreward train"
        if name := re.match(r"# (\S+\.yaml)\n", block.text):
            Path(name[1]).write_text(block.text)
            what += f", written to {name[1]}"
        self._note(block, f"YAML: {what}")

    def _json(self, block: Block) -> None:
        for line in map(json.loads, block.text.splitlines()):
            preferences_of(line) if "images" in line and "scores" not in line else Record.from_dict(line)
        self._note(block, "JSON: read as records, or as preferences")

    def _csv(self, block: Block) -> None:
        rows = list(gold_rows(block.text, "gold.csv"))
        wrong = [f"{where}: {row}" for where, row in rows if isinstance(row, str)]
        assert rows and not wrong, wrong
        Path("gold.csv").write_text(block.text)
        self._note(block, f"a table of gold items: {len(rows)} rows are read, written to gold.csv")

    def _listing(self, block: Block) -> None:
        """A tree of files: every name is there."""
        names = re.findall(r"^ *([\w/]+(?:\.\w+)?(?:, [\w/]+\.\w+)*)", block.text, re.MULTILINE)
        absent = [
            name for names_ in names for name in names_.split(", ")
            if not any((base / name.rstrip("/")).exists() for base in (ROOT, ROOT / "zreward"))
        ]  # fmt: skip
        assert not absent, f"{block.place}: not there: {absent}"
        self._note(block, f"a listing: {len(names)} names are there")


def _promised(words: list[str]) -> list[str]:
    """Files and folders that a command says it writes."""
    if "--dry-run" in words or "--shard" in words:
        return []
    if words[0] == "merge":
        return words[1:2]
    named = [after for word, after in itertools.pairwise(words) if word in ("--out", "--html", "--csv")]
    named += [word.removeprefix("out=") for word in words if word.startswith("out=")]
    return named + (words[3:4] if words[:2] == ["studio", "export"] else [])


def run_zreward(words: list[str], may_fail: bool = False) -> str:
    """The command in this process; its standard output. AssertionError with what it complained about.

    `may_fail`: exit code 1 is a result (an audit of the miniature finds something).
    """
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["zreward", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        if stop.code and not (may_fail and stop.code == 1):
            raise AssertionError(
                f"zreward {' '.join(words)}: exit code {stop.code}: {err.getvalue()[-2000:]}"
            ) from None
    finally:
        sys.argv = before
    return out.getvalue()
