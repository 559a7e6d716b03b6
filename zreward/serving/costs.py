"""The cost of a request, computed before any picture is decoded: pixels to decode, tokens to run through the model.

An image's size is read from its header. What it becomes is computed from that size alone, after the model's resolution limit and
after enlarging to the vision tower's multiple.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from zreward.common.errors import InputError
from zreward.common.texts import check_prompt
from zreward.models.layouts import PatchLayout
from zreward.models.reward_model import RewardModel
from zreward.models.sharing import SHORT_OPENING
from zreward.serving.decoding import from_base64, measure
from zreward.serving.settings import Settings

DEFAULT_IMAGE_TOKENS = 1280  # what Qwen's own examples allow: 1.3 million pixels at 32 x 32 a token
QUICK_PIXELS, QUICK_BYTES = 512 * 512, 2**20
BYTES_PER_TOKEN = 16  # a prompt of more bytes than that for each token is refused unread
_PIXELS_PER_TOKEN = 4096  # decoding so many pixels counts as a token


class TooMuch(Exception):
    """More than the server takes in one request; the message has the numbers."""


@dataclass(frozen=True)
class Priced:
    """A request that is within all limits."""

    images: list[bytes]  # encoded
    prompts: list[str]
    pixels: int  # to decode
    tokens: int  # for the model
    quick: bool  # costs about as little as a request can

    @property
    def cost(self) -> float:
        """In tokens."""
        return self.tokens + self.pixels / _PIXELS_PER_TOKEN


class Prices:
    """The limits, and what things cost with this model. It holds no weights, and may be sent to another process."""

    def __init__(self, model: RewardModel, settings: Settings) -> None:
        self.settings, self._tokenizer = settings, model.tokenizer
        self._layout, self._resolution = model.layout, model.resolution
        dimensions = model.rubric.dimensions
        self._passes = len(dimensions) if model.backbone.shared_prefix.right is False else 1  # of image and prompt
        self._questions = _question_tokens(model)
        self.most_image_tokens = settings.max_image_tokens or self._default_image_tokens()
        self._quick_tokens = 2 * self._tokens(self.image_tokens(1, 1), 1)

    def describe(self) -> str:
        """The limits of a request in one line."""
        settings = self.settings
        return (
            f"{settings.max_batch} images of {settings.max_pixels:,} pixels ({settings.max_request_pixels:,} together) in a "
            f"request; {self.most_image_tokens:,} tokens an image, {settings.max_prompt_tokens:,} a prompt"
        )

    def check_count(self, items: int) -> None:
        """Raises TooMuch by the number of items alone."""
        if items > self.settings.max_batch:
            raise TooMuch(f"{items:,} images in one request; send at most {self.settings.max_batch}")

    def price(self, images: Sequence[str | bytes], prompts: Sequence[str]) -> Priced:
        """Base64 or encoded images and their prompts. InputError for what cannot be scored, TooMuch for a cost over a limit."""
        self.check_count(len(images))
        tokens = pixels = 0
        for n, prompt in enumerate(prompts):
            tokens += self._prompt_tokens(prompt, f"prompt {n}")
        encoded = []
        for n, image in enumerate(images):
            what = f"image {n}"
            encoded.append(image if isinstance(image, bytes) else from_base64(image, what))
            height, width = measure(encoded[-1], what)
            pixels += self._check_pixels(height, width, pixels, what)
            tokens += self._check_tokens(height, width, what)
        size = sum(map(len, encoded))
        if size > self.settings.max_body:  # a pickle may show one image many times
            raise TooMuch(f"images of {size:,} bytes in one request; send at most {self.settings.max_body:,}")
        total = self._tokens(tokens, len(encoded))
        quick = total <= self._quick_tokens and pixels <= QUICK_PIXELS and size <= QUICK_BYTES
        return Priced(encoded, list(prompts), pixels, total, quick)

    def image_tokens(self, height: int, width: int) -> int:
        """Tokens that an image of that size becomes; nothing is computed or allocated."""
        fitted = torch.empty((3, *self._layout.fitted((height, width), self._resolution)), device="meta")
        return self._layout.tokens(self._layout.grid(fitted))

    def _tokens(self, shown: int, items: int) -> int:
        """Of image and prompt tokens and all questions."""
        return self._passes * shown + items * self._questions

    def _default_image_tokens(self) -> int:
        """The most that the model's own limit lets through, and never less than any picture becomes."""
        policy, layout = self._resolution, self._layout
        own = 0
        if policy.is_limited and isinstance(layout, PatchLayout):
            own = policy.most_pixels(layout.multiple) // layout.multiple**2
        return max(DEFAULT_IMAGE_TOKENS, own, self.image_tokens(1, 1))

    def _check_pixels(self, height: int, width: int, before: int, what: str) -> int:
        settings = self.settings
        if height * width > settings.max_pixels:
            raise TooMuch(f"{what}: {width} x {height} is more than {settings.max_pixels:,} pixels; scale it down")
        if before + height * width > settings.max_request_pixels:
            raise TooMuch(
                f"the images up to {what} have {before + height * width:,} pixels together; send at most "
                f"{settings.max_request_pixels:,} in one request"
            )
        return height * width

    def _check_tokens(self, height: int, width: int, what: str) -> int:
        if not height or not width:
            raise InputError(f"{what}: has no pixels")
        tokens = self.image_tokens(height, width)
        if tokens > self.most_image_tokens:
            raise TooMuch(
                f"{what}: {width} x {height} becomes {tokens:,} tokens of this model; the server takes at most "
                f"{self.most_image_tokens:,} (--max-image-tokens); scale it down"
            )
        return tokens

    def _prompt_tokens(self, prompt: str, what: str) -> int:
        most = self.settings.max_prompt_tokens
        if len(prompt) <= BYTES_PER_TOKEN * most:
            check_prompt(prompt, what)
        size = len(prompt.encode(errors="surrogatepass"))
        if size > BYTES_PER_TOKEN * most:
            raise TooMuch(f"{what} has {size:,} bytes; expected at most {BYTES_PER_TOKEN * most:,}")
        tokens = len(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if tokens > most:
            raise TooMuch(f"{what} has {tokens:,} tokens; the server takes at most {most:,} (--max-prompt-tokens)")
        return tokens


def _question_tokens(model: RewardModel) -> int:
    """Of everything that is asked about one item, without its image and prompt; what is encoded once counts once."""
    texts = [model.encoder.encode("x", one, reasoning=False) for one in model.rubric.dimensions]
    if model.backbone.shared_prefix.right is False:  # what it shares was found to be wrong, or it cannot share
        return sum(map(len, texts))
    opening = texts[0].index(model.encoder.image_token_id)
    kept = opening if opening >= SHORT_OPENING else 0
    common = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False)))
    return common - kept + sum(len(text) - common for text in texts)
