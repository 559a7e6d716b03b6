"""A CSV file of comparisons turned into preferences: a row names two pictures of a prompt and the one that was chosen.

Rows of one prompt and two pictures become one preference; a column may name the rater. Columns are named by `WinnerColumns`, or
guessed from the header. The winner is told by a, b or tie, left or right, 1 or 2, the name of one of the two columns of pictures,
or the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zreward.common.errors import InputError, shown
from zreward.data.bad_lines import BadLines
from zreward.data.importers.table import Table, column_called, read_table, use_rows
from zreward.data.preference import CHOICES, OVERALL, Preference, VoteForms, count_of
from zreward.data.preference_files import save_preferences

GUESSES = {
    "prompt": ("prompt", "text", "caption", "description"),
    "image_a": ("image_a", "image_1", "image1", "path_1", "path1", "left", "left_image", "image_left", "a"),
    "image_b": ("image_b", "image_2", "image2", "path_2", "path2", "right", "right_image", "image_right", "b"),
    "winner": ("winner", "preferred", "preference", "choice", "chosen", "vote", "better"),
    "rater": ("rater", "rater_id", "annotator", "annotator_id", "worker", "worker_id", "user", "user_id"),
    "dimension": ("dimension", "aspect", "criterion"),
    "split": ("split",),
    "group": ("group",),
}
"""Role -> names of columns that play it, the first that is there."""
_WORDS = {
    "a": ("a", "left", "1", "first"),
    "b": ("b", "right", "2", "second"),
    "tie": ("tie", "equal", "same", "draw", "both", "neither", "none"),
}


@dataclass(frozen=True)
class WinnerColumns:
    """Names of columns where they are not guessed."""

    prompt: str | None = None
    image_a: str | None = None
    image_b: str | None = None
    winner: str | None = None
    rater: str | None = None
    dimension: str | None = None


@dataclass
class _Pair:
    prompt: str
    images: tuple[str, str]
    common: dict[str, str]
    named: dict[str, dict[str, str]] = field(default_factory=dict)
    counted: dict[str, dict[str, float]] = field(default_factory=dict)

    def preference(self) -> Preference:
        votes: dict[str, VoteForms] = {**self.counted, **self.named}
        return Preference(self.prompt, self.images, votes, **self.common)  # type: ignore[arg-type]


def import_winners(
    file: Path,
    out: Path,
    columns: WinnerColumns = WinnerColumns(),
    images: Path | None = None,
    skip_bad: bool = False,
) -> str:
    """Convert a table of winners to preferences. Images are opened once each, and not copied.

    Args:
        file: a CSV file; commas, semicolons or tabs.
        out: a .jsonl or .parquet file, or a folder for preferences.jsonl.
        columns: names of columns; default guessed from the header.
        images: folder that image paths are relative to; default that of `file`.
        skip_bad: write bad rows to PREFERENCES.skipped.jsonl instead of stopping.

    Returns:
        Two lines for a person: how the columns were read; where the preferences are, and how many.

    Raises:
        InputError: FILE:LINE and reason for up to 20 bad rows; a rater who votes twice on a pair.
    """
    path = out if out.suffix.lower() in (".jsonl", ".parquet") else out / "preferences.jsonl"
    table = read_table(file)
    roles = _roles(table, columns)
    bad = BadLines(str(file), skip_bad, f"{path}.skipped.jsonl")
    found: dict[tuple[str, ...], _Pair] = {}
    folder = images or file.parent
    use_rows(
        table,
        bad,
        lambda cells, line: _add(found, {role: cells[column] for role, column in roles.items()}, roles, folder),
    )
    bad.finish(len(found))
    preferences = [pair.preference() for pair in found.values()]
    read = ", ".join(f"{role} from {column!r}" for role, column in roles.items())
    saved = save_preferences(preferences, path)
    return f"columns: {read}\npreferences: {saved} ({count_of(preferences)})"


def _roles(table: Table, columns: WinnerColumns) -> dict[str, str]:
    roles: dict[str, str] = {}
    for role, names in GUESSES.items():
        named = getattr(columns, role, None)
        if named is not None and named not in table.header:
            raise InputError(f"{table.path}: no column {named!r}; the header is {', '.join(table.header)}")
        guessed = (column for name in names if (column := column_called(table, name)) not in (None, *roles.values()))
        column = named or next(guessed, None)
        if column is not None:
            roles[role] = column
        elif role in ("prompt", "image_a", "image_b", "winner"):
            option = f"--{role.replace('_', '-')}"
            raise InputError(
                f"{table.path}: no column for the {role}; the header is {', '.join(table.header)}. Name it with {option} COLUMN"
            )
    return roles


def _add(found: dict[tuple[str, ...], _Pair], given: dict[str, str], roles: dict[str, str], folder: Path) -> None:
    for role in ("prompt", "image_a", "image_b", "winner", "rater", "dimension"):
        if given.get(role) == "":
            raise InputError(f"{role} is empty")
    side = _side(given, roles)
    first, second = str(folder / given["image_a"]), str(folder / given["image_b"])
    common = {role: given[role] for role in ("split", "group") if given.get(role)}
    rest = (given.get("split", ""), given.get("group", ""))
    key, turned = (given["prompt"], first, second, *rest), (given["prompt"], second, first, *rest)
    if turned in found:  # the same two, the other way round
        key, side = turned, {"a": "b", "b": "a"}.get(side, side)
    dimension, rater = given.get("dimension", OVERALL), given.get("rater")
    pair = found.get(key) or _Pair(given["prompt"], (first, second), common)
    if key not in found:
        Preference(pair.prompt, pair.images, {dimension: side}, **common).check_images()  # type: ignore[arg-type]
    if rater is None:
        counts = pair.counted.setdefault(dimension, {})
        counts[side] = counts.get(side, 0.0) + 1
    else:
        votes = pair.named.setdefault(dimension, {})
        if rater in votes:
            raise InputError(f"{rater!r} votes a second time on these pictures (their first vote is {votes[rater]!r})")
        votes[rater] = side
    found[key] = pair


def _side(given: dict[str, str], roles: dict[str, str]) -> str:
    told = given["winner"]
    names = {
        "a": (roles["image_a"].lower(), given["image_a"].lower()),
        "b": (roles["image_b"].lower(), given["image_b"].lower()),
        "tie": (),
    }
    sides = [side for side in CHOICES if told.lower() in (*_WORDS[side], *names[side])]
    if len(sides) != 1:
        raise InputError(
            f"winner is {shown(told)}, expected a, b or tie, left or right, 1 or 2, {roles['image_a']} or {roles['image_b']}, "
            "or one of the two pictures"
        )
    return sides[0]
