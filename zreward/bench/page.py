"""The page of `zreward bench --out`: figures of all models, and the pairs on which each model is most wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zreward.bench.figures import FIGURES, PairAnswers, PictureAnswers
from zreward.bench.results import HEAD, interval_text, table_lines
from zreward.bench.run import Measured, differences
from zreward.bench.suite import Suite
from zreward.common.errors import InputError
from zreward.data.images import open_image
from zreward.distribution import GAP_TOLERANCE
from zreward.evaluation.report.sections import Figure, Section, write_sections

T = TypeVar("T")
WRONG = 8  # pairs of a model and a dimension, each of another prompt
NAMES = 4  # columns of `HEAD` that are names


def write_page(
    path: Path,
    suites: Sequence[Suite],
    measured: Sequence[Measured],
    quoted: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    meta: Mapping[str, Any],
) -> Path:
    """Write one HTML page that loads nothing else.

    Args:
        path: the .html file.
        suites: what was measured.
        measured: what models said of it.
        quoted: published figures of others.
        notes: what a reader must know.
        meta: what was run.

    Returns:
        `path`.
    """
    official = table_lines(suites, measured, quoted)
    sections = [Section("Official figures", _rules(suites, notes), HEAD, official, NAMES)]
    rows = list(differences(measured))
    if rows:
        head = ("suite", "dimension", "figure", "model", "minus", "difference", "95 % interval")
        note = "On the same draws of prompts. A difference whose interval holds 0 may be chance."
        lines = [
            [
                *(row["suite"], row["dimension"], FIGURES[row["figure"]].title, row["model"], row["minus"]),
                *(f"{row['value']:+.4f}", interval_text(row["low"], row["high"])),
            ]
            for row in rows
        ]
        sections.append(Section("Differences to the first model", note, head, lines, names=5))
    if quoted:
        sections.append(_sources(quoted))
    sections += [section for one in measured if (section := _wrong(one)) is not None]
    sections.append(Section("All figures", _terms(), HEAD, table_lines(suites, measured, [], every=True), NAMES))
    shown = {name: value for name, value in meta.items() if value not in ({}, [], None)}
    return write_sections(path, "Benchmarks of human preference", shown, sections, "zreward bench")


def _rules(suites: Sequence[Suite], notes: Sequence[str]) -> str:
    said = [f"{one.name}: {FIGURES[one.official].title}{f' ({one.source})' if one.source else ''}." for one in suites]
    return " ".join([*said, "Intervals over prompts.", *(f"{note}." for note in notes)])


def _terms() -> str:
    return (
        "Accuracy without ties: over pairs with a winner; a predicted tie is wrong. NLL, Brier and ECE compare the probability "
        "that a is better with the share of the votes. HPA: the same over all pictures of a prompt that people score differently."
    )


def _sources(quoted: Sequence[Mapping[str, Any]]) -> Section:
    lines = [
        [one["suite"], one["model"], FIGURES[one["figure"]].title, one["source"], f"{one['value']:g}"] for one in quoted
    ]
    note = "As others published them; nothing of this was measured here. Their prompts, splits and ties may differ."
    return Section("Quoted figures", note, ("suite", "model", "figure", "source", "value"), lines, names=4)


def _wrong(one: Measured) -> Section | None:
    """The pairs that a model orders against people, most wrong first; None where there is none."""
    make: Any = _wrong_pairs if isinstance(one.answers, PairAnswers) else _wrong_pictures
    found = list(make(one, one.answers))
    if not found:
        return None
    what = f"{one.suite.name}, {one.dimension}"
    note = f"Pairs of one prompt that the model orders against people: the worst of each prompt, the surest first. {found[0][1]}"
    figures = [figure for figure, _ in found]
    return Section(f"{one.model} on {what}: most wrong", f"{note} People prefer the left picture.", figures=figures)


def _wrong_pairs(one: Measured, answers: PairAnswers) -> Iterator[tuple[Figure, str]]:
    a, b, tie = answers.votes.T
    winner = np.where(tie > np.maximum(a, b), 0, np.sign(a - b))
    lead = answers.gap * winner  # of people's winner
    prob = None if answers.prob is None else np.where(winner > 0, answers.prob, 1 - answers.prob)
    wrong = np.flatnonzero((winner != 0) & (lead <= GAP_TOLERANCE))
    note = f"{len(wrong):,} of {int((winner != 0).sum()):,} pairs with a winner, predicted ties included."
    order = wrong[np.argsort((lead if prob is None else prob)[wrong], kind="stable")].tolist()
    for n in _one_of_each(order, lambda n: answers.group[n]):
        pair = one.suite.preferences[answers.number[n]]
        images = pair.images if winner[n] > 0 else pair.images[::-1]
        left, right = (a[n], b[n]) if winner[n] > 0 else (b[n], a[n])
        said = f"gap {lead[n]:+.2f}" if prob is None else f"P(left better) {prob[n]:.2f}"
        text = f"people {left:g} to {right:g}{f', {tie[n]:g} ties' if tie[n] else ''}; model: {said}"
        yield Figure(_opened(images), pair.prompt, text), note


def _wrong_pictures(one: Measured, answers: PictureAnswers) -> Iterator[tuple[Figure, str]]:
    members: dict[Any, list[int]] = {}
    for n, group in enumerate(answers.group):
        members.setdefault(group, []).append(n)
    pairs = [
        (i, j) for group in members.values() for i in group for j in group if answers.target[i] > answers.target[j]
    ]
    # How much people's gap and the model's gap disagree, each as a share of its spread.
    spread = [float(np.ptp(values)) or 1.0 for values in (answers.target, answers.score)]
    wrong = [(i, j) for i, j in pairs if answers.score[i] - answers.score[j] <= GAP_TOLERANCE]
    wrong.sort(
        key=lambda pair: (
            -(answers.target[pair[0]] - answers.target[pair[1]]) / spread[0]
            - (answers.score[pair[1]] - answers.score[pair[0]]) / spread[1]
        )
    )
    note = f"{len(wrong):,} of {len(pairs):,} pairs, predicted ties included."
    for i, j in _one_of_each(wrong, lambda pair: answers.group[pair[0]]):
        left, right = (one.suite.pictures[answers.number[n]] for n in (i, j))
        people = f"people {answers.target[i]:.2f} and {answers.target[j]:.2f}"
        model = f"model {answers.score[i]:.2f} and {answers.score[j]:.2f}"
        yield Figure(_opened((left.image, right.image)), left.prompt, f"{people}; {model}"), note


def _one_of_each(order: Iterable[T], prompt: Callable[[T], Any]) -> list[T]:
    """The first of each prompt, so that one prompt does not fill the page."""
    found: dict[Any, T] = {}
    for one in order:
        found.setdefault(prompt(one), one)
    return list(found.values())[:WRONG]


def _opened(images: Sequence[Any]) -> list[Any]:
    """The pictures; none of a pair where one is not there: tables of predictions are measured without pictures."""
    try:
        return [open_image(image) for image in images]
    except InputError:
        return []
