"""The one YAML reader: recipes, rubrics, project settings, values of overrides.

Plain data only. Refused, with the line: aliases (a few of them can stand for gigabytes), keys that stand twice, tags,
deep nesting, texts that no UTF-8 file can hold. A date stays the text that it is.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from zreward.common.errors import InputError, shown
from zreward.common.text_files import read_text

YAML_LIMIT = 1 << 18  # bytes
_DEPTH = 50  # levels
_DIGITS = 40  # letters of a number
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self.refuse(event, "anchors and aliases (& and *) are not read; write the value out")
        if isinstance(event, yaml.CollectionStartEvent) and event.tag:
            raise self.refuse(event, f"the tag {shown(event.tag)} is not read; only plain lists and mappings are")
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.refuse(event, f"nested more than {_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise self.refuse(key_node, f"the key {shown(key)} is no text or number")
            if key in seen:
                raise self.refuse(key_node, f"the key {shown(key)} stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_plain(self, node: Any) -> Any:
        """A scalar; what its constructor cannot make is refused with the line, not with its own traceback."""
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > _DIGITS:
            raise self.refuse(node, f"a number of {len(node.value):,} letters; expected at most {_DIGITS}")
        try:
            value = getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(self, node)
        except (ValueError, KeyError, OverflowError):  # 5,000 digits, 0x, !!int of a text
            raise self.refuse(node, f"{shown(node.value)} is no {kind}") from None
        if isinstance(value, str):
            _check_letters(self, node, value)
        return value

    def refuse(self, place: Any, reason: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=reason, problem_mark=place.start_mark)


def _check_letters(loader: _Loader, node: Any, text: str) -> None:
    if "\0" in text:
        raise loader.refuse(node, "a text holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise loader.refuse(node, "a text holds half a surrogate pair, which is no character") from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in _PLAIN]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: made
    for tag, made in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("seq", "map")
}
for _kind in ("null", "bool", "int", "float", "str"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_plain)


def parse_yaml(text: str, where: str) -> Any:
    """Plain data (dictionaries, lists, texts, numbers, None). InputError names `where` and the line."""
    if len(text) > YAML_LIMIT:
        raise InputError(f"{where}: {len(text):,} letters; expected at most {YAML_LIMIT:,}")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {_reason(error)}") from None


def read_yaml(path: str | Path) -> Any:
    return parse_yaml(read_text(path, "a YAML file", YAML_LIMIT), str(path))


def _reason(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return shown(str(error).splitlines()[0])
    return f"line {mark.line + 1}: {problem if len(problem) < 200 else problem[:200] + ' ...'}"
