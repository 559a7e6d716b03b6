"""The published data sets that `zreward data import NAME ROOT OUT` reads, and the table of them."""

from __future__ import annotations

from zreward.common.errors import InputError
from zreward.data.importers import (
    agiqa3k,
    conversations,
    genai_bench,
    hpdv2,
    hpdv3,
    imagerewarddb,
    mmrb2,
    pickapic,
    rapidata,
    tifa160,
)
from zreward.data.importers.importer import Importer
from zreward.data.importers.ratings import RATINGS

_ALL = (
    agiqa3k.DESCRIPTION,
    tifa160.DESCRIPTION,
    *(imagerewarddb.RANKS, imagerewarddb.RATED),
    *(hpdv2.HPDV2, hpdv3.HPDV3),
    pickapic.PICKAPIC,
    *(genai_bench.CMU, genai_bench.TIGER),
    rapidata.RAPIDATA,
    mmrb2.MMRB2,
    *(conversations.UNIFIED_REWARD, conversations.SWIFT),
)
IMPORTERS: dict[str, Importer] = {one.name: one for one in (*_ALL, *RATINGS)}
HEADER = ("NAME", "data set and source", "licence", "holds", "becomes", "not published", "layout taken from")


def find_importer(name: str, *others: str) -> Importer:
    """InputError, with the known names and `others`, for one that is none."""
    if name not in IMPORTERS:
        raise InputError(f"data set {name!r} is unknown; expected one of {', '.join((*others, *IMPORTERS))}")
    return IMPORTERS[name]


def importer_table() -> str:
    """A table in Markdown, one data set per line."""
    rows = [HEADER, ("---",) * len(HEADER), *map(_cells, IMPORTERS.values())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def importer_text(one: Importer) -> str:
    """All that is said of a data set, a line for each."""
    labels = (*HEADER[:1], "data set", "source", *HEADER[2:], "ROOT holds")
    values = (one.name, one.title, one.source, *_cells(one)[2:], one.layout)
    return "\n".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))


def _cells(one: Importer) -> tuple[str, ...]:
    name_source = f"{one.title} ({one.source})"
    return (f"`{one.name}`", name_source, one.licence, one.holds, one.targets, one.missing, one.checked)
