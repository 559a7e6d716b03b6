"""`zreward init`: templates load as they are and with every comment uncommented, and say every key."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from zreward.audit.thresholds import Thresholds
from zreward.cli import main as cli
from zreward.cli.init import ABOUT, RUBRIC_TEMPLATE, text_of
from zreward.cli.templates import sentences
from zreward.common.config import load_config
from zreward.generation.recipe import OptimizeRecipe
from zreward.rubric import Rubric
from zreward.training.recipe import METHODS, Recipe

KINDS = (*METHODS, "optimize")


def dataclasses_of(cls: type) -> list[type]:
    nested = [hint for hint in get_type_hints(cls).values() if isinstance(hint, type) and is_dataclass(hint)]
    return [cls, *(inner for one in nested for inner in dataclasses_of(one))]


def uncommented(text: str) -> str:
    """Every commented key as a key. A comment that holds a whole section starts where the section's own line does."""
    return re.sub(r"^( *)# ((?:  )*\w+:)", r"\1\2", text, flags=re.MULTILINE)


def test_there_is_one_for_every_method():
    assert set(ABOUT) == set(METHODS)


@pytest.mark.parametrize("kind", KINDS)
def test_recipes_load_and_their_comments_are_the_defaults(kind, tmp_path):
    cls = OptimizeRecipe if kind == "optimize" else Recipe
    text = text_of(kind, Path("recipe.yaml"))
    (tmp_path / "as-it-is.yaml").write_text(text)
    (tmp_path / "uncommented.yaml").write_text(uncommented(text))
    recipe = load_config(cls, tmp_path / "as-it-is.yaml")
    assert load_config(cls, tmp_path / "uncommented.yaml") == recipe
    raw = yaml.safe_load(uncommented(text))

    def keys(cls: type, values: dict) -> None:
        assert list(values) == [item.name for item in fields(cls)]
        for name, hint in get_type_hints(cls).items():
            if isinstance(hint, type) and is_dataclass(hint):
                keys(hint, values[name])

    keys(cls, raw)
    assert text.startswith(f"# zreward {'optimize' if kind == 'optimize' else 'train'} recipe.yaml\n")


def test_thresholds_load_as_they_are_and_uncommented(tmp_path):
    text = text_of("audit", Path("audit.yaml"))
    (tmp_path / "as-it-is.yaml").write_text(text)
    (tmp_path / "uncommented.yaml").write_text(uncommented(text))
    assert load_config(Thresholds, tmp_path / "as-it-is.yaml") == Thresholds()
    assert load_config(Thresholds, tmp_path / "uncommented.yaml") == Thresholds()
    raw = yaml.safe_load(uncommented(text))
    assert (
        list(raw) == [item.name for item in fields(Thresholds)] and raw["prompts"]["rise"] == Thresholds().prompts.rise
    )


@pytest.mark.parametrize(
    "cls",
    [*dataclasses_of(Recipe), *dataclasses_of(OptimizeRecipe), *dataclasses_of(Thresholds)],
    ids=lambda cls: cls.__name__,
)
def test_every_key_has_its_sentence(cls):
    assert [name for name, sentence in sentences(cls).items() if not sentence] == []
    assert set(sentences(cls)) == {item.name for item in fields(cls)}


def test_the_rubric_loads_and_names_every_key():
    rubric, raw = Rubric.from_yaml(RUBRIC_TEMPLATE), yaml.safe_load(RUBRIC_TEMPLATE.read_text())
    assert list(raw) == list(rubric.to_dict())
    assert all(list(one) == list(rubric.dimensions[0].to_dict()) for one in raw["dimensions"])
    lines = RUBRIC_TEMPLATE.read_text().split("  - name: realism")[0].splitlines()[1:]
    assert all("  # " in line for line in lines if re.match(r"(  - |    |)\w+:", line))


def test_the_command_writes_and_overwrites_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", "init", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out + said.err

    assert run("rubric") == (0, "rubric.yaml: written; edit it, then: zreward rubric check rubric.yaml\n")
    assert run("gdso", "--out", "deep/own.yaml")[0] == 0
    assert "# zreward train deep/own.yaml" in Path("deep/own.yaml").read_text()
    code, said = run("rubric")
    assert code == 2 and "rubric.yaml is there already" in said
    assert "\n# zreward train 'it'\"'\"'s.yaml'\n" in "\n" + (
        run("sft", "--out", "it's.yaml") and Path("it's.yaml").read_text()
    )
    code, said = run("sft", "--out", "a\nseed: 1\n.yaml")
    assert code == 2 and "expected a name on one line" in said and not list(tmp_path.glob("a*"))
    code, said = run("rubrik")
    assert code == 2 and "'rubrik' is unknown; expected one of rubric, audit, optimize, sft" in said
