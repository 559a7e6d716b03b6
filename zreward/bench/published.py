"""Public benchmarks: the importer that reads each, the split that its publishers test on, and their official figure.

A suite of any other importer's name is measured on everything that was published, by accuracy or SRCC.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zreward.bench import labels
from zreward.bench.ratings import read_ratings
from zreward.bench.suite import Suite, preference_suite, rated_suite, read_own
from zreward.bench.tables import split_place
from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLines
from zreward.data.importers.agiqa3k import import_agiqa3k
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.registry import IMPORTERS
from zreward.data.preference import OVERALL, Preference
from zreward.data.reading import load_records

_LOOKS: dict[str, bool | None] = {"decode": True, "exist": False, "none": None}
"""`zreward.data.importers.importer.CHECKS` as `load_records` takes them."""


@dataclass(frozen=True)
class Official:
    """How the publishers of a benchmark measure.

    Args:
        figure: key of `zreward.bench.figures`.
        source: where they say so.
        split: on which part, as the importer names it; None: all that was published.
        rule: of ties and weights, in words.
        tuning: the part on which a tie threshold is chosen.
        dimension: whose votes are the official ones; they are called overall in the suite.
    """

    figure: str
    source: str
    rule: str
    split: str | None = None
    tuning: str | None = None
    dimension: str | None = None


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
        "srcc", "arXiv 2306.04717", "SRCC, KRCC and PLCC over all pictures, for quality and for alignment"
    ),
    "hpdv2": Official(
        "accuracy_by_list",
        "github.com/tgxs002/HPSv2, hpsv2/evaluation.py (evaluate_rank) and inversion_score()",
        "per list one minus the share of inverted pairs by the averaged rank, then the mean over lists; people's ties are never "
        "wrong. A predicted tie is wrong here; the publishers' sort breaks it by position",
        split="test",
        dimension="averaged",
    ),
    "hpdv3": Official(
        "accuracy",
        "github.com/PlantPotatoOnMoon/HPSv3-PlusPlus, evaluate/evaluate.py, which follows the publishers'",
        "all pairs together; equal scores are wrong",
        split="test",
    ),
    "pickapic": Official(
        "half_credit",
        "github.com/yuvalkirstain/PickScore, trainer/scripts/eval_preference_predictor.py",
        "half a point where one side says tie; a tie is a difference of both probabilities up to a threshold of 0, 0.1, ..., 1, "
        "the best on validation_unique",
        split="test_unique",
        tuning="validation_unique",
    ),
    "genai-bench": Official(
        "tie_calibrated",
        "arXiv 2406.13743 (pairwise accuracy with tie calibration, Deutsch et al. 2023)",
        "mean over prompts of the share of right verdicts, ties among them; one threshold, chosen on the suite itself",
    ),
    "genai-bench-pairs": Official(
        "accuracy",
        "hub CodeGoat24/UnifiedReward-7b-v1.5, column diff",
        "pairs with a winner; scores have no word for the benchmark's four labels, see genai-bench-votes",
    ),
    "mmrb2": Official(
        "accuracy",
        "github.com/facebookresearch/MMRB2, evaluate/compute_scores/compute_accuracy.py",
        "every judgement counts, a pair asked in both orders twice; no pair is a tie",
    ),
    "evalmuse40k": Official(
        "srcc",
        "github.com/DYEvaLab/EvalMuse, README.md",
        "SRCC and PLCC with the mean of total_score, over all pictures",
    ),
}


def load_suite(name: str, path: Path, split: str | None, images: Path | None, check: str) -> Suite:
    """A published benchmark by its importer's name, or under any other name a file of one's own, or FILE#COLUMN of a table.

    Args:
        name: on the command line.
        path: the published layout's root, or the file.
        split: of a file of one's own; a published suite has its official one.
        images: the folder of pictures, for suites that keep them elsewhere.
        check: how pictures are checked, one of `zreward.data.importers.importer.CHECKS`.

    Raises:
        InputError: another layout; nothing in the official split; what `read_own` and `read_ratings` refuse.
    """
    if name == labels.NAME:
        return labels.read_votes(path)
    importer = IMPORTERS.get(name)
    if importer is None:
        if images is not None:
            raise InputError(f"--images {name}=...: suite {name} is a file, whose paths start at its folder")
        file, column = split_place(str(path))
        if column is not None and not path.exists():
            return read_ratings(name, file, column, split, models=check != "none")
        if path.suffix.lower() not in (".jsonl", ".ndjson", ".parquet"):
            raise InputError(
                f"--suite {name}={path}: no published suite is called {name!r} (there are {', '.join(IMPORTERS)}), and a suite "
                f"of one's own is a .jsonl or .parquet file, or a column of ratings in a table: {file.name}#COLUMN"
            )
        return read_own(name, path, split, _LOOKS[check])
    rule = OFFICIAL.get(name)
    figure = rule.figure if rule else "accuracy" if importer.makes is Preference else "srcc"
    source = rule.source if rule else "no official figure is known to zreward: this is the usual one"
    found = read_published(importer, path, images, check)
    chosen = _of_split(name, found, rule.split if rule else None)
    if importer.makes is not Preference:
        return rated_suite(name, chosen, figure, source)
    tuning = [one for one in found if rule and rule.tuning and one.split == rule.tuning]
    if rule and rule.dimension:
        chosen = [replace(one, votes={OVERALL: one.votes[rule.dimension]}) for one in chosen]
    return preference_suite(name, chosen, figure, source, tuning)


def read_published(importer: Importer, root: Path, images: Path | None, check: str) -> list[Any]:
    """All records or preferences of a published data set, in memory."""
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; expected {importer.layout}")
    if importer.read is None:  # AGIQA-3K: its splits are made, not published
        with tempfile.TemporaryDirectory() as folder:
            file = import_agiqa3k(root, Path(folder), fractions=None, check_images=_LOOKS[check])
            return load_records(file, check_images=None)
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
