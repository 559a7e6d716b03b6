"""What a server allows and how it batches."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from zreward.common.errors import InputError, check_counts


@dataclass(frozen=True)
class Settings:
    """Options of `zreward serve`. Raises InputError for values that cannot be."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    max_batch: int = 32  # images per forward pass; a request may hold as many
    max_wait: float = 0.01  # maximum batching delay in seconds
    max_queue: int = 1024  # images that wait; what comes on top is answered with 429
    max_body: int = 64 * 2**20  # bytes of a request
    max_buffered: int = 256 * 2**20  # bytes of all large requests that are held at a time
    max_pixels: int = 4096 * 4096  # of one image, as sent
    max_request_pixels: int = 4 * 4096 * 4096  # of all images of a request, as sent
    # Tokens that one image may become. Default: what the model's own resolution limit allows, 1,280 where it has none.
    max_image_tokens: int | None = None
    max_prompt_tokens: int = 1024  # of one prompt
    token: str | None = None  # clients must send it as `Authorization: Bearer TOKEN`
    dimensions: tuple[str, ...] = ()  # whose mean is the one number that /compute and /get_reward answer; empty: all
    allow_pickle: bool = False  # POST /, flow_grpo's and verl-omni's protocol; on loopback only

    def __post_init__(self) -> None:
        check_counts(
            max_batch=self.max_batch,
            max_queue=self.max_queue,
            max_body=self.max_body,
            max_buffered=self.max_buffered,
            max_pixels=self.max_pixels,
            max_request_pixels=self.max_request_pixels,
            max_image_tokens=self.max_image_tokens,
            max_prompt_tokens=self.max_prompt_tokens,
        )
        if not 0 <= self.max_wait < 10:
            raise InputError(f"max_wait is {self.max_wait}; expected seconds, 0 to 10")
        self._check_token()
        if self.allow_pickle and not is_loopback(self.host):
            raise InputError(
                f"--allow-pickle with --host {self.host}: a pickle is accepted from this machine only; use --host 127.0.0.1"
            )

    def _check_token(self) -> None:
        if self.token is None:
            return
        if not self.token:
            raise InputError(
                "the token is empty: everybody would be let in; set ZREWARD_TOKEN (or --token) to a secret, or unset it"
            )
        if not all("!" <= letter <= "~" for letter in self.token):
            raise InputError("the token holds spaces, line ends or letters beyond ASCII, which no HTTP header carries")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
