"""TIGER-Lab's GenAI-Bench as its evaluation counts: four labels, two of which are ties.

Source: github.com/TIGER-AI-Lab/GenAI-Bench, inference.py (parse_response), show_results.py, and the rows of results/TASK/MODEL/
pairwise.jsonl: idx, model_vote, human_vote. A suite of such a file has people's votes and no pictures: it measures tables only,

    zreward bench --suite genai-bench-votes=FILE --predictions gpt4o=FILE#model_vote
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zreward.bench.suite import Suite, preference_suite
from zreward.common.errors import InputError, shown
from zreward.data.importers.genai_bench import VOTES
from zreward.data.preference import OVERALL, Preference
from zreward.data.sources import Layout, read_rows

NAME = "genai-bench-votes"
SOURCE = "github.com/TIGER-AI-Lab/GenAI-Bench, inference.py, parse_response()"
ACCEPTED = {
    "leftvote": ("[[A>>B]]", "[[A>B]]"),
    "rightvote": ("[[B>>A]]", "[[B>A]]"),
    "tievote": ("[[A=B]]", "[[A=B=Good]]"),
    "bothbad_vote": ("[[A=B]]", "[[A=B=Bad]]"),
}
_ANY = Layout(lambda key: None, (), "")


def is_label(value: Any, label: str) -> bool:
    """Whether a model's vote is what people said; no vote, or one that cannot be read, is not."""
    return isinstance(value, str) and value in ACCEPTED[label]


def read_votes(path: Path) -> Suite:
    """People's votes of a file of results. InputError: another layout, a vote that is none of the four."""
    found, labels = [], []
    for row in read_rows(path, _ANY):
        if row.data is None:
            raise InputError(f"{row.place}: {row.error}")
        number, label = row.data.get("idx"), row.data.get("human_vote")
        if not isinstance(number, int) or not isinstance(label, str) or label not in ACCEPTED:
            raise InputError(
                f"{row.place}: idx is {shown(number)}, human_vote {shown(label)}; expected a number, and one of "
                f"{', '.join(ACCEPTED)}"
            )
        prompt = row.data.get("prompt") or f"pair {number}"
        sides = (f"{number}/left", f"{number}/right")
        found.append(Preference(prompt, sides, {OVERALL: VOTES[label]}, group=str(number), id=str(number)))
        labels.append(label)
    suite = preference_suite(NAME, found, "exact_label", SOURCE)
    return Suite(NAME, suite.official, suite.source, suite.pictures, suite.preferences, labels=labels)
