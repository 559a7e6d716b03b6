"""Candidates from files and folders, their ranking on the terminal, and the page that shows them best first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zreward.data.images import check_path, open_image
from zreward.data.manifest import MANIFEST, read_manifest
from zreward.errors import InputError
from zreward.ranking import Candidate
from zreward.report.sections import Figure, Section, write_sections
from zreward.runs import versions

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def find_candidates(places: Sequence[Path], prompt: str | None) -> tuple[list[str], list[str]]:
    """Files and their prompts. A folder's pictures.jsonl names its prompts; files and other folders need `prompt`."""
    files: list[str] = []
    prompts: list[str] = []
    for place in places:
        if (place / MANIFEST).exists():
            if prompt is not None:
                raise InputError(f"{place / MANIFEST} says what its pictures were made from; leave --prompt out")
            rows = read_manifest(place)
            files += [str(place / row["image"]) for row in rows]
            prompts += [row["prompt"] for row in rows]
            continue
        if prompt is None or not prompt.strip():
            raise InputError(f"{place}: give --prompt, the text that the images were made from")
        found = sorted(f for f in place.iterdir() if f.suffix.lower() in ENDINGS) if place.is_dir() else [place]
        if not found:
            raise InputError(f"{place}: no images in it; expected files that end in {', '.join(ENDINGS)}")
        files += [str(file) for file in found]
        prompts += [prompt] * len(found)
    for file in files:
        check_path(file)
    return files, prompts


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
    """A section for every prompt, its candidates best first; returns `path`."""
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
