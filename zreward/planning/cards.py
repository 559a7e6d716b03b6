"""GPUs with the peak rates that their makers state: dense products, no sparsity."""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Card:
    name: str
    memory: int  # bytes
    bfloat16: float  # FLOP/s of dense matrix products
    float32: float  # FLOP/s, TF32 off
    bandwidth: float  # bytes/s of its memory

    def peak(self, itemsize: int) -> float:
        """FLOP/s of numbers of that many bytes."""
        return self.bfloat16 if itemsize <= 2 else self.float32


CARDS = {
    "4090": Card("RTX 4090", 24 * GB, 165e12, 82.6e12, 1.01e12),
    "a100-40": Card("A100 40 GB", 40 * GB, 312e12, 19.5e12, 1.56e12),
    "a100": Card("A100 80 GB", 80 * GB, 312e12, 19.5e12, 2.04e12),
    "l40s": Card("L40S", 48 * GB, 362e12, 91.6e12, 0.864e12),
    "h100": Card("H100 SXM", 80 * GB, 989e12, 67e12, 3.35e12),
    "h200": Card("H200 SXM", 141 * GB, 989e12, 67e12, 4.8e12),
    "b200": Card("B200", 180 * GB, 2250e12, 75e12, 7.7e12),
}
