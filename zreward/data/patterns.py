"""Names that stand for many files: shards/{000000..000099}.tar, shards/*.tar."""

from __future__ import annotations

import glob
import os
import re

from zreward.common.errors import InputError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,64})\.\.(\d{1,64})")
_MOST = 1_000_000  # files


def is_pattern(name: str) -> bool:
    """Whether a name stands for files by braces or wildcards. That of a file that is there does not."""
    return bool(_BRACES.search(name) or glob.has_magic(name)) and not os.path.lexists(name)


def matching(pattern: str) -> list[str]:
    """The files, in the order of the braces; those of a wildcard by name. InputError for one that is missing, and for none."""
    found: list[str] = []
    for name in _expanded(pattern):
        there = sorted(glob.glob(name)) if glob.has_magic(name) else [name] * os.path.isfile(name)
        if not there:
            if glob.has_magic(name):
                raise InputError(f"{name}: no file matches; correct the pattern")
            raise InputError(f"{name}: no such file, and {pattern} asks for it; correct the pattern, or get the file")
        found += there
    return found


def _expanded(pattern: str) -> list[str]:
    """Every name that the braces stand for: {00..12} counts, with as many digits; {a,b} lists."""
    names = [""]
    for number, part in enumerate(_BRACES.split(pattern)):
        choices = _choices(part, pattern) if number % 2 else [part]
        if len(names) * len(choices) > _MOST:
            raise InputError(f"{pattern}: more than {_MOST:,} files; name fewer")
        names = [name + choice for name in names for choice in choices]
    return names


def _choices(braces: str, pattern: str) -> list[str]:
    counted = _RANGE.fullmatch(braces)
    if counted is None:
        if "," not in braces:
            raise InputError(f"{pattern}: {{{braces}}} is neither a range, {{000..099}}, nor a list, {{a,b}}")
        return braces.split(",")
    first, last = counted.groups()
    if int(last) < int(first) or int(last) - int(first) >= _MOST:
        raise InputError(f"{pattern}: {{{braces}}} is a range of no, or more than {_MOST:,} numbers")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
