"""A pool that another process checks while its first records are used already.

Checking half a million rows takes minutes, in which a GPU would wait. What is made of the first records is kept only once
all rows were found good: a bad line is one InputError, as if the check had come first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import partial

from zreward.common.errors import InputError
from zreward.data.bad_lines import BadLines
from zreward.data.reading import Reading, read_records
from zreward.data.record import Record
from zreward.data.record_cache import is_to_check, open_records
from zreward.data.record_table import Records
from zreward.data.rows import Fields, bytes_of
from zreward.data.sources import Source, read_rows

PATIENCE = 10.0  # seconds in which a check may end before anything else begins
_MANY, _BYTES = 1000, 64 << 20  # rows, or bytes of pictures in them, from which a process of its own is worth its start


class PoolCheck:
    """`open_records` in another process, from the start of a `with` block to its end at the latest.

    Few rows, those that were checked before, and those of the hub are checked by `records` itself.

    Args:
        source: as for `open_records`.
        skip_bad: as for `open_records`.
        split: as for `open_records`.
    """

    def __init__(
        self, source: str | os.PathLike[str] | Source, skip_bad: bool = False, split: str | None = None
    ) -> None:
        self.source = source if isinstance(source, Source) else Source(os.fspath(source))
        self._open = partial(open_records, self.source, skip_bad=skip_bad, split=split)
        self._reading = Reading(self.source, lambda record: record.check_image(True), None, skip_bad, split)
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> PoolCheck:
        if not self.source.is_hub and is_to_check(self._reading) and _are_many(self.source):
            fields = [self.source.fields.prompt, self.source.fields.image]
            asked = json.dumps([self.source.name, fields, self._reading.skip_bad, self._reading.split])
            command = [sys.executable, "-P", "-m", __name__, asked]
            self._answer = tempfile.TemporaryFile()
            # What it would say, `records` says. It ends when its standard input does, as where this process is killed.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._answer, stderr=subprocess.DEVNULL, start_new_session=True
            )
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            with self._process, self._answer:
                self._process.kill()  # what it was writing is swept by the next writer

    def takes_long(self) -> bool:
        """Whether the other process is still at work `PATIENCE` seconds after its start, up to which this call waits."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, self._begun + PATIENCE - time.monotonic()))
        return self.is_running()

    def is_running(self) -> bool:
        """Whether the other process is at work. InputError where it has found bad lines."""
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._answer.seek(0)
        said = self._answer.read()
        if said:  # nothing where it was killed: `records` does its work
            raise InputError(json.loads(said))
        return False

    def first(self) -> Iterator[Record]:
        """The records in their order, read and checked here, whatever the other process has done. Bad lines are passed over."""
        bad = BadLines(self._reading.name, skip=True)
        return (record for record, _ in read_records(self._reading, bad))

    def records(self) -> Records:
        """All records, once they are checked. InputError as `open_records`."""
        if self._process is not None:
            self._process.wait()
            self.is_running()
        return self._open()


def _are_many(source: Source) -> bool:
    held = 0
    with suppress(InputError):  # `records` says it
        for number, row in enumerate(read_rows(source)):
            held += bytes_of(row)
            if number >= _MANY or held > _BYTES:
                return True
    return False


def _check(asked: str) -> None:
    """What the other process does: nothing is printed but an InputError's text."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, fields, skip_bad, split = json.loads(asked)
    try:
        with redirect_stdout(sys.stderr):
            open_records(Source(name, Fields(*fields)), skip_bad=skip_bad, split=split)
    except InputError as error:
        print(json.dumps(str(error)))


def _end_with_parent() -> None:
    os.read(0, 1)  # sys.stdin would be locked, also in the processes that the check forks
    os._exit(1)


if __name__ == "__main__":
    _check(sys.argv[1])
