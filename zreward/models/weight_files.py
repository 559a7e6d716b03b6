"""Checks of weight files without loading them: complete, well-formed, number of weights, fingerprint.

Only safetensors: a table of names, types, shapes and places, then bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from safetensors import SafetensorError, safe_open

from zreward.common.bounded import MEGABYTE, check_regular, is_lfs_pointer, read_json
from zreward.common.errors import InputError, shown

_WHOLE = 1 << 30  # bytes of weights that are digested whole; of more, parts of every tensor
_PART = 1 << 16  # bytes


def check_weights(folder: Path) -> None:
    """InputError for weights that are cut off, damaged, Git LFS pointers, or that an index places elsewhere."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(folder, index)
    for file in weight_files(folder):
        check_weight_file(file)


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def check_weight_file(file: Path) -> None:
    size = check_regular(file, "weights in safetensors")
    with open(file, "rb") as opened:
        start = opened.read(64)
    if is_lfs_pointer(start):
        raise InputError(f"{file} is a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`")
    header = int.from_bytes(start[:8], "little")
    if size < 8 or header > min(size - 8, 100 * MEGABYTE):
        raise InputError(
            f"{file} is cut off or no safetensors file: {size:,} bytes, and its table alone would have {header:,}; fetch it again"
        )
    try:
        with safe_open(file, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is cut off or damaged ({str(error)[:200]}); fetch it again") from None


def count_numbers(folder: Path) -> int:
    """Numbers in a folder's weights."""
    total = 0
    for file in weight_files(folder):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no dictionary
                size = 1
                for side in opened.get_slice(name).get_shape():
                    size *= side
                total += size
    return total


def files_fingerprint(folder: Path) -> str:
    """16 hex digits over names, types, shapes and bytes of a folder's weights, however they are split into files.

    Of more than 1 GiB the beginning, middle and end of every tensor are read.
    """
    files = weight_files(folder)
    whole = sum(file.stat().st_size for file in files) <= _WHOLE
    tensors = sorted(entry for file in files for entry in _tensors(file))
    digest = hashlib.sha256()
    for name, description, file, start, length in tensors:
        digest.update(f"{name} {description}\n".encode())
        for part in _parts(file, start, length, whole):
            digest.update(part)
    return digest.hexdigest()[:16]


def _tensors(file: Path) -> Iterator[tuple[str, str, Path, int, int]]:
    """Name, type and shape, file, first byte and length of every tensor; the file is checked already."""
    import json

    with open(file, "rb") as opened:
        header = int.from_bytes(opened.read(8), "little")
        table = json.loads(opened.read(header))
    for name, entry in table.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, f"{entry['dtype']} {entry['shape']}", file, 8 + header + begin, end - begin


def _parts(file: Path, start: int, length: int, whole: bool) -> Iterator[bytes]:
    with open(file, "rb") as opened:
        if whole or length <= 3 * _PART:
            opened.seek(start)
            while length > 0:
                part = opened.read(min(length, MEGABYTE))
                length -= len(part) or length
                yield part
            return
        for place in (0, (length - _PART) // 2, length - _PART):
            opened.seek(start + place)
            yield opened.read(_PART)


def _check_index(folder: Path, index: Path) -> None:
    mapped = read_json(index, 64 * MEGABYTE).get("weight_map")
    if not isinstance(mapped, dict) or not all(isinstance(name, str) for name in mapped.values()):
        raise InputError(f"{index}: weight_map is {shown(mapped)}, expected names of tensors and of their files")
    for name in sorted(set(mapped.values())):
        if name != PurePosixPath(name).name or name != PureWindowsPath(name).name or not name.endswith(".safetensors"):
            raise InputError(f"{index} names weights in {shown(name)}; expected safetensors files of its own folder")
        if not os.path.lexists(folder / name):
            raise InputError(f"{index} names {name}, which is not there: the checkpoint is incomplete, fetch it again")
