"""What README.md and docs/guides name in their sentences is there: commands, options, recipes' keys, files, functions, links."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from tests.docs import checked
from tests.docs.blocks import GUIDES, ROOT, without_blocks
from zreward.cli import main as cli
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.recipe import Recipe

_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)")
COMMAND_LINE: Any = typer.main.get_command(cli.app)


def by_name(path: Path) -> str:
    return path.name


def spans(path: Path) -> list[str]:
    """The texts between backticks outside blocks, each on one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(without_blocks(path))]


def keys_of(cls: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of a recipe's fields, sections included."""
    hints = get_type_hints(cls)
    for item in fields(cls):  # type: ignore[arg-type]
        yield prefix + item.name
        if is_dataclass(inner := hints[item.name]):
            yield from keys_of(inner, f"{prefix}{item.name}.")  # type: ignore[arg-type]


def options_of(command: Any) -> set[str]:
    """Of a command, and of all below it."""
    own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    return own.union({"--help"}, *(options_of(one) for one in getattr(command, "commands", {}).values()))


KEYS = {*keys_of(Recipe), *keys_of(OptimizeRecipe)}
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}


def check_zreward(words: list[str]) -> None:
    command = COMMAND_LINE
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    missing = {word.strip("[]") for word in words if word.strip("[").startswith("--")} - options_of(command)
    assert not missing, f"{command.name}: no options {missing}"
    assert not words or command is not COMMAND_LINE, f"no command {words[0]!r}"
    for key in (word.partition("=")[0] for word in words if "=" in word):
        assert command.name in ("reproduce", "bench") or key in KEYS, f"recipes have no {key}"
    named = [word for word in words if word.startswith(("recipes/", "docs/"))]
    assert all((ROOT / word).exists() for word in named), named


def check_python(words: list[str]) -> None:
    assert words[0] == "-m" or words[0].endswith(".py"), words
    script = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
    checked.script([str(ROOT / script), *words])


def check_pytest(words: list[str]) -> None:
    assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), words


def check_function(name: str) -> None:
    """`zreward.module.function`, or a part of it."""
    parts, found = name.split("."), None
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        break
    for part in parts[end:]:
        found = getattr(found, part)


CHECKS = {
    "zreward": check_zreward,
    "python": check_python,
    "pytest": check_pytest,
    "make": checked.make,
    "pip": checked.pip,
}
"""By the first word of a command that stands in a sentence."""


def check(span: str) -> bool:
    """AssertionError (or AttributeError) for a name that leads nowhere; False where no rule concerns it."""
    words = shlex.split(span) if span.count("'") % 2 == 0 and span.count('"') % 2 == 0 else span.split()
    first = words[0] if words else ""
    if first in CHECKS:
        CHECKS[first](words[1:])
    elif first.startswith("--"):
        assert first in options_of(COMMAND_LINE), f"no command has {first}"
    elif re.fullmatch(r"zreward(\.\w+)+(\(.*)?", span) and span != "zreward.json":
        check_function(span.partition("(")[0])
    elif re.fullmatch(r"(zreward|tests|benchmarks|recipes|docs)/[\w./-]+", span):
        assert (ROOT / span).exists(), f"no {span}"
    elif re.fullmatch(rf"({'|'.join(sorted(SECTIONS))})\.\w+(=.*)?", span):
        assert span.partition("=")[0] in KEYS, f"recipes have no {span}"
    else:
        return False
    return True


@pytest.mark.parametrize("path", GUIDES, ids=by_name)
def test_what_a_sentence_names_is_there(path):
    for span in spans(path):
        try:
            check(span)
        except Exception as error:
            raise AssertionError(f"{path.name}: `{span}`: {error}") from error


@pytest.mark.parametrize("path", [*GUIDES, *sorted((ROOT / "docs").glob("*.md"))], ids=by_name)
def test_links_lead_somewhere(path):
    for name, place in _LINK.findall(without_blocks(path)):
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name}: no {name}"
        assert not place or place in anchors(target), f"{path.name}: {name} has no section #{place}"


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "span",
    [
        *("zreward scor MODEL", "zreward score MODEL --promt x", "zreward evaluate MODEL --data FILE [--reasonin]"),
        *(
            "zreward train RECIPE.yaml optimizer.step=3",
            "zreward optimize recipes/none.yaml",
            "zreward data import --x",
        ),
        *(
            "--nothing",
            "optimizer.step",
            "guards.nothing=1",
            "zreward/nothing.py",
            "zreward.integrations.rewards.nothing",
        ),
        *("make nothing", 'pip install "zreward[nothing]"', "python benchmarks/gold_items.py --nothing"),
        *("python -m benchmarks.nothing", "pytest tests/nothing.py"),
    ],
)
def test_a_name_that_leads_nowhere_fails(span):
    with pytest.raises((AssertionError, AttributeError, FileNotFoundError)):
        check(span)
