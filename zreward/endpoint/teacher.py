"""A model behind an OpenAI-compatible endpoint, with the methods of `RewardModel` that labelling and evaluation use.

Shapes: N items, D dimensions, K traces of a question, S bins.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from zreward.common.errors import InputError, check_counts, check_temperature
from zreward.common.texts import match_prompts
from zreward.distribution import ScoreDistribution
from zreward.endpoint.client import EndpointClient
from zreward.endpoint.connection import Connection, connect
from zreward.endpoint.labels import LabelReading, check_labels
from zreward.endpoint.requests import chat, data_uri
from zreward.endpoint.settings import EndpointSettings, read_settings
from zreward.models.calibration import Calibration
from zreward.models.checkpoint import read_meta
from zreward.models.pixels import as_pictures
from zreward.models.reasoning import Judgement
from zreward.models.teacher import ReportedDistribution, plain_prompts, single_pictures
from zreward.prompting import PromptForms, Texts
from zreward.rubric import Rubric


@dataclass(frozen=True)
class _Question:
    """One (picture, dimension), and one trace of it."""

    item: int
    name: str
    seed: int


@dataclass(frozen=True)
class _Answer:
    reading: LabelReading
    trace: str = ""
    tokens: int = 0
    truncated: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointTeacher:
    """Asks a server for traces and for the distribution over the labels. Make one with `connect`.

    Requests of a call run side by side, `concurrency` at a time. Labels that an answer does not list get an upper bound
    (`endpoint.labels`); the distributions say how much of them is such a bound.
    """

    any_sequence: ClassVar[bool] = False

    def __init__(self, connection: Connection, rubric: Rubric, forms: PromptForms, max_trace_tokens: int) -> None:
        self.connection, self.rubric, self.forms, self.max_trace_tokens = connection, rubric, forms, max_trace_tokens
        self.calibrations: dict[str, Calibration] = {}  # what a server says is not recalibrated
        self._bounded: list[float] = []

    @classmethod
    def connect(cls, name: str | EndpointSettings) -> EndpointTeacher:
        """The teacher of `endpoint:URL#MODEL` or `endpoint:FILE.yaml`; asks the server a few small questions first.

        Args:
            name: the name, or settings.

        Raises:
            InputError: an unreachable server, an unknown model, one that returns no log-probabilities, labels that cannot
                be single tokens, a model that compares two pictures.
        """
        settings = name if isinstance(name, EndpointSettings) else read_settings(name)
        rubric, forms, tokens = _questions(settings)
        check_labels(rubric.labels)
        if forms.reference:
            raise InputError(
                f"endpoint: {settings.checkpoint} compares with a reference picture, which endpoints are not sent; name a "
                "checkpoint that scores single pictures"
            )
        return cls(connect(EndpointClient(settings), rubric, forms), rubric, forms, tokens)

    def close(self) -> None:
        """Close the connections."""
        self.connection.client.close()

    def check_dimensions(self, dimensions: Sequence[str] | None) -> tuple[str, ...]:
        """The names asked for (default: all of the rubric's), each known; InputError otherwise."""
        return self.rubric.check_names(dimensions)

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on, as far as it can be known from here. The address is no part of it: servers move."""
        settings = self.connection.client.settings
        return {
            "endpoint_model": self.connection.model,
            "answer": self.connection.form,
            "forms": self.forms.digested(),
            "max_trace_tokens": self.max_trace_tokens,
            "top_logprobs": settings.top_logprobs,
            "longest_side": settings.longest_side,
            "extra": settings.extra,
        }

    def report(self) -> str:
        """What was asked so far, in a sentence."""
        usage = self.connection.client.usage
        share = sum(self._bounded) / max(1, len(self._bounded))
        return (
            f"endpoint: {usage.requests:,} answers ({usage.retries:,} retries), {usage.prompt_tokens:,} prompt tokens, "
            f"{usage.completion_tokens:,} completion tokens; {len(self._bounded):,} distributions, of whose probability "
            f"{share:.2%} on average and {max(self._bounded, default=0.0):.2%} at most is an upper bound for labels that were "
            "not listed"
        )

    def score(
        self, images: Any, prompts: Sequence[str] | str, dimensions: Sequence[str] | None = None
    ) -> ReportedDistribution:
        """Score N images directly, without reasoning.

        Args:
            images: as in `RewardModel.score`.
            prompts: one text per image, or one for all.
            dimensions: names of the rubric's dimensions; default all of them.

        Returns:
            Distributions with probs (N, D, S).
        """
        images, names = as_pictures(images), self.check_dimensions(dimensions)
        return self._scores([(image,) for image in images], match_prompts(prompts, len(images)), names)

    def score_windows(
        self,
        shown: Sequence[tuple[Any, ...]],
        prompts: Sequence[str | Texts],
        names: tuple[str, ...],
        window: int,
        batch_size: int | None = None,
        token_budget: int | None = None,
    ) -> Iterator[ScoreDistribution]:
        """`score` in parts of `window` items.

        Args:
            shown: a tuple with every item's image.
            prompts: a text per item.
            names: dimensions of the rubric.
            window: the items of a part.
            batch_size: not used: the server makes its own batches.
            token_budget: not used.
        """
        images, plain = single_pictures(shown, None, "an endpoint"), plain_prompts(prompts, "an endpoint")
        for start in range(0, len(shown), window):
            part = [(image,) for image in images[start : start + window]]
            yield self._scores(part, plain[start : start + window], names, start)

    def judge(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        traces: int = 1,
        dimensions: Sequence[str] | None = None,
        temperature: float = 1.0,
        batch_size: int | None = None,
        answers: Sequence[str | None] | str | None = None,
    ) -> list[Judgement]:
        """Let the model reason, then ask for its score. Seeds for the server are drawn from torch's random state.

        Args:
            images: as in `RewardModel.score`.
            prompts: one text per image, or one for all.
            traces: traces per image and dimension; their distributions are averaged.
            dimensions: names of the rubric's dimensions; default all of them.
            temperature: of sampling, 0 (greedy) or more.
            batch_size: not used: the server makes its own batches.
            answers: none: an endpoint is asked about single pictures.

        Returns:
            One judgement per image.
        """
        images, names = single_pictures(as_pictures(images), answers, "an endpoint"), self.check_dimensions(dimensions)
        texts = match_prompts(prompts, len(images))
        check_counts(traces=traces)
        check_temperature(temperature)
        seeds = iter(torch.randint(2**31 - 1, (len(images) * len(names) * traces,)).tolist())
        asked = [_Question(i, name, next(seeds)) for i in range(len(images)) for name in names for _ in range(traces)]
        replies = self._side_by_side(images, texts, asked, functools.partial(self._after_trace, temperature))
        each = len(names) * traces
        return [self._judgement(replies[i * each : (i + 1) * each], names, traces) for i in range(len(images))]

    def _scores(
        self, shown: Sequence[tuple[Any, ...]], prompts: Sequence[str], names: tuple[str, ...], first: int = 0
    ) -> ReportedDistribution:
        asked = [_Question(i, name, 0) for i in range(len(shown)) for name in names]
        answers = self._side_by_side([each[0] for each in shown], prompts, asked, self._directly, first)
        rows = [answers[start : start + len(names)] for start in range(0, len(answers), len(names))]
        probs_NDS = torch.tensor([[answer.reading.probs for answer in row] for row in rows])
        facts = tuple(tuple(_facts([answer]) for answer in row) for row in rows)
        return ReportedDistribution(probs_NDS, self.rubric.scale.bins, names, facts=facts)

    def _side_by_side(
        self,
        images: Sequence[Any],
        prompts: Sequence[str],
        asked: Sequence[_Question],
        answer: Callable[[str, str, _Question], _Answer],
        first: int = 0,
    ) -> list[_Answer]:
        """The answers, in the order of the questions. The first error, with its item, ends the others."""
        settings = self.connection.client.settings

        def ask(question: _Question) -> _Answer:
            try:
                return answer(shown[question.item].result(), prompts[question.item], question)
            except InputError as error:
                where = f"item {first + question.item}, dimension {question.name!r}"
                raise InputError(f"{where}: {error}") from None

        with ThreadPoolExecutor(settings.concurrency) as threads:
            shown = [threads.submit(data_uri, image, settings.longest_side) for image in images]
            running = [threads.submit(ask, question) for question in asked]
            try:
                answers = [future.result() for future in running]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        self._bounded += [answer.reading.bounded for answer in answers]
        return answers

    def _directly(self, uri: str, prompt: str, question: _Question) -> _Answer:
        turns = self._turns(uri, prompt, question.name, reasoning=False)
        reading, cost = self.connection.label(turns, self.forms.answer_prefix, None)
        return _Answer(reading, prompt_tokens=cost.prompt, completion_tokens=cost.completion)

    def _after_trace(self, temperature: float, uri: str, prompt: str, question: _Question) -> _Answer:
        turns = self._turns(uri, prompt, question.name, reasoning=True)
        trace = self.connection.trace(turns, self.max_trace_tokens, temperature, question.seed)
        reading, cost = self.connection.label(turns, self.connection.own_turn(trace.text), trace.text)
        return _Answer(
            reading,
            trace.text.strip(),
            trace.cost.completion,
            trace.is_cut,
            trace.cost.prompt + cost.prompt,
            trace.cost.completion + cost.completion,
        )

    def _turns(self, uri: str, prompt: str, name: str, reasoning: bool) -> list[dict[str, Any]]:
        return chat(uri, prompt, self.rubric.dimension(name), self.rubric, self.forms, reasoning)

    def _judgement(self, answers: Sequence[_Answer], names: tuple[str, ...], traces: int) -> Judgement:
        """Of D dimensions with K traces each, dimension by dimension."""
        of_name = [answers[d * traces : (d + 1) * traces] for d in range(len(names))]
        probs_DKS = torch.tensor([[answer.reading.probs for answer in mine] for mine in of_name])
        facts = (tuple(_facts(mine) for mine in of_name),)
        return Judgement(
            ReportedDistribution(probs_DKS.mean(1)[None], self.rubric.scale.bins, names, facts=facts),
            {name: [answer.trace for answer in mine] for name, mine in zip(names, of_name, strict=True)},
            probs_DKS.transpose(0, 1),
            torch.tensor([[answer.tokens for answer in mine] for mine in of_name]).T,
            torch.tensor([[answer.truncated for answer in mine] for mine in of_name]).T,
        )


def _questions(settings: EndpointSettings) -> tuple[Rubric, PromptForms, int]:
    """Rubric, prompt forms and trace budget, from a checkpoint where one is named."""
    meta = read_meta(Path(settings.checkpoint)) if settings.checkpoint else None
    rubric = meta.rubric if meta else Rubric.default()
    if settings.rubric:
        rubric = Rubric.from_yaml(settings.rubric)
        if meta and rubric.fingerprint() != meta.rubric.fingerprint():
            raise InputError(
                f"endpoint: {settings.rubric} is another rubric than that of {settings.checkpoint}; leave one out"
            )
    tokens = settings.max_trace_tokens or (meta.max_trace_tokens if meta else 512)
    return rubric, meta.forms if meta else PromptForms(), tokens


def _facts(answers: Sequence[_Answer]) -> dict[str, Any]:
    """Columns of a targets file, over the traces of a question: the mean bounded share, and all tokens."""
    return {
        "bounded": sum(answer.reading.bounded for answer in answers) / len(answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": sum(answer.completion_tokens for answer in answers),
    }
