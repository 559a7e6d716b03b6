"""How far a teacher's score follows its reasoning: the same picture is scored again after other traces.

For each rated record and dimension a trace is sampled, and mu (the expected score) is read after it, after another picture's
trace, after an empty one, and after edits of its own (`coupling_edits`). `coupling_table` makes the figures.
Shapes: N records, M traces (a rated record and dimension each), R rows to read, S bins.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from zreward.common.errors import InputError, check_counts, counted
from zreward.common.jobs import Job
from zreward.common.ranks import gathered, own_numbers
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution
from zreward.evaluation.coupling_edits import DIRECTIONS, WORDS, Edit, choose, find_editor
from zreward.evaluation.prediction import Predictions, rated_dimensions
from zreward.models.draws import seed_of
from zreward.models.modes import evaluation_mode
from zreward.models.reward_model import RewardModel
from zreward.models.rollout import Trace
from zreward.models.rows import Row

SWAP, EMPTY = "swap", "empty"
OTHERS = (SWAP, EMPTY, *DIRECTIONS)
"""What a picture's own trace is replaced by."""


class Written(NamedTuple):
    """A sampled trace."""

    text: str
    tokens: int  # the stop marker included
    truncated: bool
    rewritten: bool  # the text as tokens differs from what was sampled: mu is read after the text


class Reading(NamedTuple):
    """One picture, scored after its own trace and after another."""

    record: int
    dimension: str
    kind: str
    """Of `OTHERS`."""
    mu: float
    """After its own trace."""
    changed: float
    """After the other trace."""
    text: str
    """The other trace."""
    points: float | None = None
    """Of an edit: by how much the text's meaning changes, where that is known."""
    other: float | None = None
    """Of a swap: mu of the other picture after that trace, its own."""

    @property
    def shift(self) -> float:
        return self.changed - self.mu


@dataclass(frozen=True)
class Coupling:
    """What a model said after its own traces and after others."""

    predictions: Predictions
    """Of all N records, after their own traces; dimensions that a record does not rate are uniform."""
    items: list[tuple[int, str]]
    """The M records and dimensions."""
    traces: list[Written]
    """M of them."""
    readings: list[Reading]

    @property
    def rewritten(self) -> int:
        return sum(trace.rewritten for trace in self.traces)


@torch.no_grad()
def measure_coupling(
    model: RewardModel,
    records: Sequence[Record],
    dimensions: Sequence[str] | None = None,
    editor: str = WORDS,
    temperature: float = 1.0,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
    job: Job | None = None,
) -> Coupling:
    """Sample a trace for each rated record and dimension, and score the picture after it and after other traces.

    The trace of a swap is that of another picture of the same prompt, where there is one. Traces and edits follow from the
    seed, record and dimension, not from the batch.

    Args:
        model: one that reasons, on this machine.
        records: rated ones.
        dimensions: names; default those that the records rate.
        editor: `words`, or the name of one that a package registers.
        temperature: of sampling; 0 is greedy.
        batch_size: records at a time, each with up to seven traces.
        seed: of traces, swaps and edits.
        progress: show a progress bar.
        job: this process, where all processes of a launch call this together; default: it is alone.

    Returns:
        All that was read, in each process.

    Raises:
        InputError: an unknown editor, a model that compares or is not on this machine, no rated record, only one.
    """
    edits_of = find_editor(editor)
    if not isinstance(model, RewardModel):
        raise InputError(
            "coupling writes traces for the model to read, which this teacher does not take; use a checkpoint"
        )
    if model.forms.reference:
        raise InputError("coupling: a model that compares two pictures does not reason; use a teacher")
    check_counts(batch_size=batch_size)
    names = model.check_dimensions(dimensions or rated_dimensions(model, records))
    items = [(n, name) for name in names for n, record in enumerate(records) if record.ratings(name)]
    if len(items) < 2:
        raise InputError(
            f"coupling: {len(items)} rated pictures; a trace is swapped with another picture's: give two or more"
        )
    begin = time.perf_counter()
    batches = _batches(items, batch_size)
    mine = own_numbers(job, len(batches))
    with tqdm(
        total=2 * len(mine), desc="coupling", disable=not progress or (job is not None and job.number > 1)
    ) as bar:
        written: dict[int, list[Written]] = {}
        for number in mine:
            written[number] = _write(model, records, [items[m] for m in batches[number]], temperature, seed)
            bar.update()
        traces = [trace for part in gathered(job, written, len(batches)) for trace in part]
        partners = _partners(records, items, seed)
        read: dict[int, list[Tensor]] = {}
        other: dict[int, list[dict[str, Edit]]] = {}
        for number in mine:
            asked = [items[m] for m in batches[number]]
            other[number] = [
                choose(edits_of(traces[m].text, records[n].prompt, name), seed, n, name)
                for m, (n, name) in zip(batches[number], asked, strict=True)
            ]
            texts = [
                [traces[m].text, traces[partners[m]].text, "", *(edit.text for edit in edits.values())]
                for m, edits in zip(batches[number], other[number], strict=True)
            ]
            read[number] = read_after(model, records, asked, texts)
            bar.update()
    probs = [one for part in gathered(job, read, len(batches)) for one in part]
    edits = [one for part in gathered(job, other, len(batches)) for one in part]
    return _coupling(model, len(records), names, items, traces, partners, probs, edits, time.perf_counter() - begin)


def _batches(items: Sequence[tuple[int, str]], size: int) -> list[list[int]]:
    """Numbers of items of one dimension each, whose questions are equally long."""
    batches: list[list[int]] = []
    for number, (_, name) in enumerate(items):
        if not batches or len(batches[-1]) == size or items[batches[-1][0]][1] != name:
            batches.append([])
        batches[-1].append(number)
    return batches


def _write(
    model: RewardModel, records: Sequence[Record], asked: Sequence[tuple[int, str]], temperature: float, seed: int
) -> list[Written]:
    with counted([n for n, _ in asked], what=[record.name for record in records]):
        images, rows = _asked_rows(model, records, asked)
        seeds = [seed_of(seed, n, name) for n, name in asked]
        traces = model.reason(images, rows, temperature, seeds)
    texts = [model.trace_text(trace) for trace in traces]
    return [
        Written(text, len(trace), trace.truncated, as_written(model, text).ids != trace.ids)
        for text, trace in zip(texts, traces, strict=True)
    ]


def _asked_rows(
    model: RewardModel, records: Sequence[Record], asked: Sequence[tuple[int, str]]
) -> tuple[list[Tensor], list[Row]]:
    """The pictures of records, and a row for each question about one."""
    images: list[Tensor] = []
    rows = []
    for item, (n, name) in enumerate(asked):
        record = records[n]
        first = len(images)
        images += map(model.decode, record.pictures)
        shown = tuple(range(first, len(images)))
        rows.append(Row(shown, record.prompt, name, answer=record.answer, item=item))
    return images, rows


def as_written(model: RewardModel, text: str) -> Trace:
    """A text as a trace, an empty one too."""
    return model.as_trace(text) if text.strip() else Trace(tuple(model.encoder.stop_ids), truncated=False)


@torch.no_grad()
def read_after(
    model: RewardModel, records: Sequence[Record], asked: Sequence[tuple[int, str]], texts: Sequence[Sequence[str]]
) -> list[Tensor]:
    """The distributions of pictures after given traces.

    Args:
        model: the judge.
        records: all of them.
        asked: record and dimension of each picture; one dimension for all.
        texts: its traces.

    Returns:
        For each picture (its traces, S), on the CPU.
    """
    images, questions = _asked_rows(model, records, asked)
    rows = [
        replace(row, trace=as_written(model, text)) for row, own in zip(questions, texts, strict=True) for text in own
    ]
    inputs = replace(model.collate(images, rows), share=True, trace_mask=None).to(model.device)
    with evaluation_mode(model):
        logits_RS = model.backbone(inputs).score_logits
    (name,) = {name for _, name in asked}
    scores = ScoreDistribution.from_logits(logits_RS.double().cpu()[:, None], model.rubric.scale.bins, (name,))
    if calibration := model.calibrations.get("reasoning"):
        scores = calibration(scores)
    return list(scores.probs[:, 0].split([len(own) for own in texts]))


def _partners(records: Sequence[Record], items: Sequence[tuple[int, str]], seed: int) -> list[int]:
    """For each item the number of another one of its dimension: of the same prompt where there is one, drawn."""
    of_prompt: dict[tuple[str, str], list[int]] = {}
    of_dimension: dict[str, list[int]] = {}
    for m, (n, name) in enumerate(items):
        of_prompt.setdefault((records[n].group_key, name), []).append(m)
        of_dimension.setdefault(name, []).append(m)
    partners = []
    for m, (n, name) in enumerate(items):
        near, all_of_it = of_prompt[records[n].group_key, name], of_dimension[name]
        others = [other for other in (near if len(near) > 1 else all_of_it) if other != m]
        if not others:
            raise InputError(
                f"coupling: only one picture is rated on {name!r}; give two or more, or name other dimensions"
            )
        partners.append(random.Random(seed_of(seed, n, name, SWAP)).choice(others))
    return partners


def _coupling(
    model: RewardModel,
    count: int,
    names: tuple[str, ...],
    items: list[tuple[int, str]],
    traces: list[Written],
    partners: list[int],
    probs: list[Tensor],
    edits: list[dict[str, Edit]],
    seconds: float,
) -> Coupling:
    bins = model.rubric.scale.bins
    mu = [(own @ bins.double()).tolist() for own in probs]
    readings = []
    for m, (n, name) in enumerate(items):
        own, swapped, empty, *edited = mu[m]
        partner = partners[m]
        readings.append(Reading(n, name, SWAP, own, swapped, traces[partner].text, other=mu[partner][0]))
        readings.append(Reading(n, name, EMPTY, own, empty, ""))
        for edit, after in zip(edits[m].values(), edited, strict=True):
            readings.append(Reading(n, name, edit.kind, own, after, edit.text, edit.points))
    shape = (count, len(names))
    probs_NDS = torch.full((*shape, len(bins)), 1 / len(bins))
    tokens_ND, truncated_ND = torch.zeros(shape), torch.zeros(shape)
    for (n, name), own, trace in zip(items, probs, traces, strict=True):
        place = n, names.index(name)
        probs_NDS[place], tokens_ND[place], truncated_ND[place] = (
            own[0].float(),
            trace.tokens + 1,
            float(trace.truncated),
        )
    predictions = Predictions(probs_NDS, bins, names, tokens_ND, truncated_ND, seconds)
    return Coupling(predictions, items, traces, readings)


def examples(coupling: Coupling, count: int) -> Iterator[tuple[Reading, str]]:
    """The edits after which mu moved furthest in the wrong direction, with the trace that was edited."""
    text = {item: trace.text for item, trace in zip(coupling.items, coupling.traces, strict=True)}
    wrong = [one for one in coupling.readings if one.kind in DIRECTIONS and one.shift * DIRECTIONS[one.kind] < 0]
    for one in sorted(wrong, key=lambda one: -abs(one.shift))[:count]:
        yield one, text[one.record, one.dimension]
