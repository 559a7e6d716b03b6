"""The regular files in a tar, one after the other: where each lies, without unpacking or holding what came before.

A tar may come from anybody. Python's `tarfile` reads the headers, but takes a damaged one for the end of the archive, and reads
extended ones of any size; here both are errors. Links, devices, pipes and sparse files are refused. Names are only names: no file
is written or opened under them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from zreward.common.bounded import check_regular
from zreward.common.errors import InputError

_MOST_HEADER = 1 << 16  # bytes of an extended header, which holds a long name
_MOST_GLOBAL = 100  # fields of headers that count for all members
_BLOCK = tarfile.BLOCKSIZE
_TAIL = 1 << 16  # bytes behind the end mark that are looked at: writers fill up with zeros
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"BZh", "bzip2", "bunzip2"),
)
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_NOT_READ = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class Member(NamedTuple):
    """A file in a tar: `size` bytes from `offset` on."""

    name: str
    offset: int
    size: int


class DamagedTarError(InputError):
    """What follows a member cannot be read: the tar is cut off or damaged, or holds what is no file."""


def members(path: str) -> Iterator[Member]:
    """The files of a tar in its order; folders are passed over.

    Raises:
        InputError: no such file, a compressed one, or no tar.
        DamagedTarError: further on; it names the last good member.
    """
    size = check_regular(path, "a tar shard")
    _refuse_compressed(path)
    last = ""
    try:
        with tarfile.open(path, "r:", tarinfo=_Header, errors="surrogateescape") as archive:
            while (found := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would hold all of them
                _check(found, archive, size)
                last = found.name
                if not found.isdir():
                    yield Member(found.name, found.offset_data, found.size)
            _check_end(path, archive.offset, size)
    except (tarfile.TarError, ValueError, RecursionError, OverflowError, OSError) as error:
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        reason = "chained headers without end" if isinstance(error, RecursionError) else str(error)
        if not last:
            raise InputError(f"{path}: not a tar that can be read: {reason}") from None
        raise DamagedTarError(f"after {last!a}: {reason}") from None


class _Header(tarfile.TarInfo):
    """A header whose sizes are checked before anything is read by them."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0:
            raise ValueError(f"{found.name!a} has a negative size")
        if found.type in _EXTENDED and found.size > _MOST_HEADER:
            raise ValueError(f"an extended header of {found.size:,} bytes; expected at most {_MOST_HEADER:,}")
        if found.type == tarfile.GNUTYPE_SPARSE:
            _refuse_sparse()
        return found

    # tarfile's readers of sparse files read on behind the end of the file.
    def _proc_gnusparse_00(self, *_: Any) -> NoReturn:
        _refuse_sparse()

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _refuse_sparse() -> NoReturn:
    raise ValueError("a sparse file, which is not read; write the tar without --sparse")


def _refuse_compressed(path: str) -> None:
    with open(path, "rb") as file:
        start = file.read(8)
    for mark, name, tool in _COMPRESSED:
        if start.startswith(mark):
            raise InputError(
                f"{path}: compressed with {name}: its pictures cannot be read one by one; uncompress it first ({tool}); "
                "pictures are compressed themselves, so it hardly grows"
            )


def _check(found: tarfile.TarInfo, archive: tarfile.TarFile, size: int) -> None:
    if found.type in _NOT_READ:
        raise ValueError(f"{found.name!a} is {_NOT_READ[found.type]}; expected regular files only")
    if not (found.isreg() or found.isdir()):
        raise ValueError(f"{found.name!a} is of unknown type {found.type!r}; expected regular files only")
    if found.size < 0:  # by an extended header: the next member would lie before it
        raise ValueError(f"{found.name!a} has a negative size")
    if max(archive.offset, found.offset_data + found.size) > size:
        raise ValueError(f"{found.name!a}, {found.size:,} bytes, is cut off by the end of the file; get it again")
    if len(archive.pax_headers) > _MOST_GLOBAL:
        raise ValueError(f"more than {_MOST_GLOBAL} fields in global headers")


def _check_end(path: str, offset: int, size: int) -> None:
    """ValueError unless a tar's end mark, a block of zeros, is at `offset`, and only zeros behind it."""
    with open(path, "rb") as file:
        file.seek(offset)
        block, tail = file.read(_BLOCK), file.read(_TAIL)
    if offset >= size or len(block) < _BLOCK:
        raise ValueError("the tar ends without its end mark, as one that was cut off does; get it again")
    if any(block):
        raise ValueError(f"a damaged header at byte {offset:,}; get it again")
    if any(tail):
        raise ValueError("more follows behind the end mark; tars are joined with `tar --concatenate`, not with cat")
