"""Modes that modules are in for the length of a call, whatever mode they have of their own.

Calls of several threads on one model may overlap, in any order: a module is in training mode while one of them wants that, else
in evaluation mode while one wants that, and gets its own mode back from the last.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn


@dataclass
class _Wishes:
    own: bool
    of_calls: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})  # mode -> calls that want it

    @property
    def mode(self) -> bool:
        return self.of_calls[True] > 0 or (self.own and not self.of_calls[False])


_lock = threading.Lock()
_wishes: WeakKeyDictionary[nn.Module, _Wishes] = WeakKeyDictionary()


def evaluation_mode(module: nn.Module) -> AbstractContextManager[None]:
    """A module and all its parts without dropout; every part's own mode comes back afterwards."""
    return in_mode(module.modules(), False)


@contextmanager
def in_mode(modules: Iterable[nn.Module], training: bool) -> Iterator[None]:
    """Exactly these modules, without the parts inside them, in a mode."""
    chosen = list(modules)
    _count(chosen, training, 1)
    try:
        yield
    finally:
        _count(chosen, training, -1)


def _count(modules: Iterable[nn.Module], training: bool, by: int) -> None:
    with _lock:
        for module in modules:
            wishes = _wishes.setdefault(module, _Wishes(module.training))
            wishes.of_calls[training] += by
            module.training = wishes.mode
            if not any(wishes.of_calls.values()):
                del _wishes[module]
