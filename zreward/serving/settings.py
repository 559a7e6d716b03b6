"""What a server allows and how it batches."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from zreward.errors import InputError, check_counts


@dataclass(frozen=True)
class Settings:
    """Options of `zreward serve`. Raises InputError for values that cannot be."""

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 32  # images a forward pass; a request may hold as many
    max_wait: float = 0.01  # seconds that a request waits for company
    max_queue: int = 1024  # images that wait; what comes on top is answered with 429
    max_body: int = 64 * 2**20  # bytes of a request
    max_pixels: int = 4096 * 4096  # of one image
    token: str | None = None  # clients must send it as `Authorization: Bearer TOKEN`
    dimensions: tuple[str, ...] = ()  # whose mean is the one number that /compute and /get_reward answer; empty: all
    allow_pickle: bool = False  # POST /, flow_grpo's and verl-omni's protocol; on loopback only

    def __post_init__(self) -> None:
        check_counts(
            max_batch=self.max_batch, max_queue=self.max_queue, max_body=self.max_body, max_pixels=self.max_pixels
        )
        if not 0 <= self.max_wait < 10:
            raise InputError(f"max_wait is {self.max_wait}; expected seconds, 0 to 10")
        if self.allow_pickle and not is_loopback(self.host):
            raise InputError(
                f"--allow-pickle with --host {self.host}: a pickle is accepted from this machine only; use --host 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
