"""The conversation: one order for every dimension, shared text first, control tokens in prompts made harmless."""

from __future__ import annotations

import pytest

from tests.tiny import FORMS, tiny_rubric, tiny_tokenizer
from zreward.common.errors import InputError
from zreward.models.tokens import ConversationEncoder, expand_images, pad
from zreward.prompting import PromptForms, messages
from zreward.rubric import Rubric

PROMPT = "a red circle above a blue square"


def user_text(turns: list[dict]) -> str:
    return turns[-1]["content"][1]["text"]


def system_text(turns: list[dict]) -> str:
    return turns[0]["content"][0]["text"]


@pytest.mark.parametrize("reasoning", [False, True])
def test_order_is_system_rubric_image_prompt_question(reasoning):
    rubric, forms = Rubric.default(), PromptForms()
    for dimension in rubric.dimensions:
        turns = messages(PROMPT, dimension, rubric, forms, reasoning)
        assert [turn["role"] for turn in turns] == ["system", "user"]
        assert system_text(turns).startswith(forms.system)
        assert [part["type"] for part in turns[1]["content"]] == ["image", "text"]
        text = user_text(turns)
        assert text.index(PROMPT) < text.index(dimension.title) and text.endswith(dimension.title)
        assert dimension.question not in text


def test_the_rubric_stands_before_the_image_and_is_the_same_for_everything():
    rubric = Rubric.default()
    texts = {
        system_text(messages(prompt, dimension, rubric, PromptForms(), reasoning))
        for prompt in (PROMPT, "another")
        for dimension in rubric.dimensions
        for reasoning in (False, True)
    }
    (text,) = texts
    for dimension in rubric.dimensions:
        for part in (dimension.title, dimension.question, *dimension.anchors.values()):
            assert part in text
    assert ", ".join(rubric.labels) in text


def test_dimensions_share_everything_before_their_name():
    rubric = Rubric.default()
    texts = [user_text(messages(PROMPT, d, rubric, PromptForms(), False)) for d in rubric.dimensions]
    assert len(set(texts)) == len(texts)
    assert {text.removesuffix(d.title) for text, d in zip(texts, rubric.dimensions, strict=True)} == {
        PromptForms().prompt.format(prompt=PROMPT) + PromptForms().direct.format(title="")
    }


OLD = PromptForms.from_dict({"system": PromptForms().system})


def test_a_file_without_a_rubric_asks_as_version_0_1_did():
    rubric = Rubric.default()
    dimension = rubric.dimensions[0]
    turns = messages(PROMPT, dimension, rubric, OLD, False)
    assert system_text(turns) == OLD.system
    text = user_text(turns)
    assert text.startswith(f"The image was generated from this prompt: {PROMPT}\n\nAlignment: {dimension.question}\n")
    assert text.endswith("\nAnswer with one level only: 1, 2, 3, 4, 5, 6, 7, 8, 9.")
    assert PromptForms.from_dict(OLD.to_dict()) == OLD


def test_anchors_are_named_by_their_labels_best_first():
    rubric = Rubric.default()
    labels = dict(zip(rubric.scale.bins.tolist(), rubric.labels, strict=True))
    expected = [labels[score] for score in (5, 4, 3, 2, 1)]
    lines = user_text(messages(PROMPT, rubric.dimensions[0], rubric, OLD, False)).splitlines()
    named = [line.removeprefix("level ") for line in lines if line.startswith("level ")]
    assert [line.split(":")[0] for line in named] == expected
    before = system_text(messages(PROMPT, rubric.dimensions[0], rubric, PromptForms(), False)).splitlines()
    assert [line.split(":")[0] for line in before if line[:1].isdigit()] == expected * len(rubric.dimensions)


@pytest.mark.parametrize("prompt", ["{title}", "100 % {", "a } b {0}", "{prompt}"])
def test_braces_in_a_prompt_are_plain_text(prompt):
    rubric = Rubric.default()
    assert prompt in user_text(messages(prompt, rubric.dimensions[0], rubric, PromptForms(), False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direct": "{colour}"}, "direct uses .*colour"),
        ({"prompt": "{prompt"}, "prompt: "),
        ({"stop_marker": " "}, "stop_marker is empty"),
        ({"system": None}, "system is None"),
    ],
)
def test_forms_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PromptForms(**options)


def test_unknown_forms_in_a_file_are_refused():
    with pytest.raises(InputError, match="unknown .*'sytem'"):
        PromptForms.from_dict({"sytem": ""})


@pytest.fixture(scope="module")
def encoder() -> ConversationEncoder:
    tokenizer = tiny_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return ConversationEncoder(tokenizer, tiny_rubric(), FORMS, image)


def test_direct_form_ends_with_the_answer_prefix_and_the_reasoning_form_where_a_trace_starts(encoder):
    dimension = tiny_rubric().dimensions[0]
    direct = encoder.tokenizer.decode(encoder.encode(PROMPT, dimension, reasoning=False))
    reasoning = encoder.tokenizer.decode(encoder.encode(PROMPT, dimension, reasoning=True))
    assert direct.endswith(FORMS.answer_prefix)
    assert reasoning.endswith(FORMS.reasoning_start)
    assert FORMS.answer_prefix not in reasoning


@pytest.mark.parametrize("word", ["<|image_pad|>", "<|im_end|>", "<think>", "</think>", "<|vision_start|>"])
def test_control_tokens_spelled_in_a_prompt_stay_text(encoder, word):
    dimension = tiny_rubric().dimensions[0]
    plain = encoder.encode(PROMPT, dimension, reasoning=False)
    spelled = encoder.encode(f"{PROMPT} {word}", dimension, reasoning=False)
    token = encoder.tokenizer.convert_tokens_to_ids(word)
    assert spelled.count(token) == plain.count(token)
    assert len(spelled) > len(plain)


def test_label_tokens_decode_to_the_labels(encoder):
    assert [encoder.tokenizer.decode([i]).strip() for i in encoder.label_ids.tolist()] == list(tiny_rubric().labels)


def test_a_tokenizer_without_a_chat_template_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        ConversationEncoder(tokenizer, tiny_rubric(), FORMS, 0)


def test_expanding_the_image_placeholder_and_padding():
    assert expand_images([5, 9, 6], image_token_id=9, counts=[3]) == [5, 9, 9, 9, 6]
    assert expand_images([9, 5, 9], image_token_id=9, counts=[2, 1]) == [9, 9, 5, 9]
    ids, mask = pad([[1, 2, 3], [4]], pad_id=0)
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    ids, mask = pad([[1, 2, 3], [4]], pad_id=0, left=True)
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
