"""Edits of a reasoning trace whose effect on the score is known in direction: a defect made worse or milder, added, removed.

An editor is a function that lists the edits of a text. The one here, `words`, reads English prose by a small table of defects,
degrees and negations, and needs no truth; packages bring others for traces that they know better, by entry points of the
group `zreward.trace_editors` (see `zreward.common.registry`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from zreward.common import registry
from zreward.common.errors import InputError
from zreward.models.draws import seed_of

DIRECTIONS = {"worse": -1, "milder": 1, "added": -1, "removed": 1}
"""Kind of edit -> the direction in which the score should move."""


class Edit(NamedTuple):
    """A changed trace."""

    kind: str
    """A key of `DIRECTIONS`."""
    text: str
    """The whole trace after the edit."""
    points: float | None = None
    """By how many score points the text's meaning changes, with its sign; None where nobody knows."""

    @property
    def direction(self) -> int:
        return DIRECTIONS[self.kind]


Editor = Callable[[str, str, str], list[Edit]]
"""Text of a trace, prompt, dimension -> all its edits, in a fixed order. A text that it cannot read has none."""

WORDS = "words"


def find_editor(name: str) -> Editor:
    """The editor of that name: `words`, or one that an installed package registers; InputError for others."""
    if name == WORDS:
        return edit_words
    found = registry.find(registry.TRACE_EDITORS, name)
    if found is None:
        known = ", ".join([WORDS, *registry.names(registry.TRACE_EDITORS)])
        raise InputError(f"trace editor {name!r} is not known; expected one of: {known}")
    return found


def choose(edits: Sequence[Edit], *seed: int | str) -> dict[str, Edit]:
    """One edit of each kind that there is, drawn by `seed`: kind -> edit, in the order of `DIRECTIONS`."""
    by_kind = {kind: [edit for edit in edits if edit.kind == kind] for kind in DIRECTIONS}
    return {kind: same[seed_of(*seed, kind) % len(same)] for kind, same in by_kind.items() if same}


# The generic editor.

LADDERS = (
    ("slight", "mild", "moderate", "noticeable", "strong", "heavy", "severe", "extreme"),
    (
        "slightly",
        "somewhat",
        "moderately",
        "noticeably",
        "clearly",
        "strongly",
        "heavily",
        "very",
        "severely",
        "extremely",
    ),
    ("minor", "small", "minimal", "significant", "serious", "major"),
    ("faint", "modest", "bad", "terrible"),
    ("subtle", "visible", "obvious", "glaring"),
    ("few", "some", "several", "many"),
)
"""Words of degree, from the mildest to the worst. Those of the lower half count as mild, the others as severe."""
NOUNS = (
    *(
        "noise",
        "blur",
        "blurriness",
        "artifact",
        "artifacts",
        "artefact",
        "artefacts",
        "distortion",
        "distortions",
        "banding",
    ),
    *(
        "defect",
        "defects",
        "flaw",
        "flaws",
        "error",
        "errors",
        "mistake",
        "mistakes",
        "deformity",
        "deformities",
        "clutter",
    ),
    *(
        "inconsistency",
        "inconsistencies",
        "mismatch",
        "glitch",
        "glitches",
        "overexposure",
        "pixelation",
        "problem",
        "problems",
    ),
)
ADJECTIVES = {
    "blurry": "sharp",
    "blurred": "sharp",
    "noisy": "clean",
    "wrong": "correct",
    "incorrect": "correct",
    "inaccurate": "accurate",
    "missing": "present",
    "absent": "present",
    "distorted": "well-formed",
    "deformed": "well-formed",
    "malformed": "well-formed",
    "unrealistic": "realistic",
    "unnatural": "natural",
    "implausible": "plausible",
    "inconsistent": "consistent",
    "broken": "intact",
    "ugly": "beautiful",
    "dull": "vivid",
    "cluttered": "tidy",
    "overexposed": "well-exposed",
    "unbalanced": "balanced",
    "poor": "good",
}
"""Word for a defect -> its opposite."""

_CLAUSE = re.compile(r"[^.,;:!?\n]+")
_NEGATION = r"(?:(?P<no>no|not|without|never|isn't|aren't|free of|free from)\s+(?:any\s+|(?:a|an|the)\s+)?)?"
_DEGREE = r"(?:(?P<degree>" + "|".join(word for ladder in LADDERS for word in ladder) + r")\s+)?"
_DEFECT = re.compile(
    rf"\b{_NEGATION}(?P<article>(?:a|an)\s+)?{_DEGREE}(?P<word>{'|'.join([*NOUNS, *ADJECTIVES])})\b", re.IGNORECASE
)
_VIRTUES = {good: bad for bad, good in reversed(ADJECTIVES.items())}
_VIRTUE = re.compile(rf"\b{_NEGATION}{_DEGREE}(?P<word>{'|'.join(map(re.escape, _VIRTUES))})\b", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:no|not|without|never|nothing|none|nor|hardly|isn't|aren't|lacks?|free of|free from)\b", re.IGNORECASE
)


def edit_words(text: str, prompt: str = "", dimension: str = "") -> list[Edit]:
    """Edits of English prose, clause by clause: degrees of a defect, "no blur" for "blur", "blurry" for "sharp".

    It does not parse: a clause with a second negation is left alone. A severity is replaced by the far end of its ladder
    ("slight" by "extreme"); a defect without one gets one.

    Args:
        text: a trace.
        prompt: not used.
        dimension: not used: the table says of a word that it is a defect, whatever it is a defect of.
    """
    edits = []
    for clause in _CLAUSE.finditer(text):
        for kind, start, end, new in _changes(clause.group()):
            start, end = clause.start() + start, clause.start() + end
            old = text[start:end]
            new = new[:1].upper() + new[1:] if old[:1].isupper() else new
            if new != old:
                edits.append(Edit(kind, text[:start] + new + text[end:]))
    return edits


def _changes(clause: str) -> Iterator[tuple[str, int, int, str]]:
    """Kind, the part of the clause that goes, and what comes instead."""
    for found in _DEFECT.finditer(clause):
        if not _other_negation(clause, found):
            for kind, new in _defect(found):
                yield kind, found.start(), found.end(), new
    for found in _VIRTUE.finditer(clause):
        if not _other_negation(clause, found):
            good = found["word"].lower()
            if found["no"]:
                yield "removed", found.start(), found.end(), good
            else:
                yield "added", found.start(), found.end(), _VIRTUES[good]


def _other_negation(clause: str, found: re.Match[str]) -> bool:
    return bool(_NEGATED.search(clause[: found.start()]) or _NEGATED.search(clause[found.end() :]))


def _defect(found: re.Match[str]) -> Iterator[tuple[str, str]]:
    word, degree = found["word"].lower(), (found["degree"] or "").lower()
    is_noun = word in NOUNS
    if found["no"]:
        if found["no"].lower() in ("without", "free of", "free from"):
            yield "added", f"with severe {word}" if is_noun else f"{word}"
        elif found["no"].lower() == "no":
            yield "added", f"severe {word}"
        elif not degree and not is_noun:  # "not very blurry" may be blurry
            yield "added", f"severely {word}" if found["no"].lower() == "not" else f"is severely {word}"
        return
    article = (found["article"] or "").strip()
    for kind, end in (("worse", -1), ("milder", 0)):
        if degree:
            ladder = next(ladder for ladder in LADDERS if degree in ladder)
            new, mild = ladder[end], ladder.index(degree) < len(ladder) / 2
            if (kind == "worse") == mild:
                yield kind, _joined(article, new, word)
        else:
            yield kind, _joined(article, (("slight", "severe") if is_noun else ("slightly", "severely"))[end], word)
    yield "removed", f"no {word}" if is_noun else ADJECTIVES[word]


def _joined(article: str, degree: str, word: str) -> str:
    """With the article that the degree wants, where there was one."""
    if not article:
        return f"{degree} {word}"
    return f"{'an' if degree[0] in 'aeio' else 'a'} {degree} {word}"
