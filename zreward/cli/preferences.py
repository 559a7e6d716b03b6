"""`zreward evaluate` on preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zreward.cli.options import STDOUT, save, say_usage
from zreward.common.errors import InputError

if TYPE_CHECKING:
    from zreward.data.preference import Preference


@dataclass(frozen=True)
class Pairs:
    """The preferences of the command line, and where a tie begins."""

    data: Path
    split: str | None
    skip_bad: bool
    dev: Path | None
    dev_split: str | None
    tie_threshold: float | None
    resamples: int

    def read(self) -> tuple[list[Preference], list[Preference]]:
        """Those that are tested, and those on which the threshold of ties is chosen."""
        from zreward.data.preference_files import load_preferences
        from zreward.data.splits import check_disjoint
        from zreward.evaluation.preference_prediction import distinct_pictures

        if self.dev is None and self.dev_split is not None:
            raise InputError(f"--dev-split {self.dev_split} goes with --dev, a file of preferences")
        if self.dev is not None and self.tie_threshold is not None:
            raise InputError("--dev and --tie-threshold: both say where a tie begins; give one of them")
        tested = load_preferences(self.data, self.skip_bad, split=self.split)
        if self.dev is None:
            return tested, []
        dev = load_preferences(self.dev, self.skip_bad, split=self.dev_split)
        try:
            check_disjoint(distinct_pictures(dev)[0], distinct_pictures(tested)[0])
        except InputError as error:
            raise InputError(f"--dev {self.dev} and {self.data}: {error}") from None
        return tested, dev


def evaluate_preferences(
    load: Callable[[], Any],
    title: str,
    pairs: Pairs,
    names: Sequence[str] | None,
    how: Mapping[str, Any],
    csv: Path | None,
    json_file: Path | None,
) -> None:
    """Read, ask and print. `how` goes to `predict_preferences`; `load` makes the model, once the data are known to be right."""
    from zreward.evaluation.preference_prediction import answering, predict_preferences
    from zreward.evaluation.preference_table import (
        COLUMNS,
        OPTIONAL,
        captions,
        preference_rows,
        tie_thresholds,
        voted_pairs,
    )
    from zreward.evaluation.tables import print_rows, write_csv

    tested, dev = pairs.read()
    model = load()
    answers = answering(tested, model.rubric.dimension_names, names)
    if dev and not any(one.counts(name) for one in dev for name in answers):
        raise InputError(
            f"--dev {pairs.dev}: no preference has votes on {', '.join(answers)}, which {pairs.data} is tested on"
        )
    asked = tuple(dict.fromkeys(one for own in answers.values() for one in own))
    said = predict_preferences(model, tested, asked, **how)
    thresholds = None
    if dev:
        tuned = predict_preferences(model, dev, asked, **how)
        thresholds = tie_thresholds(voted_pairs(tuned, dev, answers))
    say_usage(model)
    job = how["job"]
    if job is not None and job.number > 1:
        return
    found = voted_pairs(said, tested, answers)
    if pairs.tie_threshold is not None:
        thresholds = dict.fromkeys(found, pairs.tie_threshold)
    rows = preference_rows(found, thresholds, pairs.resamples, how["seed"])
    if json_file != STDOUT:
        print_rows(rows, COLUMNS, title, *captions(answers), OPTIONAL)
    if json_file:
        save(json_file, rows)
    if csv:
        typer.echo(f"table: {write_csv(csv, rows)}", err=json_file == STDOUT)
