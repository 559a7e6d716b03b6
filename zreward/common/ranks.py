"""Work that the processes of one launch share in memory: each makes its part, and all get everything, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from zreward.common.jobs import Job, join

T = TypeVar("T")


def own_numbers(job: Job | None, count: int, size: int = 1) -> list[int]:
    """The numbers below `count` that a process makes, in runs of `size`; all of them without a job."""
    return [number for number in range(count) if job is None or job.makes(number // size)]


def gathered(job: Job | None, own: Mapping[int, T], count: int) -> list[T]:
    """The parts 0 to `count` - 1 that all processes of the launch made together.

    Every one of them calls this as often as the others. torch's error where another one ended before.

    Args:
        job: this process's; None where it is alone.
        own: what it made, by number.
        count: how many parts there are.
    """
    parts: list[Mapping[int, T]] = [own]
    if job is not None:
        import torch.distributed as dist

        join()
        parts *= job.count
        dist.all_gather_object(parts, own)
    made = {number: part for each in parts for number, part in each.items()}
    return [made[number] for number in range(count)]
