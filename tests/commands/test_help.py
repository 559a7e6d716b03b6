"""What `zreward` says of itself: help with examples, versions, completion, the nearest word for a mistyped one."""

from __future__ import annotations

import shlex

import pytest
import typer

from zreward import __version__ as version
from zreward.cli import main as cli
from zreward.cli.examples import EXAMPLES


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
