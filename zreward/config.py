"""YAML files as dataclasses: every key is known or refused, every value has its type.

`base: OTHER.yaml` (relative to the file) takes over another file and changes only what the file itself says.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from zreward.errors import InputError

Config = TypeVar("Config")


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


def check_numbers(config: Any, may_be_zero: Sequence[str], may_be_negative: Sequence[str] = ()) -> None:
    """InputError for the first number that is not finite, is negative, or is zero where that means nothing.

    Keys are dotted: `optimizer.steps`.
    """
    for key, value in _numbers(config, ""):
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
        near = difflib.get_close_matches(str(value), known, n=1)
        raise InputError(
            f"recipe: {key} is {value!r}; expected one of {list(known)}" + (f" ({near[0]}?)" if near else "")
        )


def _read(path: Path, inside: tuple[Path, ...]) -> dict[str, Any]:
    """The file's keys over those of its base."""
    if path.resolve() in inside:
        raise InputError(f"recipe {path}: its base leads back to itself")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict):
        raise InputError(f"recipe {path}: expected keys and values, got {type(raw).__name__}")
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise InputError(f"recipe {path}: base is {base!r}, expected the path of another recipe")
    return _merge(_read(path.parent / base, (*inside, path.resolve())), raw)


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(under[key], over[key])
        for key in over
        if isinstance(under.get(key), dict) and isinstance(over[key], dict)
    }
    return under | over | both


def _override(raw: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"override {text!r}: expected key=value, for example optimizer.steps=100")
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"override {text!r}: {parent} holds a value, not further keys")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is not YAML: {str(error).splitlines()[0]}") from None


def _build(cls: type, raw: Any, where: str, prefix: str) -> Any:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {prefix or 'recipe'} is {raw!r}, expected keys and values")
    known = {item.name: item for item in fields(cls)}
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys are {sorted(known)}"
            raise InputError(f"{where}: unknown key {prefix}{key}; {hint}")
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
    """The value as the expected type; YAML reads 1e-4 as a text, which is taken for the number it is."""
    options = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    if value is None and type(None) in options:
        return None
    if float in options and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    for option in options:
        plain = get_origin(option) or option
        if plain is not type(None) and isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
            return value
    names = " or ".join(getattr(o, "__name__", str(o)) for o in options if o is not type(None))
    raise InputError(f"{where}: {key} is {value!r}, expected {names}")
