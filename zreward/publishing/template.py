"""The chat template of an exported model: the one it was trained with, and what zreward puts behind it.

Two things follow the template in zreward: the beginning of the trace where the template does not write it, and the forced answer
prefix. The exported template writes the first itself, and appends the variable `answer_start` of a request, which holds the
second. Without the variable it does what it did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zreward.models.chat_template import ANSWER_START, render_chat
from zreward.models.reward_model import RewardModel
from zreward.prompting import messages

_APPEND = f"{{% if add_generation_prompt and {ANSWER_START} is defined %}}{{{{ {ANSWER_START} }}}}{{% endif %}}"


def export_template(model: RewardModel) -> str:
    """The exported chat template."""
    original = model.encoder.template
    if ANSWER_START in original:
        return original  # of an exported model
    return original.removesuffix("\n") + _think(model) + _APPEND


def is_exact(model: RewardModel, template: str) -> bool:
    """Whether the template's text with `answer_start` becomes the tokens that the model was trained with.

    zreward turns the conversation and the answer prefix into tokens one after the other. In one text, line ends on both sides
    of the seam may become one token.
    """
    expected = model.encoder.encode("x", model.rubric.dimensions[0], reasoning=False)
    text = _rendered(model, template, False, template_variables(model, reasoning=False))
    return model.tokenizer(text, add_special_tokens=False)["input_ids"] == expected


def template_variables(model: RewardModel, reasoning: bool) -> dict[str, Any]:
    """What a request for the label gives the template; after a trace, `answer_start` begins with the trace."""
    stop = model.forms.stop_marker if reasoning else ""
    return {"enable_thinking": reasoning, ANSWER_START: stop + model.forms.answer_prefix}


def _think(model: RewardModel) -> str:
    """The beginning of a trace, where the original does not write it."""
    start = model.forms.reasoning_start
    if _rendered(model, model.encoder.template, True, {}).rstrip().endswith(start.strip()):
        return ""
    quoted = start.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"{{% if add_generation_prompt and enable_thinking is defined and enable_thinking %}}{{{{ '{quoted}' }}}}{{% endif %}}"


def _rendered(model: RewardModel, template: str, reasoning: bool, values: Mapping[str, Any]) -> str:
    turns = messages("x", model.rubric.dimensions[0], model.rubric, model.forms, reasoning)
    names = dict(model.tokenizer.special_tokens_map)
    options = {"tools": None, "documents": None, "add_generation_prompt": True, "enable_thinking": reasoning}
    return render_chat(template, turns, **names | options | dict(values))
