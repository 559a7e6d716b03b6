"""Public benchmarks: the importer that reads each, the split that its publishers test on, and their official figure.

A suite of any other importer's name is measured on everything that was published, by accuracy or SRCC.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.bench.suite import Suite, preference_suite, rated_suite, read_own
from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLines
from zreward.data.importers.agiqa3k import import_agiqa3k
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.registry import IMPORTERS
from zreward.data.preference import Preference
from zreward.data.reading import load_records


@dataclass(frozen=True)
class Official:
    """How the publishers of a benchmark measure.

    Args:
        figure: key of `zreward.bench.figures`.
        source: where they say so.
        split: on which part, as the importer names it; None: all that was published.
        tuning: the part on which a tie threshold is chosen.
        rule: of ties and weights, in words.
    """

    figure: str
    source: str
    rule: str
    split: str | None = None
    tuning: str | None = None


OFFICIAL: dict[str, Official] = {
    "imagerewarddb": Official(
        "accuracy",
        "github.com/THUDM/ImageReward, test.py, acc()",
        "all pairs of all ranked lists together; equal ranks do not count, a predicted tie is wrong",
        split="test",
    ),
    "tifa160": Official(
        "plcc",
        "github.com/Yushi-Hu/tifa, human_annotations/compute_correlation.ipynb",
        'over all pictures, against the mean of both raters; the notebook calls Pearson\'s r "Spearman"',
    ),
    "agiqa3k": Official(
        "srcc", "arXiv 2306.04717, table 4", "SRCC, KRCC and PLCC over all pictures, for quality and for alignment"
    ),
}


def load_suite(name: str, path: Path, split: str | None, images: Path | None, check: str) -> Suite:
    """A published benchmark by its importer's name, or a file of one's own under any other name.

    Args:
        name: on the command line.
        path: the published layout's root, or the file.
        split: of a file of one's own; a published suite has its official one.
        images: the folder of pictures, for suites that keep them elsewhere.
        check: how pictures are checked, one of `zreward.data.importers.importer.CHECKS`.

    Raises:
        InputError: another layout; nothing in the official split.
    """
    importer = IMPORTERS.get(name)
    if importer is None:
        if images is not None:
            raise InputError(f"--images {name}=...: suite {name} is a file, whose paths start at its folder")
        if path.suffix.lower() not in (".jsonl", ".ndjson", ".parquet"):
            raise InputError(
                f"--suite {name}={path}: no published suite is called {name!r} (there are {', '.join(IMPORTERS)}), and a suite "
                "of one's own is a .jsonl or .parquet file"
            )
        return read_own(name, path, split, check_images=check == "decode")
    rule = OFFICIAL.get(name)
    figure = rule.figure if rule else "accuracy" if importer.makes is Preference else "srcc"
    source = rule.source if rule else "no official figure is known to zreward: this is the usual one"
    found = read_published(importer, path, images, check)
    chosen = _of_split(name, found, rule.split if rule else None)
    if importer.makes is not Preference:
        return rated_suite(name, chosen, figure, source)
    tuning = [one for one in found if rule and rule.tuning and one.split == rule.tuning]
    return preference_suite(name, chosen, figure, source, tuning)


def read_published(importer: Importer, root: Path, images: Path | None, check: str) -> list[Any]:
    """All records or preferences of a published data set, in memory."""
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; expected {importer.layout}")
    if importer.read is None:  # AGIQA-3K: its splits are made, not published
        with tempfile.TemporaryDirectory() as folder:
            file = import_agiqa3k(root, Path(folder), fractions=None, check_images=check == "decode")
            return load_records(file, check_images=False)
    bad = BadLines(str(root), False, None)
    reading = Reading(root, images, importer.layout, bad, check)
    found = list(importer.read(reading))
    bad.finish(reading.good)
    return found


def _of_split(name: str, found: list[Any], split: str | None) -> list[Any]:
    if split is None:
        return found
    chosen = [one for one in found if one.split == split]
    if not chosen:
        there = sorted({str(one.split) for one in found})
        raise InputError(f"suite {name}: its official split is {split!r}; there is only {', '.join(there)}")
    return chosen
