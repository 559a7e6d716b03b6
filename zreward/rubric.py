"""Rubrics: what is judged (dimensions with anchors), on which scale, and which label stands for each score."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from zreward.common.errors import InputError, shorten, shown
from zreward.common.files import write_text
from zreward.common.texts import check_unicode, is_blank, is_line
from zreward.common.yaml_text import read_yaml
from zreward.distribution import ScoreScale

_DEFAULT = Path(__file__).parent / "rubrics" / "default.yaml"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_MOST_DIMENSIONS = 100
_LINE, _TEXT = 200, 10_000  # letters of a name, title or label, and of a question or anchor


@dataclass(frozen=True)
class Dimension:
    """One aspect that is scored.

    Args:
        name: letters, digits, - and _, at most 64; used in files and options.
        title: for people and prompts.
        question: what the model is asked.
        anchors: at least two scores of the scale, each with the visible evidence for it.

    Raises:
        InputError: a field that is none of this.
    """

    name: str
    title: str
    question: str
    anchors: dict[int | float, str] = field(hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name == "all":
            raise InputError(
                f"rubric: dimension name {shown(self.name)}; expected at most 64 letters, digits, - and _, starting with a "
                "letter, and not 'all', which names the pooled row of tables"
            )
        _check_line(self.title, f"dimension {self.name!r}: title")
        _check_text(self.question, f"dimension {self.name!r}: question")
        if not isinstance(self.anchors, Mapping) or len(self.anchors) < 2:
            raise InputError(f"rubric: dimension {self.name!r} needs at least two anchors {{score: text}}")
        anchors = {_anchor_score(score, self.name): text for score, text in self.anchors.items()}
        for score, text in anchors.items():
            _check_text(text, f"dimension {self.name!r}: anchor {score}")
        if len(anchors) != len(self.anchors):
            raise InputError(f"rubric: dimension {self.name!r} names an anchor twice: {shown(list(self.anchors))}")
        object.__setattr__(self, "anchors", dict(sorted(anchors.items())))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return {"name": self.name, "title": self.title, "question": self.question, "anchors": dict(self.anchors)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Dimension:
        """A dimension from what `to_dict` returned; the title defaults to the name. InputError for unknown or missing keys."""
        _check_keys(data, ("name", "title", "question", "anchors"), ("name", "question", "anchors"), "dimension")
        return cls(data["name"], data.get("title", str(data["name"]).capitalize()), data["question"], data["anchors"])


@dataclass(frozen=True)
class Rubric:
    """Dimensions scored on one scale.

    Args:
        name: of the rubric, on one line.
        version: text; wordings may change between versions.
        scale: the scores.
        labels: bin k is answered with `labels[k]`, one token of the model; default "1", "2", ...
        dimensions: at least one.

    Raises:
        InputError: a wrong field, two names or labels that read alike, another number of labels than bins.
    """

    name: str
    version: str
    scale: ScoreScale = field(default_factory=ScoreScale)
    labels: tuple[str, ...] = ()
    dimensions: tuple[Dimension, ...] = ()

    def __post_init__(self) -> None:
        for key in ("name", "version"):
            _check_line(getattr(self, key), key)
        labels = tuple(self.labels) or tuple(str(k + 1) for k in range(len(self.scale)))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        for label in labels:
            _check_line(label, f"label {shown(label)}")
        collision = _same(labels, lambda label: unicodedata.normalize("NFKC", label).strip())
        if len(labels) != len(self.scale) or collision:
            raise InputError(
                f"rubric {self.name!r}: {len(labels)} labels {shown(labels)} for the {len(self.scale)} bins of "
                f"{self.scale.to_dict()}; expected one different label per bin, lowest score first"
                + (f" ({collision[0]!r} and {collision[1]!r} read alike)" if collision else "")
            )
        names = self.dimension_names
        if not 1 <= len(names) <= _MOST_DIMENSIONS:
            raise InputError(
                f"rubric {self.name!r}: {len(names)} dimensions; expected at least one and at most {_MOST_DIMENSIONS}"
            )
        if twice := _same(names, lambda name: name.lower().replace("-", "_")):
            raise InputError(
                f"rubric {self.name!r}: dimensions {twice[0]!r} and {twice[1]!r} have the same name but for case, - and _; "
                "expected no name twice"
            )
        for dimension in self.dimensions:
            for score in dimension.anchors:
                self.label(score, f"rubric {self.name!r}: dimension {dimension.name!r}: anchor")

    @property
    def dimension_names(self) -> tuple[str, ...]:
        return tuple(dimension.name for dimension in self.dimensions)

    def dimension(self, name: str) -> Dimension:
        """The dimension of that name; InputError names the known ones, nearest first."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        known = ", ".join(_nearest_first(shorten(name), self.dimension_names))
        raise InputError(f"unknown dimension {shown(name)}; rubric {self.name!r} has: {known}")

    def check_names(self, dimensions: Sequence[str] | None) -> tuple[str, ...]:
        """The dimensions asked for (default: all), each known and named once; InputError otherwise."""
        if dimensions is None:
            return self.dimension_names
        if isinstance(dimensions, str) or not isinstance(dimensions, Iterable) or not dimensions:
            raise InputError(f"dimensions is {shown(dimensions)}; expected a list of names from {self.dimension_names}")
        names = tuple(self.dimension(name).name for name in dimensions)
        if len(set(names)) < len(names):
            raise InputError(f"dimensions {shown(list(names))} name one twice; expected each once")
        return names

    def label(self, score: float, what: str = "score") -> str:
        """The label of a score that lies on a bin; InputError between bins or off the scale."""
        position = (self.scale.validate(score, what) - self.scale.min) / self.scale.step
        if abs(position - round(position)) > 1e-6:
            raise InputError(f"{what} {score:g} lies between the bins {self.scale.bins.tolist()}")
        return self.labels[round(position)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "scale": self.scale.to_dict(),
            "labels": list(self.labels),
            "dimensions": [dimension.to_dict() for dimension in self.dimensions],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rubric:
        """Accepts what `to_dict` returned, also after JSON has turned anchor scores into strings."""
        _check_keys(data, ("name", "version", "scale", "labels", "dimensions"), ("name", "dimensions"), "rubric")
        labels, dimensions = data.get("labels") or (), data["dimensions"]
        if not isinstance(labels, (list, tuple)) or not isinstance(dimensions, (list, tuple)):
            raise InputError(f"rubric {shown(data['name'])}: labels and dimensions must be lists")
        labels = tuple(str(x) if isinstance(x, int) and not isinstance(x, bool) else x for x in labels)
        version = data.get("version", "1")
        return cls(
            name=data["name"],
            version=str(version) if isinstance(version, (int, float)) else version,
            scale=ScoreScale.from_dict(data.get("scale", {})),
            labels=labels,
            dimensions=tuple(Dimension.from_dict(item) for item in dimensions),
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Rubric:
        """Read a rubric file; `zreward init rubric` writes a template. InputError names the file, line and key."""
        data = read_yaml(path)
        try:
            return cls.from_dict(data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_yaml(self, path: str | Path) -> None:
        """Written in one step, so that a reader never sees half a file."""
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110))

    @classmethod
    def default(cls) -> Rubric:
        """The rubric shipped with the package: alignment, realism, aesthetics, plausibility on nine half-point bins."""
        return cls.from_yaml(_DEFAULT)

    def fingerprint(self) -> str:
        """16 hex digits over all that a model is trained against: name, scale, labels, dimensions (not the version)."""
        content = self.to_dict()
        del content["version"]
        for dimension in content["dimensions"]:
            dimension["anchors"] = [[float(score), text] for score, text in dimension["anchors"].items()]
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _nearest_first(name: str, known: Iterable[str]) -> list[str]:
    return sorted(known, key=lambda k: -difflib.SequenceMatcher(None, name.lower(), k.lower()).ratio())


def _check_keys(data: Any, known: tuple[str, ...], required: tuple[str, ...], what: str) -> None:
    if not isinstance(data, Mapping):
        raise InputError(f"{what}: expected a mapping with the keys {', '.join(known)}, got {type(data).__name__}")
    for key in data:
        if key not in known:
            raise InputError(
                f"{what}: unknown key {shown(key)}; known, nearest first: {', '.join(_nearest_first(shorten(key), known))}"
            )
    missing = [key for key in required if key not in data]
    if missing:
        raise InputError(f"{what} {shown(data.get('name', ''))}: missing {', '.join(missing)}")


def _check_text(value: Any, what: str, most: int = _TEXT) -> None:
    if not isinstance(value, str) or is_blank(value):
        raise InputError(f"rubric: {what} is {shown(value)}, expected text that is not empty (quote it in YAML)")
    check_unicode(value, f"rubric: {what}")
    if len(value) > most:
        raise InputError(f"rubric: {what} has {len(value):,} letters ({shown(value)}), expected at most {most:,}")
    if not all(is_line(line) for line in value.replace("\t", " ").splitlines()):
        raise InputError(f"rubric: {what} holds control characters ({shown(value)}); take them out")


def _check_line(value: Any, what: str) -> None:
    _check_text(value, what, _LINE)
    if not is_line(value):
        raise InputError(f"rubric: {what} is {shown(value)}, expected a single line of text")


def _same(names: Iterable[str], form: Callable[[str], str]) -> tuple[str, str] | None:
    """The first two names that have the same form."""
    first: dict[str, str] = {}
    for name in names:
        if form(name) in first:
            return first[form(name)], name
        first[form(name)] = name
    return None


def _anchor_score(score: Any, dimension: str) -> int | float:
    try:
        number = float(score if not isinstance(score, bool) else "no number")
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"rubric: dimension {dimension!r}: anchor {shown(score)}, expected a score of the scale"
        ) from None
    return int(number) if number.is_integer() else number
