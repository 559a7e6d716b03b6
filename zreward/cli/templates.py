"""Commented recipes, written from the recipes' own dataclasses: every key with its default and the sentence beside it.

What a template sets is written plainly; every other key stands as a comment with its default, ready to be uncommented.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

import yaml


def template(cls: type, values: Mapping[str, Any], header: list[str]) -> str:
    """YAML that `zreward.common.config.load_config` reads as `cls` with `values` (dotted keys) and defaults for the rest."""
    lines = [*(f"# {line}" for line in header), *_section(cls, values, "", 0)]
    return "\n".join(lines) + "\n"


def sentences(cls: type) -> dict[str, str]:
    """Field -> the comment on its line or lines in the source of the dataclass."""
    source = textwrap.dedent(inspect.getsource(cls))
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            comments[token.start[0]] = token.string.removeprefix("#").strip()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(comments[line] for line in lines if line in comments)
    return found


def _section(cls: type, values: Mapping[str, Any], prefix: str, depth: int) -> Iterator[str]:
    """Lines of one dataclass. A nested one of which nothing is set is a comment as a whole."""
    hints, said = get_type_hints(cls), sentences(cls)
    for item in fields(cls):
        key, indent = prefix + item.name, "  " * depth
        note = f"  # {said[item.name]}" if said.get(item.name) else ""
        nested = hints[item.name]
        if isinstance(nested, type) and is_dataclass(nested):
            inside = list(_section(nested, values, f"{key}.", depth + 1))
            head = f"{indent}{item.name}:{note}"
            if any(name.startswith(f"{key}.") for name in values):
                yield from (head, *inside)
            else:
                yield f"{indent}# {head.strip()}"
                yield from (f"{indent}# {_uncommented(line)[len(indent) :]}" for line in inside)
        elif key in values:
            yield f"{indent}{item.name}: {_plain(values[key])}{note}"
        else:
            yield f"{indent}# {item.name}: {_plain(_default(item, key))}{note}"


def _uncommented(line: str) -> str:
    return line.replace("# ", "", 1) if line.lstrip().startswith("# ") else line


def _default(item: Field, key: str) -> Any:
    if item.default is not MISSING:
        return item.default
    assert item.default_factory is not MISSING, f"{key} has no default: the template has to set it"
    return item.default_factory()


def _plain(value: Any) -> str:
    """The value on one line of YAML."""
    value = list(value) if isinstance(value, tuple) else value
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value)  # YAML's double quotes, on one line
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n").strip()
    )
