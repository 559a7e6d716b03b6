"""What a model is asked about records, batch by batch, and which process of a launch asks it.

Shapes: N records, M questions (as many, or the pairs of a model that compares), D dimensions, S bins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from zreward.common.errors import InputError, counted
from zreward.common.jobs import Job
from zreward.common.ranks import gathered, own_numbers
from zreward.data.record import Record
from zreward.models.draws import seed_of
from zreward.prompting import Texts, judged_as

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel


@dataclass(frozen=True)
class Questions:
    """M records to score; of a model that compares, every pair of a record and another one of its prompt group."""

    records: Sequence[Record]
    pairs: Sequence[tuple[int, int]] | None = None  # of records

    @classmethod
    def about(cls, records: Sequence[Record], compares: bool) -> Questions:
        """InputError where a record has none to be compared with."""
        return cls(records, _pairs(records) if compares else None)

    def __len__(self) -> int:
        return len(self.records if self.pairs is None else self.pairs)

    def record(self, question: int) -> int:
        return question if self.pairs is None else self.pairs[question][0]

    def texts(self, question: int) -> Texts:
        record = self.records[self.record(question)]
        return Texts(record.prompt, record.answer)

    def shown(self, question: int) -> tuple[Any, ...]:
        """The record's pictures, after those of its reference for a model that compares."""
        pair = (question,) if self.pairs is None else self.pairs[question][::-1]
        return tuple(picture for number in pair for picture in self.records[number].pictures)

    def by_record(self, answers_M: Tensor) -> Tensor:
        """(M, ...) -> (N, ...): the mean over the pairs of a record."""
        if self.pairs is None:
            return answers_M
        counts = torch.bincount(torch.tensor([number for number, _ in self.pairs])).tolist()
        return torch.stack([part.mean(0) for part in answers_M.split(counts)])


@dataclass(frozen=True)
class Batch:
    """Questions that are asked together. Those after the first `count`, and all of one without a number, are not counted."""

    number: int | None
    questions: tuple[int, ...]
    count: int


class Answers(NamedTuple):
    probs: Tensor  # (M, D, S)
    output_tokens: Tensor  # (M, D)
    truncated: Tensor  # (M, D)
    trace_probs: Tensor  # (M, K, D, S), those whose mean `probs` is; K = 0 without reasoning

    @classmethod
    def cat(cls, parts: Sequence[Answers]) -> Answers:
        return cls(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def first(self, count: int) -> Answers:
        return Answers(*(values[:count] for values in self))


class Asked(NamedTuple):
    answers: Answers  # to all questions
    seconds: float


def ask(
    model: RewardModel,
    asked: Questions,
    names: tuple[str, ...],
    reasoning: bool,
    traces: int,
    batch_size: int | None,
    seed: int,
    progress: bool,
    temperature: float,
    job: Job | None,
    together: bool,
) -> Asked:
    """The answers to all questions, whichever process of a launch asked them; see `prediction.predict` for the arguments."""
    begin, size = time.perf_counter(), batch_size or (8 if reasoning else 32)
    batches = own_batches(len(asked), size, job, together)
    own: dict[int, Answers] = {}
    with torch.random.fork_rng(range(torch.cuda.device_count())), _bar(batches, reasoning, progress, job) as bar:
        if reasoning:
            answers = judge(model, asked, batches, names, traces, temperature, size, seed, alone=job is None)
        else:
            answers = score(model, asked, batches, names, size if together else batch_size)
        for batch, part in zip(batches, answers, strict=True):
            if batch.number is not None:
                own[batch.number] = part.first(batch.count)
            bar.update(batch.count)
    everything = Answers.cat(gathered(job, own, -(-len(asked) // size)))
    return Asked(everything, time.perf_counter() - begin)


def _bar(batches: Sequence[Batch], reasoning: bool, progress: bool, job: Job | None) -> tqdm:
    """Of the first process's part, where there are several."""
    hidden = not progress or (job is not None and job.number > 1)
    what = "reasoning" if reasoning else "scoring"
    return tqdm(total=sum(batch.count for batch in batches), desc=what, unit="image", disable=hidden)


def own_batches(count: int, size: int, job: Job | None, together: bool) -> list[Batch]:
    """The batches that a process asks of `count` questions.

    Args:
        count: M, of all processes.
        size: questions in a batch.
        job: the process; None where it is alone.
        together: every forward pass takes all processes: each asks equally many batches of equally many questions, and
            those that are too many are repetitions.
    """
    size = min(size, count)
    batches = -(-count // size)
    own = []
    for number in own_numbers(job, batches):
        questions = tuple(range(number * size, min((number + 1) * size, count)))
        own.append(Batch(number, questions, len(questions)))
    if job is None or not together:
        return own
    own = [Batch(one.number, one.questions + one.questions[-1:] * (size - one.count), one.count) for one in own]
    repeated = Batch(None, tuple(range(size)), 0)
    return own + [repeated] * (-(-batches // job.count) - len(own))


def score(
    model: RewardModel, asked: Questions, batches: Sequence[Batch], names: tuple[str, ...], batch_size: int | None
) -> Iterator[Answers]:
    """The answers of each batch, in the direct form. `batch_size` is the most pictures of a pass; default the model's choice."""
    order = [question for batch in batches for question in batch.questions]
    shown, texts = [asked.shown(question) for question in order], [asked.texts(question) for question in order]
    window = len(batches[0].questions) if batches else 1
    with _told_of(asked, order):
        for part in model.score_windows(shown, texts, names, window, batch_size):
            probs = part.probs.detach().cpu()
            blank = torch.zeros(probs.shape[:2])
            yield Answers(probs, torch.ones_like(blank), blank, probs.new_empty(len(probs), 0, *probs.shape[1:]))


def judge(
    model: RewardModel,
    asked: Questions,
    batches: Sequence[Batch],
    names: tuple[str, ...],
    traces: int,
    temperature: float,
    size: int,
    seed: int,
    alone: bool,
) -> Iterator[Answers]:
    """The answers of each batch after reasoning.

    A process that is alone draws all traces in one row of random numbers. Among several, every batch has a seed of its own: it
    does not matter which of them asks it.
    """
    torch.manual_seed(seed)
    for batch in batches:
        if not alone and batch.number:
            torch.manual_seed(seed_of(seed, batch.number))
        images, prompts, options = judged_as(
            [asked.shown(each) for each in batch.questions], [asked.texts(each) for each in batch.questions]
        )
        with _told_of(asked, batch.questions):
            judged = model.judge(images, prompts, traces, names, temperature, size, **options)
        yield Answers(
            torch.cat([one.distribution.probs for one in judged]).detach().cpu(),
            torch.stack([one.tokens.float().mean(0) for one in judged]) + 1,
            torch.stack([one.truncated.float().mean(0) for one in judged]),
            torch.stack([one.trace_distribution for one in judged]).detach().cpu(),
        )


def _told_of(asked: Questions, questions: Sequence[int]):
    """What is wrong with a question is said of its record."""
    numbers = [asked.record(question) for question in questions]
    return counted(numbers, what=_Names(asked.records))


class _Names(Sequence[Any]):
    """What records are called, looked up when an error names one."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: Any) -> Any:
        return self.records[number].name


def _pairs(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Every record with each other one of its prompt group."""
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.group_key, []).append(number)
    for number, record in enumerate(records):
        if len(groups[record.group_key]) == 1:
            raise InputError(
                f"record {record.id or number}: the only picture of its prompt; a model that compares needs a second one"
            )
    return [(n, other) for n, record in enumerate(records) for other in groups[record.group_key] if other != n]
