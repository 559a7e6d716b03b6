"""Memory of this process in MiB: the GPU's allocator where there is one, otherwise the resident set."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

MIB = 2**20


def resident_mib() -> float:
    """Now."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / MIB
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def peak_mib() -> float:
    """At most, so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
