"""Tokenizers whose chat template knows text only get a placeholder for images; others are left as they are."""

from __future__ import annotations

import pytest
import torch

from tests.models.parts import TEXT_TEMPLATE
from tests.tiny import FAMILIES, noise_pictures, tiny_model, tiny_rubric, tiny_tokenizer
from zreward.common.errors import InputError
from zreward.models.image_template import give_image_token
from zreward.models.reward_model import RewardModel
from zreward.models.tokens import ConversationEncoder
from zreward.prompting import PromptForms, messages

SYSTEM_FIRST = (
    "{% if messages[0]['role'] != 'system' %}{{ 'SYS' }}{% endif %}"
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'].strip() + '\n' }}{% endfor %}"
)
"""One that looks at the turns before it goes through them, and calls a text's method."""

SCRATCH_TEXT = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }}{{ m['content'].replace('', '') }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)
"""The tiny models' own turns, for texts only."""


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [TEXT_TEMPLATE, SYSTEM_FIRST])
def test_a_text_only_template_gets_a_placeholder_before_the_prompt(template):
    tokenizer = tokenizer_with(template)
    size = len(tokenizer)
    image = give_image_token(tokenizer)
    assert image == size and tokenizer.convert_ids_to_tokens(image) == "<image>"
    rubric, forms = tiny_rubric(), PromptForms(system="judge", rubric="", prompt="of {prompt}", direct=" rate {name}")
    encoder = ConversationEncoder(tokenizer, rubric, forms, image)
    ids = encoder.encode("a red circle", rubric.dimensions[0], reasoning=False)
    assert ids.count(image) == 1
    flat = tokenizer_with(template)
    turns = messages("a red circle", rubric.dimensions[0], rubric, forms, reasoning=False)
    plain = [{"role": t["role"], "content": "".join(p.get("text", "") for p in t["content"])} for t in turns]
    wanted = flat.apply_chat_template(plain, tokenize=False, add_generation_prompt=True) + forms.answer_prefix
    assert tokenizer.decode([token for token in ids if token != image]) == wanted
    assert tokenizer.decode(ids).index("<image>") < tokenizer.decode(ids).index("of a red circle")


def test_texts_are_taken_as_before():
    tokenizer = tokenizer_with(TEXT_TEMPLATE)
    said = [{"role": "user", "content": "a cross"}]
    before = tokenizer.apply_chat_template(said, tokenize=False)
    give_image_token(tokenizer)
    assert tokenizer.apply_chat_template(said, tokenize=False) == before


def test_a_template_that_writes_a_placeholder_is_left_alone():
    tokenizer = tiny_tokenizer()
    before = tokenizer.chat_template.replace("<|vision_start|>", "").replace("<|vision_end|>", "")
    tokenizer.chat_template = before
    assert give_image_token(tokenizer) == tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert tokenizer.chat_template == before and "<image>" not in tokenizer.get_vocab()


def test_giving_twice_changes_nothing():
    tokenizer = tokenizer_with(TEXT_TEMPLATE)
    first, template = give_image_token(tokenizer), tokenizer.chat_template
    assert (give_image_token(tokenizer), tokenizer.chat_template) == (first, template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template; use an instruction-tuned language model"),
        ("{{ 'always the same' }}", "leaves out what a user says"),
        ("{{ raise_exception('no') }}", "leaves out what a user says"),
    ],
)
def test_templates_that_cannot_be_helped_are_refused(template, message):
    with pytest.raises(InputError, match=message):
        give_image_token(tokenizer_with(template))


def test_a_checkpoint_with_a_text_only_template_is_loaded_and_scores_as_with_one_that_shows_images(tmp_path):
    model = tiny_model("llava")
    shown = model.tokenizer.chat_template.replace("<|vision_start|>", "").replace("<|vision_end|>", "")
    found = []
    for name, template in (("shown", shown), ("text", SCRATCH_TEXT)):
        model.tokenizer.chat_template = template
        model.save_pretrained(tmp_path / name)
        found.append(RewardModel.from_pretrained(tmp_path / name).score(noise_pictures(2), "a cross").probs)
    assert torch.equal(*found)


def test_templates_that_show_images_are_not_touched(tmp_path):
    for family in FAMILIES:
        model = tiny_model(family)
        model.save_pretrained(tmp_path / family)
        again = RewardModel.from_pretrained(tmp_path / family)
        assert again.tokenizer.chat_template == model.tokenizer.chat_template


def test_a_template_that_cannot_show_images_is_told(tmp_path):
    model = tiny_model("llava")
    model.tokenizer.chat_template = "{{ 'always the same' }}"
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="wrote 0 image placeholders for 1 image"):
        RewardModel.from_pretrained(tmp_path / "model")
