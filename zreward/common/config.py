"""YAML files as dataclasses: every key is known or refused, every value has its type.

`base: OTHER.yaml` (relative to the file) takes over another file and changes only what the file itself says.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from math import inf, isfinite
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from zreward.common.errors import InputError, shorten, shown
from zreward.common.text_files import read_text
from zreward.common.yaml_text import YAML_LIMIT, parse_yaml, read_yaml

Config = TypeVar("Config")
_BASES = 10  # files over one another
_LARGEST = 2**53  # of a whole number: larger ones are mistakes, and not exact everywhere


def load_config(cls: type[Config], path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `key=value` overrides (dotted keys: optimizer.steps=10).

    Raises InputError for unreadable files, unknown keys (naming the nearest known one) and values of the wrong type.
    """
    raw = _read(Path(path), ())
    for text in overrides:
        _override(raw, text)
    return config_from_dict(cls, raw, str(path))


def config_from_dict(cls: type[Config], raw: dict[str, Any], where: str = "recipe") -> Config:
    """Build a dataclass of dataclasses from nested dictionaries, with the same checks as a file."""
    return _build(cls, raw, where, "")


def config_from_overrides(cls: type[Config], texts: Sequence[str], where: str) -> Config:
    """Build a dataclass from `key=value` texts alone."""
    raw: dict[str, Any] = {}
    for text in texts:
        _override(raw, text)
    return config_from_dict(cls, raw, where)


def without(raw: dict[str, Any], part: str, keys: Sequence[str]) -> dict[str, Any]:
    """Nested dictionaries less some keys of a part, which get their defaults then. A part of another type stays as it is."""
    inner = raw.get(part)
    if not isinstance(inner, dict):
        return raw
    return raw | {part: {key: value for key, value in inner.items() if key not in keys}}


def check_numbers(
    config: Any, may_be_zero: Sequence[str], may_be_negative: Sequence[str] = (), most: Mapping[str, int] | None = None
) -> None:
    """InputError for the first number that is not finite, is negative, is zero where that means nothing, or is above `most`.

    Keys are dotted: `optimizer.steps`. A seed must fit into 32 bits, which is what numpy takes.
    """
    most = {"seed": 2**32 - 1} | dict(most or {})
    for key, value in _numbers(config, ""):
        if value > most.get(key, inf):
            raise InputError(f"recipe: {key} is {shown(value)}, expected at most {most[key]:,}")
        if not isfinite(value) or (value < 0 and key not in may_be_negative) or (value == 0 and key not in may_be_zero):
            expected = "0 or more" if key in may_be_zero else "more than 0"
            raise InputError(f"recipe: {key} is {value}, expected {expected}")


def _numbers(config: Any, prefix: str) -> list[tuple[str, float]]:
    found = []
    for item in fields(config):
        value, key = getattr(config, item.name), prefix + item.name
        if is_dataclass(value):
            found += _numbers(value, f"{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((key, value))
    return found


def one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = difflib.get_close_matches(shorten(value), known, n=1)
        raise InputError(
            f"recipe: {key} is {shown(value)}; expected one of {list(known)}" + (f" ({near[0]}?)" if near else "")
        )


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_KINDS |= {list: "a list", dict: "keys and values"}
"""Types as messages call them."""


def _read(path: Path, inside: tuple[Path, ...]) -> dict[str, Any]:
    """The file's keys, which override those of its base."""
    if path.resolve() in inside:
        raise InputError(f"{path}: its base leads back to itself")
    raw = read_yaml(path)
    if raw is None and _is_template(path):
        raw = {}
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected keys and values, got {type(raw).__name__}")
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise InputError(f"{path}: base is {shown(base)}, expected the path of another recipe")
    if len(inside) == _BASES:
        raise InputError(f"{path}: the {_BASES}th base of a base; put the settings into fewer files")
    return _merge(_read(path.parent / base, (*inside, path.resolve())), raw)


def _is_template(path: Path) -> bool:
    """Whether a file without keys has comments, as `zreward init` writes them. A blank one may be a file that was cut off."""
    lines = [line.strip() for line in read_text(path, "a YAML file", YAML_LIMIT).splitlines()]
    return any(lines) and all(line.startswith("#") for line in lines if line)


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(under[key], over[key])
        for key in over
        if isinstance(under.get(key), dict) and isinstance(over[key], dict)
    }
    return under | over | both


def _override(raw: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    *parents, last = key.split(".")
    if not separator or not all([*parents, last]):
        raise InputError(f"override {shown(text)}: expected key=value, for example optimizer.steps=100")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"override {shown(text)}: {shorten(parent)} holds a value, not further keys")
    place[last] = parse_yaml(value, f"override {shown(text)}")


def _build(cls: type, raw: Any, where: str, prefix: str) -> Any:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {prefix.rstrip('.') or 'recipe'} is {shown(raw)}, expected keys and values")
    known = {item.name: item for item in fields(cls)}
    for key in raw:
        if key not in known:
            wrong = shorten(key)
            near = difflib.get_close_matches(wrong, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys are {sorted(known)}"
            raise InputError(f"{where}: unknown key {prefix}{wrong}; {hint}")
    hints = get_type_hints(cls)
    values = {}
    for name, item in known.items():
        if name not in raw:
            if item.default is MISSING and item.default_factory is MISSING:
                raise InputError(f"{where}: {prefix}{name} is missing")
            continue
        expected = hints[name]
        if is_dataclass(expected):
            values[name] = _build(expected, raw[name], where, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            values[name] = _check(raw[name], expected, where, f"{prefix}{name}")
    return cls(**values)


def _check(value: Any, expected: Any, where: str, key: str) -> Any:
    """The value as the expected type, items of lists and dictionaries too.

    YAML reads 1e-4 as a text, which is taken for the number it is.
    """
    options = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is Any:
            return value
        if option is float and _is_number(value):
            return _number(value, where, key)
        plain, items = get_origin(option) or option, get_args(option)
        if plain is type(None) or not isinstance(value, plain) or isinstance(value, bool) is not (plain is bool):
            continue
        if plain is int:
            return _whole(value, where, key)
        if plain is list and items:
            return [_check(item, items[0], where, f"{key}[{n}]") for n, item in enumerate(value)]
        if plain is dict and items:
            names = [_check(name, items[0], where, f"a name in {key}") for name in value]
            return {name: _check(value[name], items[1], where, f"{key}.{shorten(name)}") for name in names}
        return value
    kinds = " or ".join(_KINDS.get(get_origin(o) or o, str(o)) for o in options if o is not type(None))
    raise InputError(f"{where}: {key} is {shown(value)}, expected {kinds}")


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, where: str, key: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise InputError(f"{where}: {key} is {shown(value)}, expected a finite number")
    return number


def _whole(value: int, where: str, key: str) -> int:
    if abs(value) > _LARGEST:
        raise InputError(f"{where}: {key} is {shown(value)}, expected a whole number of at most {_LARGEST:,}")
    return value
