"""How an endpoint is asked: `endpoint:URL#MODEL`, or `endpoint:FILE.yaml` with these keys."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zreward.common.config import load_config
from zreward.common.errors import InputError, shown
from zreward.common.http import MOST_SECONDS
from zreward.models.checkpoint_files import META_FILE

PREFIX = "endpoint:"
_MOST_THREADS = 1024
FORMS = ("auto", "exported", "continued", "asked")
_OURS = {
    *("model", "messages", "stream", "n", "logprobs", "top_logprobs", "max_tokens", "temperature", "top_p", "seed"),
    *("stop", "add_generation_prompt", "continue_final_message", "chat_template_kwargs"),
}
"""Fields of a request that zreward sets itself."""


@dataclass(frozen=True)
class EndpointSettings:
    """Where the model is and how it is asked. The key is none of them: it is read from an environment variable."""

    url: str  # up to and with /v1
    model: str = ""  # as the server calls it; default: its only one
    checkpoint: str = ""  # folder whose zreward.json gives rubric, prompt forms and trace budget
    rubric: str = ""  # YAML file; default: the checkpoint's, else the default rubric
    answer: str = "auto"  # how the label is asked for: exported, continued or asked; auto tries them in this order
    max_trace_tokens: int | None = None  # default: the checkpoint's, else 512
    top_logprobs: int = 20  # tokens that the server lists for a position
    concurrency: int = 16  # requests at a time
    retries: int = 5  # of a request
    timeout: float = 120.0  # seconds for an answer
    longest_side: int | None = None  # pixels; larger images are reduced before they are sent; default: as they are
    api_key_variable: str = "ZREWARD_ENDPOINT_KEY"  # environment variable that holds the key
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of every request

    def __post_init__(self) -> None:
        for key in ("top_logprobs", "concurrency", "max_trace_tokens", "longest_side"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"endpoint: {key} is {value}, expected at least 1")
        if self.concurrency > _MOST_THREADS:
            raise InputError(f"endpoint: concurrency is {self.concurrency:,}, expected at most {_MOST_THREADS:,}")
        if self.retries < 0 or not 0 < self.timeout <= MOST_SECONDS:
            raise InputError(
                f"endpoint: retries is {self.retries}, timeout {self.timeout}; expected 0 or more, and seconds above 0, at "
                f"most {MOST_SECONDS:,.0f}"
            )
        if self.answer not in FORMS:
            raise InputError(f"endpoint: answer is {shown(self.answer)}, expected one of {', '.join(FORMS)}")
        if taken := sorted(_OURS & set(self.extra)):
            raise InputError(f"endpoint: extra holds {', '.join(taken)}, which zreward sets itself; leave it out")
        try:
            json.dumps(self.extra, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"endpoint: extra is {shown(self.extra)}, which is no JSON: {error}") from None
        if self.checkpoint and not (Path(self.checkpoint) / META_FILE).is_file():
            raise InputError(f"endpoint: checkpoint {self.checkpoint} has no {META_FILE}; expected a zreward model")


def read_settings(name: str) -> EndpointSettings:
    """The settings of `endpoint:URL#MODEL` or `endpoint:FILE.yaml`. InputError for anything else."""
    place = name.removeprefix(PREFIX)
    if place.startswith(("http://", "https://")):
        url, _, model = place.partition("#")
        return EndpointSettings(url, model)
    if place.endswith((".yaml", ".yml")):
        return load_config(EndpointSettings, place)
    raise InputError(
        f"{name}: expected {PREFIX}URL#MODEL, such as {PREFIX}http://127.0.0.1:8000/v1#judge, or {PREFIX}FILE.yaml with "
        f"the keys {', '.join(item.name for item in fields(EndpointSettings))}"
    )
