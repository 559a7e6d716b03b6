"""Shards of targets that are made while another process still checks the pool; a folder takes them over once it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.files import disk_errors
from zreward.common.jobs import Job
from zreward.common.runs import say
from zreward.common.temporary import temporary_folder
from zreward.data import Record
from zreward.data.fingerprint import records_fingerprint
from zreward.data.pool_check import PoolCheck

_BYTES = 256 << 20  # of the encoded pictures of a shard, which are in memory together here
Make = Callable[[Sequence[Record], int, int, Callable[[], object]], pa.Table]
"""A shard of some records, of which the first has this number; the shard's number; and what to call between batches."""


class EarlyShard(NamedTuple):
    """A file, and the fingerprint of the records that it was made from."""

    file: Path
    records: str

    def fits(self, records: Sequence[Record]) -> bool:
        """Whether it was made from these."""
        return self.records == records_fingerprint(records)


@contextmanager
def early_shards(
    check: PoolCheck, out: Path, size: int, name_of: Callable[[int], str], make: Make, job: Job | None = None
) -> Iterator[Mapping[str, EarlyShard]]:
    """Whole shards of the first records, made until the check ends; none where it ends soon. They go with the block.

    Args:
        check: of the pool.
        out: a folder that is there; they lie in a temporary folder in it.
        size: records of a shard.
        name_of: a shard's file, by its number.
        make: makes a shard.
        job: which shards are made, where several jobs make them.

    Raises:
        InputError: as soon as the check has found bad lines; what `make` raises.
    """
    made: dict[str, EarlyShard] = {}
    with temporary_folder(out) as folder:
        if check.takes_long():
            say(f"{check.source}: its rows are still being checked; labelling begins, and is kept once all are good")
            for number, records in _parts(check, size):
                if job is None or job.makes(number):
                    shard = EarlyShard(folder / name_of(number), records_fingerprint(records))
                    table = make(records, number * size, number, check.is_running)
                    with disk_errors(out):
                        pq.write_table(table, shard.file)
                    made[shard.file.name] = shard
        yield made


def _parts(check: PoolCheck, size: int) -> Iterator[tuple[int, list[Record]]]:
    """The first records, `size` at a time, until the check ends. Fewer than `size` are left to be made later, and large ones."""
    records = check.first()
    with tqdm(desc="labelling while rows are checked", unit="image") as progress:
        for number in count():
            try:
                part = _taken(records, size)
            except InputError:  # the check says it
                return
            if len(part) < size or not check.is_running():
                return
            yield number, part
            progress.update(size)


def _taken(records: Iterator[Record], size: int) -> list[Record]:
    """The next `size` records; fewer where they end, or where their pictures take more than `_BYTES`."""
    part: list[Record] = []
    held = 0
    for record in islice(records, size):
        held += sum(len(picture) for picture in record.pictures if isinstance(picture, bytes))
        if held > _BYTES:
            break
        part.append(record)
    return part
