"""The bodies of requests: a picture and a question as chat messages, a trace, and the three ways to ask for the label.

| answer | the label follows | works with |
| --- | --- | --- |
| exported | what is appended to the prompt by `answer_start`, a variable of the chat template | folders of `zreward export` |
| continued | the beginning of the assistant's own turn (`continue_final_message`) | vLLM, SGLang and others |
| asked | one more turn of the user | every server |

In the first two the label is read where zreward's own models are read: after the trace, its stop marker and the forced answer
prefix. Some templates strip white space at the ends of a turn; then the model writes it, and the label is the token after it.
"""

from __future__ import annotations

import re
from typing import Any

from zreward.models.chat_template import ANSWER_START
from zreward.models.pixels import ResolutionPolicy, png_uri, resize, to_pixels
from zreward.prompting import PromptForms, messages
from zreward.rubric import Dimension, Rubric

EXPORTED, CONTINUED, ASKED = "exported", "continued", "asked"
_CONTROL = re.compile(
    r"<(?=\|[^<>|\s]{1,40}\|>|/?think>|image>|/?s>|/?bos>|/?eos>|start_of_turn>|end_of_turn>)|\[(?=/?INST\])"
)
_READ = {EXPORTED: 1, CONTINUED: 3, ASKED: 8}
"""Tokens of an answer among which the label stands."""

Body = dict[str, Any]


def data_uri(image: Any, longest_side: int | None = None) -> str:
    """A picture of any kind that `score` takes, as a PNG inside a URI: a server is never told to fetch anything."""
    pixels = to_pixels(image)
    if longest_side is not None:
        height, width = pixels.shape[-2:]
        pixels = resize(pixels, ResolutionPolicy(longest_side).target((height, width), 1))
    return png_uri(pixels)


def chat(
    uri: str, prompt: str, dimension: Dimension, rubric: Rubric, forms: PromptForms, reasoning: bool
) -> list[Body]:
    """The conversation of `prompting.messages` as an OpenAI-compatible API takes it.

    Args:
        uri: the picture.
        prompt: its text; what spells a control token of common models is broken up.
        dimension: what is asked about.
        rubric: gives the labels.
        forms: the texts around them.
        reasoning: ask for a trace.
    """
    found = messages(_CONTROL.sub(lambda match: match[0] + " ", prompt), dimension, rubric, forms, reasoning)
    return [{"role": turn["role"], "content": _content(turn["content"], uri)} for turn in found]


def _content(parts: list[dict], uri: str) -> str | list[Body]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return [{"type": "image_url", "image_url": {"url": uri}} if part["type"] == "image" else part for part in parts]


def trace_request(turns: list[Body], form: str, stop: str, tokens: int, temperature: float, seed: int) -> Body:
    """Sample a trace.

    Args:
        turns: of `chat`.
        form: how the label is asked for later.
        stop: the marker that ends a trace.
        tokens: the budget.
        temperature: of sampling; 0 is greedy.
        seed: of sampling, for servers that take one.
    """
    body = {
        "messages": turns,
        "max_tokens": tokens,
        "temperature": temperature,
        "top_p": 1.0,
        "seed": seed,
        "stop": [stop],
    }
    return body if form == ASKED else body | {"chat_template_kwargs": {"enable_thinking": True}}


def label_request(
    turns: list[Body], form: str, said: str, trace: str | None, rubric: Rubric, top_logprobs: int
) -> Body:
    """Ask for the label.

    Args:
        turns: of `chat`.
        form: one of the three.
        said: what stands before the label in the model's own turn, with the trace; not used by `asked`.
        trace: the trace alone, None in the direct form.
        rubric: gives the labels.
        top_logprobs: tokens to list.
    """
    body: Body = {"max_tokens": _READ[form], "temperature": 0.0, "logprobs": True, "top_logprobs": top_logprobs}
    thinking = {"enable_thinking": trace is not None}
    if form == EXPORTED:
        return body | {"messages": turns, "chat_template_kwargs": thinking | {ANSWER_START: said}}
    if form == CONTINUED:
        own = {"role": "assistant", "content": said}
        flags = {"add_generation_prompt": False, "continue_final_message": True, "chat_template_kwargs": thinking}
        return body | flags | {"messages": [*turns, own]}
    asked = {"role": "user", "content": f"Answer with one level only: {', '.join(rubric.labels)}."}
    own_turns = [] if trace is None else [{"role": "assistant", "content": trace}, asked]
    return body | {"messages": [*turns, *own_turns]}
