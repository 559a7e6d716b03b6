"""`zreward bench`: reads suites, asks models, and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zreward.bench.overlapping import Checked, Holdings
from zreward.bench.published import load_suite
from zreward.bench.quoted import quoted_for
from zreward.bench.ratings import matched
from zreward.bench.results import document, markdown, sources_of, table_lines
from zreward.bench.run import Asking, Measured, measure_model, measure_table
from zreward.bench.suite import Suite
from zreward.bench.tables import Said, read_said, split_place
from zreward.common.errors import InputError
from zreward.common.files import write_json, write_text
from zreward.common.runs import versions


@dataclass(frozen=True)
class Request:
    """What the command line asks for. Names lead to places."""

    models: Mapping[str, str]
    suites: Mapping[str, Path]
    predictions: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    partial: bool = False
    allow_overlap: bool = False
    split: str | None = None
    asking: Asking = field(default_factory=Asking)


@dataclass(frozen=True)
class Report:
    """What was found, and how it is shown."""

    suites: list[Suite]
    measured: list[Measured]
    checked: list[Checked]
    meta: Mapping[str, Any]
    matching: list[str] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        more = {"overlap": [one.facts for one in self.checked], "notes": self.notes}
        return document(self.suites, self.measured, self.quoted, self.meta) | more

    @property
    def quoted(self) -> list[dict[str, Any]]:
        """Published figures of others on these suites."""
        return quoted_for([one.name for one in self.suites])

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know."""
        return list(dict.fromkeys([*(one.note for one in self.checked if one.note), *self.matching]))

    def print(self) -> None:
        """The official figures, in the terminal."""
        from zreward.bench.printing import print_lines

        print_lines(table_lines(self.suites, self.measured, self.quoted))

    def write(self, out: Path) -> list[Path]:
        """bench.json, bench.md and bench.html in a new folder."""
        from zreward.bench.page import write_page

        out.mkdir(parents=True)
        notes = [*self.notes, *sources_of(self.quoted)]
        write_json(out / "bench.json", self.document)
        write_text(out / "bench.md", markdown(table_lines(self.suites, self.measured, self.quoted, every=True), notes))
        page = write_page(out / "bench.html", self.suites, self.measured, self.quoted, self.notes, self.meta)
        return [out / "bench.json", out / "bench.md", page]


def run_bench(request: Request, load: Callable[[str], Any], say: Callable[[str], None]) -> Report:
    """Measure every model and every table of predictions on every suite.

    Args:
        request: what to measure.
        load: a model's place -> the model.
        say: shows a note.

    Raises:
        InputError: nothing to measure; a suite, table or model that does not fit; a suite that holds training data.
    """
    tables = _tables(request)
    if not request.suites or not (request.models or tables):
        raise InputError("expected models or --predictions, and at least one --suite NAME=PATH")
    unknown = next((name for name in request.images if name not in request.suites), None)
    if unknown is not None:
        raise InputError(f"--images {unknown}: no suite is called {unknown!r}")
    check = "exist" if request.models else "none"
    suites = [
        load_suite(name, path, request.split, request.images.get(name), check) for name, path in request.suites.items()
    ]
    by_name = {one.name: one for one in suites}
    tables = {(name, suite): matched(said, by_name[suite]) for (name, suite), said in tables.items()}
    matching = [_matching(name, by_name[suite]) for name, suite in tables if by_name[suite].unkeyed is not None]
    for note in matching:
        say(f"note: {note}")
    measured: list[Measured] = []
    holdings, checked = [Holdings(suite) for suite in suites], list[Checked]()
    for name, place in request.models.items():
        model = load(place)
        for own in holdings:
            found = Checked(name, own.suite, own.overlap(model, request.allow_overlap))
            if not request.allow_overlap:
                found.refuse()
            if found.note and found.note not in [one.note for one in checked]:
                say(f"note: {found.note}")
            checked.append(found)
        for suite in suites:
            measured += measure_model(model, name, suite, request.asking)
        del model
    for (name, suite_name), said in tables.items():
        measured += measure_table(said, name, by_name[suite_name], request.asking, request.partial)
    meta = {
        "models": dict(request.models),
        "suites": {name: str(path) for name, path in request.suites.items()},
        "predictions": dict(request.predictions),
        "seed": request.asking.seed,
        "resamples": request.asking.resamples,
        "reasoning": request.asking.reasoning,
        "traces": request.asking.traces if request.asking.reasoning else 0,
        "versions": versions(),
    }
    return Report(suites, measured, checked, meta, matching)


def _matching(name: str, suite: Suite) -> str:
    return f"{name} on {suite.name}: rows were matched by their number; no column says what a row is about"


def _tables(request: Request) -> dict[tuple[str, str], Said]:
    """(name, suite) -> the table's column, read before any model is."""
    found = {}
    for text, place in request.predictions.items():
        name, at, suite = text.partition("@")
        if at and suite not in request.suites:
            raise InputError(f"--predictions {text}: no suite is called {suite!r}")
        if not at and len(request.suites) != 1:
            raise InputError(
                f"--predictions {text}: say which suite it answers, as in {text}@{next(iter(request.suites), 'SUITE')}="
            )
        found[name, suite or next(iter(request.suites))] = read_said(*split_place(place))
    return found
