"""request.json of an exported model: the requests that return the score distribution, one for each dimension."""

from __future__ import annotations

from typing import Any

from zreward.models.reward_model import RewardModel
from zreward.prompting import messages
from zreward.publishing.template import template_variables
from zreward.rubric import Dimension

FILE = "request.json"
PROMPT, IMAGE = "{prompt}", "{image}"
"""What stands in the requests for the text and for a data URI of the picture."""
_CHAT = (
    "POST one of `bodies` to /v1/chat/completions, with {image} replaced by a data URI of the picture and {prompt} by the text "
    "it was made from. One token is generated; choices[0].logprobs.content[0].top_logprobs holds the log-probabilities of "
    "`labels`. Their softmax is the distribution over the scores."
)
_INEXACT = (
    " The distribution is near the model's own, but not equal: where the chat's text and the answer prefix meet, line ends "
    "become other tokens than in training. `tokens` is exact."
)
_TOKENS = (
    "Exact for every model, on a vLLM server that was started with --enable-scale-out: POST one of `tokenize` to /tokenize; "
    "of the answer's `tokens` keep one `image_token_id` of the run that stands for the picture; append `answer_token_ids`; put "
    "them into `token_ids` of `generate`, and POST that to /inference/v1/generate. "
    "choices[0].logprobs.content[0].top_logprobs holds the log-probabilities by token_id."
)


def requests_of(model: RewardModel, name: str, exact: bool) -> dict[str, Any]:
    """The content of request.json.

    Args:
        model: what is exported.
        name: what the server calls it.
        exact: whether chat requests give the model's own distribution.
    """
    chats = {each.name: _chat(model, each, name) for each in model.rubric.dimensions}
    ids = model.encoder.label_ids.tolist()
    return {
        "labels": [
            {"token": label, "token_id": token, "score": score}
            for label, token, score in zip(model.rubric.labels, ids, model.rubric.scale.bins.tolist(), strict=True)
        ],
        "image_token_id": model.encoder.image_token_id,
        "answer_token_ids": model.encoder.prefix_ids,
        "chat_is_exact": exact,
        "chat": {"how": _CHAT + ("" if exact else _INEXACT), "bodies": chats},
        "tokens": {
            "how": _TOKENS,
            "tokenize": {key: _tokenize(body) for key, body in chats.items()},
            "generate": _generate(ids, name),
        },
    }


def _chat(model: RewardModel, dimension: Dimension, name: str) -> dict[str, Any]:
    ids = model.encoder.label_ids.tolist()
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    turns = [
        turn | {"content": [image if part["type"] == "image" else part for part in turn["content"]]}
        for turn in messages(PROMPT, dimension, model.rubric, model.forms, reasoning=False)
    ]
    return {
        "model": name,
        "messages": turns,
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": len(ids),
        "logprob_token_ids": ids,  # vLLM's own: these tokens instead of the likeliest ones
        "allowed_token_ids": ids,  # or the sampled token would displace a label
        "chat_template_kwargs": template_variables(model, reasoning=False),
    }


def _tokenize(chat: dict[str, Any]) -> dict[str, Any]:
    plain = {"enable_thinking": False}
    return {"model": chat["model"], "messages": chat["messages"], "chat_template_kwargs": plain}


def _generate(ids: list[int], name: str) -> dict[str, Any]:
    sampling = {"max_tokens": 1, "temperature": 0, "logprobs": len(ids), "output_kind": 2}
    return {
        "model": name,
        "token_ids": [],
        "content_parts": [{"type": "image_url", "url": IMAGE}],
        "sampling_params": sampling | {"logprob_token_ids": ids, "allowed_token_ids": ids},
    }
