"""CPU seconds of calls that take turns, so that a busy moment meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """CPU seconds of each call's fastest round; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.process_time()
            call()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - begin)
    return {name: min(values) for name, values in seconds.items()}
