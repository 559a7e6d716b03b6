"""Edits of the world's traces (`zreward.world.explain`): what each finding costs is known, so is where the score should go.

A trace is read into findings, one is changed, and the truth of both readings is compared: an edit that leaves the truth where it
is, because the picture is at the lowest score already, is not listed. Objects keep to their prompt: one that is said to
have a wrong colour is given another colour than the prompt's.
"""

from __future__ import annotations

from collections.abc import Iterator

from zreward.common.errors import InputError
from zreward.evaluation.coupling_edits import DIRECTIONS, Edit
from zreward.world.explain import ROLES
from zreward.world.grammar import COLOURS, OPPOSITE, SHAPES, SIZES, PromptSpec, parse_prompt
from zreward.world.scenes import DEGREES, SEVERITY

Findings = list[list[str]]
"""A trace as words, split at its semicolons."""

_OPTIONS = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
_LOOK = {"size": -3, "colour": -2, "shape": -1}  # where a word of the look stands, before the verdict
_SHORT = {name.split()[0]: opposite.split()[0] for name, opposite in OPPOSITE.items()}


def edit(text: str, prompt: str, dimension: str) -> list[Edit]:
    """All edits of a trace, with the points that each is worth; none of a text that is not such a trace.

    Args:
        text: of the trace.
        prompt: of the picture.
        dimension: one of the world's.
    """
    findings = [part.split() for part in text.split(";")]
    try:
        asked = parse_prompt(prompt)
    except InputError:
        return []
    before = said(findings, dimension)
    if before is None:
        return []
    changes = {"alignment": _alignment, "plausibility": _plausibility}.get(dimension, _degrees)
    edits = []
    for kind, number, finding in changes(findings, asked):
        changed = [*findings[:number], finding, *findings[number + 1 :]]
        if finding[0] == "relation":
            changed = _exchanged(changed)
        after = said(changed, dimension)
        if after is not None and (after - before) * DIRECTIONS[kind] > 0:
            edits.append(Edit(kind, " ; ".join(" ".join(part) for part in changed), after - before))
    return edits


def said(findings: Findings, dimension: str) -> float | None:
    """The true score in [1, 5] of a picture with these findings; None where one of them cannot be read."""
    lost = 0.0
    for finding in findings:
        cost = _cost(finding, dimension)
        if cost is None:
            return None
        lost += cost
    return max(1.0, 5.0 - lost)


def _cost(finding: list[str], dimension: str) -> float | None:
    severity = SEVERITY.get(dimension, {})
    match dimension, finding:
        case "realism", ["noise" | "blur" | "blocks", degree] if degree in DEGREES:
            return severity.get(" ".join(finding), 0.0)
        case "aesthetics", ["faded" | "cut", degree] if degree in DEGREES:
            return severity.get(" ".join(finding), 0.0)
        case "aesthetics", ["background", "harsh" | "calm" as background]:
            return severity.get(background, 0.0)
        case "plausibility", [_, _, "whole" | "split" as body, "shadow", shadow]:
            cost = {"ok": 0.0}.get(shadow, severity.get(f"shadow {shadow}"))
            return None if cost is None else cost + severity.get(body, 0.0)
        case "alignment", ["extra", "none"]:
            return 0.0
        case "alignment", ["extra", _, _]:
            return severity["extra"]
        case "alignment", ["relation", _, "ok" | "wrong" as verdict]:
            return severity["relation"] * (verdict == "wrong")
        case "alignment", [role, "missing"] if role in ROLES:
            return severity["missing"]
        case "alignment", [role, *_] if role in ROLES:
            wrong = _wrong(finding)
            known = len(set(wrong)) == len(wrong) and _has_look(finding, len(wrong)) and (wrong or finding[-1] == "ok")
            return sum(severity[name] for name in wrong) if known else None
    return None


def _wrong(finding: list[str]) -> list[str]:
    """How an object differs from its prompt, by the words at the end of its finding."""
    wrong: list[str] = []
    for word in reversed(finding):
        if word not in _OPTIONS:
            break
        wrong.insert(0, word)
    return wrong


def _has_look(finding: list[str], wrong: int) -> bool:
    look = finding[: len(finding) - max(wrong, 1)]
    return len(look) > 3 and all(look[place] in _OPTIONS[name] for name, place in _LOOK.items())


def _degrees(findings: Findings, asked: PromptSpec) -> Iterator[tuple[str, int, list[str]]]:
    """Of realism and aesthetics."""
    for number, (name, *degree) in enumerate(findings):
        match degree:
            case ["none"]:
                yield from (("added", number, [name, other]) for other in DEGREES[1:])
            case ["slight"]:
                yield "worse", number, [name, "strong"]
                yield "removed", number, [name, "none"]
            case ["strong"]:
                yield "milder", number, [name, "slight"]
                yield "removed", number, [name, "none"]
            case ["calm"]:
                yield "added", number, [name, "harsh"]
            case ["harsh"]:
                yield "removed", number, [name, "calm"]


def _plausibility(findings: Findings, asked: PromptSpec) -> Iterator[tuple[str, int, list[str]]]:
    shadows = ("distant", "missing", "opposite")  # cheapest first
    for number, (name, colour, body, word, shadow) in enumerate(findings):
        split = "split" if body == "whole" else "whole"
        yield "added" if body == "whole" else "removed", number, [name, colour, split, word, shadow]
        if shadow == "ok":
            yield from (("added", number, [name, colour, body, word, other]) for other in shadows)
            continue
        yield "removed", number, [name, colour, body, word, "ok"]
        for other in shadows:
            kind = "worse" if shadows.index(other) > shadows.index(shadow) else "milder"
            yield kind, number, [name, colour, body, word, other]  # the same shadow is no change of the truth


def _alignment(findings: Findings, asked: PromptSpec) -> Iterator[tuple[str, int, list[str]]]:
    for number, finding in enumerate(findings):
        match finding:
            case ["extra", "none"]:
                yield "added", number, ["extra", *_unasked(asked)]
            case ["extra", *_]:
                yield "removed", number, ["extra", "none"]
            case ["relation", drawn, verdict] if drawn in _SHORT:
                kind, new = ("added", "wrong") if verdict == "ok" else ("removed", "ok")
                yield kind, number, ["relation", _SHORT[drawn], new]
            case [role, "missing"] if role in ROLES:
                continue  # where it would stand is not in the trace
            case [role, *_] if role in ROLES and ROLES.index(role) < len(asked.objects):
                wrong, spec = _wrong(finding), asked.objects[ROLES.index(role)]
                begin, kind = finding[: len(finding) - max(len(wrong), 1)], "worse" if wrong else "added"
                for name, place in _LOOK.items():
                    look = list(begin)
                    if name in wrong:
                        look[place] = getattr(spec, name)
                        left = [other for other in wrong if other != name]
                        yield "milder" if left else "removed", number, look + (left or ["ok"])
                    else:
                        look[place] = next(value for value in _OPTIONS[name] if value != getattr(spec, name))
                        yield kind, number, [*look, *wrong, name]


def _exchanged(findings: Findings) -> Findings:
    """The first object where the second was said to stand, and the other way round, where both places are known."""
    objects = {finding[0]: finding for finding in findings if finding[0] in ROLES[:2] and len(finding) > 6}
    if len(objects) < 2:
        return findings
    first, second = (objects[role] for role in ROLES[:2])
    new = {ROLES[0]: [first[0], *second[1:3], *first[3:]], ROLES[1]: [second[0], *first[1:3], *second[3:]]}
    return [new.get(finding[0], finding) for finding in findings]


def _unasked(asked: PromptSpec) -> list[str]:
    """Colour and shape of an object that the prompt does not have."""
    looks = {(spec.colour, spec.shape) for spec in asked.objects}
    return list(next((colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in looks))
