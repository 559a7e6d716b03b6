"""Time to hash 100,000 small pictures and to look each up among 100,000 others: `.venv/bin/python benchmarks/overlap_search.py`.

The pictures are random squares in JPEG, 64 pixels wide. One in a thousand of the second set is a smaller, more compressed copy of
one of the first: all must be found, and nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import time

import numpy as np
from PIL import Image

from zreward.data.looks import looks_of, near_duplicates

COPIED = 1000  # every so many of the second set is a copy


def encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def drawn(seed: int, size: int = 64) -> Image.Image:
    squares = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(squares).resize((size, size), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    count = parser.parse_args().pictures
    known = [encoded(drawn(n), 90) for n in range(count)]
    pictures = [
        encoded(drawn(n).resize((40, 40)), 60) if n % COPIED == 0 else encoded(drawn(count + n), 90)
        for n in range(count)
    ]
    begin, spent = time.perf_counter(), time.process_time()
    seen = looks_of(known)
    asked = looks_of(pictures)
    hashed, spent_on_hashes = time.perf_counter() - begin, time.process_time() - spent
    begin, spent = time.perf_counter(), time.process_time()
    twins = near_duplicates(asked, seen)
    found = np.flatnonzero(twins >= 0)
    right = sum(twins[n] == n for n in range(0, count, COPIED))
    print(f"{count:,} pictures against {count:,} on {os.cpu_count()} cores")
    print(f"hashing {2 * count:,}: {hashed:.0f} s ({spent_on_hashes:.0f} s of CPU)")
    print(f"search: {time.perf_counter() - begin:.0f} s ({time.process_time() - spent:.0f} s of CPU)")
    print(f"copies found: {right} of {len(range(0, count, COPIED))}; others taken for copies: {len(found) - right}")


if __name__ == "__main__":
    main()
