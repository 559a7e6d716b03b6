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


@pytest.mark.parametrize(
    ("reasoning", "end"),
    [
        (False, "Answer with one level only: {levels}."),
        (True, "First describe the defects you see, then answer with one level: {levels}."),
    ],
)
def test_every_letter_of_version_0_1(reasoning, end):
    """A file of version 0.1 holds the texts that were changed, none that were left alone."""
    rubric = tiny_rubric()
    for written in ({}, {"answer_prefix": "\n\nLevel: "}):
        system, user = messages(PROMPT, rubric.dimensions[1], rubric, PromptForms.from_dict(written), reasoning)
        assert system["content"][0]["text"] == (
            "You are a careful judge of generated images. Judge one aspect at a time by its rubric. "
            "Scores are levels; the highest level is the best."
        )
        assert user["content"][1]["text"] == (
            f"The image was generated from this prompt: {PROMPT}\n\nRealism: rate the realism\n"
            f"level 9: all right\nlevel 1: all wrong\n{end.format(levels='1, 2, 3, 4, 5, 6, 7, 8, 9')}"
        )


def test_a_file_keeps_each_text_that_it_names():
    old = PromptForms.from_dict({"direct": " {title}?"})
    assert old.direct == " {title}?" and old.reasoning == OLD.reasoning and old.rubric == ""
    new = PromptForms.from_dict({"rubric": "{rubric}"})
    assert new.direct == PromptForms().direct and new.reasoning == PromptForms().reasoning
    assert PromptForms.from_dict(PromptForms().to_dict()) == PromptForms()


@pytest.mark.parametrize(
    ("system", "rubric", "expected"),
    [
        ("Judge.", "", "Judge."),
        ("", "Levels {levels}.", "Levels 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        ("Judge.", " Levels {levels}.", "Judge. Levels 1, 2, 3, 4, 5, 6, 7, 8, 9."),
        ("{rubric}", "", "{rubric}"),  # the system text is no template
        ("", "", None),
    ],
)
def test_system_text_and_rubric_are_one_turn(system, rubric, expected):
    asked = tiny_rubric()
    turns = messages(PROMPT, asked.dimensions[0], asked, PromptForms(system=system, rubric=rubric), False)
    assert [turn["role"] for turn in turns] == ["user"] if expected is None else ["system", "user"]
    assert expected is None or system_text(turns) == expected


def test_the_rubric_stands_before_both_images_of_a_comparison():
    rubric = tiny_rubric()
    forms = PromptForms(reference="The reference above.")
    system, user = messages(PROMPT, rubric.dimensions[0], rubric, forms, False)
    assert all(dimension.question in system["content"][0]["text"] for dimension in rubric.dimensions)
    assert [part["type"] for part in user["content"]] == ["image", "text", "image", "text"]


def test_all_rows_begin_with_the_same_tokens_up_to_the_image():
    """Whatever the prompt, dimension and form: what is encoded once."""
    tokenizer, rubric = tiny_tokenizer(), tiny_rubric()
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    encoder = ConversationEncoder(tokenizer, rubric, PromptForms(), image)
    rows = [
        encoder.encode(prompt, dimension, reasoning)
        for prompt in (PROMPT, "a")
        for dimension in rubric.dimensions
        for reasoning in (False, True)
    ]
    (before,) = {tuple(row[: row.index(image)]) for row in rows}
    assert all(dimension.question in tokenizer.decode(before) for dimension in rubric.dimensions)


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
        ({"rubric": "{rubric} {rubric}"}, "rubric names {rubric} 2 times, expected once"),
        ({"rubric": 3}, "rubric is 3, expected a text"),
        ({"rubric": None}, "rubric is None, expected a text"),
        ({"rubric": "{prompt}"}, r"rubric uses \['prompt'\]; known fields are \['levels', 'rubric'\]"),
        ({"rubric": "{title}: {question}"}, r"rubric uses \['title'\]"),
        ({"rubric": "{rubric"}, "rubric: .*write {{ for a brace"),
        ({"rubric": "{rubric:>9999}"}, "rubric changes {rubric} by a format"),
        ({"rubric": "x" * 10_001}, "rubric has 10,001 letters"),
        ({"direct": "{rubric}"}, r"direct uses \['rubric'\]"),
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
