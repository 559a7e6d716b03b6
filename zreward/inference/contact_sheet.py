"""Candidates from files and folders, their ranking on the terminal, and the page that shows them best first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zreward.common.errors import InputError
from zreward.common.runs import versions
from zreward.common.texts import check_prompt
from zreward.data.folders import FolderPicture, read_folder
from zreward.data.images import check_path, open_image
from zreward.evaluation.report.sections import Figure, Section, write_sections
from zreward.inference.ranking import Candidate


def find_candidates(places: Sequence[Path], prompt: str | None) -> tuple[list[str], list[str], list[str]]:
    """Files, their prompts, and notes of what folders hold besides pictures.

    A folder's pictures.jsonl names its prompts; files and other folders need `prompt`.
    """
    found: list[FolderPicture] = []
    notes: list[str] = []
    for place in places:
        if place.is_dir():
            pictures, note = read_folder(place, prompt)
            found += pictures
            notes += [note] if note else []
        elif prompt is None:
            raise InputError(f"{place}: give --prompt, the text that the images were made from")
        else:
            found.append(FolderPicture(place, check_prompt(prompt, "--prompt")))
    for picture in found:
        check_path(str(picture.path))
    return [str(picture.path) for picture in found], [picture.prompt for picture in found], notes


def print_ranking(ranked: Sequence[Candidate], top: int) -> None:
    """The first `top` candidates of every prompt."""
    table = Table(caption="P(best): that a draw from this candidate's scores beats one from every other candidate's")
    for name, side in (
        ("prompt", "left"),
        ("image", "left"),
        ("P(best)", "right"),
        ("overall", "right"),
        ("std", "right"),
    ):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for prompt, group in itertools.groupby(ranked, key=lambda candidate: candidate.prompt):
        for one in list(group)[:top]:
            cells = (escape(one.image), f"{one.best:.1%}", f"{one.overall:.2f}", f"{one.std:.2f}")
            table.add_row(escape(prompt) if one.rank == 1 else "", *cells)
    Console().print(table)


def write_contact_sheet(path: Path, ranked: Sequence[Candidate], model: str) -> Path:
    """Write an HTML page with a section per prompt, its candidates best first.

    Args:
        path: the .html file.
        ranked: what `rank` returned.
        model: its name, for the page's heading.

    Returns:
        `path`.
    """
    sections = []
    for prompt, group in itertools.groupby(ranked, key=lambda candidate: candidate.prompt):
        figures = [
            Figure(
                [open_image(one.image)],
                f"{one.rank}. P(best) {one.best:.1%}",
                f"overall {one.overall:.2f} ± {one.std:.2f}; "
                + ", ".join(f"{name} {score:.2f}" for name, score in one.dimensions.items()),
            )
            for one in group
        ]
        sections.append(Section(prompt, figures=figures))
    note = "A draw from a candidate's score distribution against draws from all others of its prompt; ties are shared."
    settings = {"model": model, "P(best)": note, "versions": versions()}
    return write_sections(path, "Best of N", settings, sections, written_by="zreward rank")
