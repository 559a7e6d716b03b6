"""Rapidata's preference sets of pictures: pairs with the votes of many people.

Sources of the layout: data cards of the hub, Rapidata/700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3 (columns
votes_image1, votes_image2) and Rapidata/HunyuanImage-2.1_t2i_human_preference (weighted_results_image1_D,
weighted_results_image2_D and detailed_results_D for D of preference, coherence and alignment);
RapidataAI/rapidata-python-sdk, docs/understanding_the_results.md (detailed results are a list with one entry per vote;
weighted results add up the scores of the voters).

In the older sets votes are counts, and the question (preference, coherence or alignment) is that of the whole set: the
dimension is "overall". In the newer ones the weighted results of both pictures are brought to a sum of as many votes as
there are detailed results, so that a pair with many votes counts for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import parquet_rows
from zreward.data.importers.values import models_of, needed, number_within
from zreward.data.preference import OVERALL, Preference
from zreward.data.sources import parse_json

NEEDED = ("prompt", "image1", "image2")
COUNTS = ("votes_image1", "votes_image2")
DIMENSIONS = ("preference", "coherence", "alignment")
_COLUMNS = [
    f"{name}_{one}"
    for one in DIMENSIONS
    for name in ("weighted_results_image1", "weighted_results_image2", "detailed_results")
]


def _read(reading: Reading) -> Iterator[Preference]:
    rows = parquet_rows(reading.files("data/*.parquet", "*.parquet"), NEEDED, (*COUNTS, "model1", "model2", *_COLUMNS))
    yield from reading.each(rows, partial(_preference, reading))


def _preference(reading: Reading, row: Mapping[str, Any]) -> Preference:
    prompt, first, second = needed(row, *NEEDED)
    votes = {name: given for name in DIMENSIONS if (given := _weighted(row, name)) is not None}
    if row.get(COUNTS[0]) is not None or row.get(COUNTS[1]) is not None:
        counts = [number_within(row[name], name, 0) for name in COUNTS]
        votes[OVERALL] = dict(zip("ab", counts, strict=True))
    if not votes:
        raise InputError(f"no votes; expected {', '.join(COUNTS)} or weighted_results_image1_preference and others")
    images = (reading.picture(first, "image1"), reading.picture(second, "image2"))
    return Preference(prompt, images, votes, models_of(row, "model1", "model2"))


def _weighted(row: Mapping[str, Any], name: str) -> dict[str, float] | None:
    columns = (f"weighted_results_image1_{name}", f"weighted_results_image2_{name}")
    if all(row.get(column) is None for column in columns):
        return None
    weights = [number_within(row.get(column), column, 0) for column in columns]
    total = sum(weights)
    if total == 0:
        raise InputError(f"{columns[0]} and {columns[1]} are both 0; expected the weight of at least one vote")
    count = _count(row.get(f"detailed_results_{name}"), f"detailed_results_{name}") or total
    return {side: count * weight / total for side, weight in zip("ab", weights, strict=True)}


def _count(detailed: Any, what: str) -> int:
    """How many votes there are; 0 where they are not listed."""
    if detailed is None:
        return 0
    listed = parse_json(detailed, f"{what}: ") if isinstance(detailed, str) else detailed
    if not isinstance(listed, list):
        raise InputError(f"{what} is {shown(detailed)}, expected a list of votes")
    return len(listed)


RAPIDATA = Importer(
    name="rapidata",
    title="Rapidata's preference sets",
    source="hub, those of Rapidata with image1 and image2, such as HunyuanImage-2.1_t2i_human_preference",
    licence="CDLA-Permissive-2.0 (most; see each card)",
    layout="data/*.parquet",
    holds="pairs of two models' pictures, pictures inside, votes of many people",
    targets="preferences, weighted counts: preference, coherence, alignment; plain counts: overall (older sets)",
    missing="names of voters (who voted what, by country and language, is not read); splits",
    checked="data cards; not checked against a file",
    makes=Preference,
    read=_read,
    embedded=True,
)
