"""Requests of many clients become batches of one model.

A request waits at most `max_wait` seconds for others, is never split, and is answered alone where its batch failed: one
client's picture cannot spoil another's answer. How many may wait is the caller's to decide (`zreward.serving.turns`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor

from zreward.common.errors import check_counts
from zreward.distribution import ScoreDistribution

Score = Callable[[list[Tensor], list[str]], ScoreDistribution]


class Closing(Exception):
    """The server is shutting down; what it accepted is still answered."""


@dataclass
class _Job:
    images: list[Tensor]
    prompts: list[str]
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[ScoreDistribution] = field(default_factory=Future)


class Batcher:
    """One thread that scores what others submit. Sizes count images."""

    def __init__(
        self,
        score: Score,
        max_batch: int = 32,
        max_wait: float = 0.01,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`context` surrounds the thread's work, such as a stream of its own on a GPU."""
        check_counts(max_batch=max_batch)
        self._score, self.max_batch, self.max_wait, self._context = score, max_batch, max_wait, context
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.seconds_per_image = 0.0  # a running mean
        self.waiting = 0  # images in the queue
        self.batches = 0
        self._thread = threading.Thread(target=self._run, name="zreward-batcher", daemon=True)
        self._thread.start()

    def submit(self, images: Sequence[Tensor], prompts: Sequence[str]) -> Future[ScoreDistribution]:
        """The answer to come. Raises Closing after `close`."""
        job = _Job(list(images), list(prompts))
        with self._changed:
            if self._closing:
                raise Closing("the server is shutting down")
            self._jobs.append(job)
            self.waiting += len(job.images)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Accept nothing more, answer everything that was accepted, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._context():
            while batch := self._next_batch():
                begin = time.monotonic()
                self._answer(batch)
                taken = (time.monotonic() - begin) / sum(len(job.images) for job in batch)
                self.seconds_per_image = taken if not self.batches else 0.9 * self.seconds_per_image + 0.1 * taken
                self.batches += 1

    def _next_batch(self) -> list[_Job]:
        """Jobs for one pass, in the order they came; empty when there is nothing left to do."""
        with self._changed:
            while not self._jobs and not self._closing:
                self._changed.wait()
            while self._jobs and not self._closing and self.waiting < self.max_batch:
                left = self._jobs[0].arrived + self.max_wait - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Job] = []
            count = 0
            while self._jobs and (not batch or count + len(self._jobs[0].images) <= self.max_batch):
                batch.append(self._jobs.popleft())
                count += len(batch[-1].images)
            self.waiting -= count
            return batch

    def _answer(self, batch: list[_Job]) -> None:
        live = [job for job in batch if job.answer.set_running_or_notify_cancel()]
        try:
            images = [image for job in live for image in job.images]
            scores = self._score(images, [prompt for job in live for prompt in job.prompts]) if live else None
        except Exception as error:
            self._answer_alone(live, error)
            return
        at = 0
        for job in live:
            assert scores is not None
            job.answer.set_result(scores[at : at + len(job.images)])
            at += len(job.images)

    def _answer_alone(self, jobs: list[_Job], error: Exception) -> None:
        """After a batch failed: each job by itself, so that only the faulty one fails."""
        for job in jobs:
            try:
                job.answer.set_result(self._score(job.images, job.prompts) if len(jobs) > 1 else _raise(error))
            except Exception as own:
                job.answer.set_exception(own)


def _raise(error: Exception) -> ScoreDistribution:
    raise error
