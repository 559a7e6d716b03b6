"""Items of no picture, one or several, and answers in words: the conversation, the passes, the public calls, bad input."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from tests.tiny import COMPARISON, noise_pictures, tiny_model, tiny_rubric
from zreward.common.errors import InputError
from zreward.models.fingerprint import short_digest
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.models.rows import rows_of
from zreward.models.teacher import check_takes, plain_prompts, single_pictures
from zreward.prompting import PromptForms, Texts, messages

PICTURES = noise_pictures(5, ((32, 32), (40, 24)))
SHOWN = [[PICTURES[0]], [PICTURES[1], PICTURES[2]], None, [], [PICTURES[3], PICTURES[4], PICTURES[0]]]
PROMPTS = ["a red circle", "a blue cross", "a circle is", "a circle is", "a square"]
ANSWERS = [None, None, "a red circle", "a red circle and a blue cross", "the cross is blue"]
NAMES = ("realism", "alignment")


# --- the conversation


def content(texts: str | Texts, images: int, **forms: str) -> list[str]:
    """The user's turn, with * for a picture."""
    turns = messages(
        texts, tiny_rubric().dimension("realism"), tiny_rubric(), PromptForms(direct="?", **forms), False, images
    )
    return [part.get("text", "*") for part in turns[-1]["content"]]


@pytest.mark.parametrize(
    ("texts", "images", "forms", "expected"),
    [
        ("p", 1, {}, ["*", "The image was generated from this prompt: p?"]),
        ("p", 2, {"several": " then {prompt}"}, ["Image 1: ", "*", "Image 2: ", "*", " then p?"]),
        ("p", 2, {"several": "{prompt}", "picture": ""}, ["*", "*", "p?"]),
        ("p", 3, {"several": "{prompt}", "picture": "{number}/{count}"}, ["1/3", "*", "2/3", "*", "3/3", "*", "p?"]),
        (Texts("p", "a"), 0, {}, ["Question: p\n\nAnswer: a?"]),
        (Texts("p", "a"), 1, {"answer": "{answer} to {prompt}"}, ["*", "a to p?"]),
        (
            Texts("p {answer}", "{prompt}"),
            0,
            {"answer": "{answer}|{prompt}"},
            ["{prompt}|p {answer}?"],
        ),  # said as it is
        ("p", 2, {"reference": "then", "prompt": "{prompt}"}, ["*", "then", "*", "p?"]),
    ],
)
def test_the_conversation(texts, images, forms, expected):
    assert content(texts, images, **forms) == expected


@pytest.mark.parametrize(
    ("field", "text", "match"),
    [
        ("answer", "{prompt}", "does not use {answer}"),
        ("answer", "{answer} {other}", "answer uses"),
        ("answer", "{answer:>999}", "changes {answer} by a format"),
        ("several", "{answer}", "several uses"),
        ("picture", "{prompt}", "picture uses"),
        ("picture", "{number!r}", "changes {number}"),
        ("picture", "x" * 10_001, "10,001 letters"),
    ],
)
def test_forms_of_several_pictures_and_answers_are_checked(field, text, match):
    with pytest.raises(InputError, match=match):
        PromptForms(**{field: text})


def test_an_answer_that_spells_a_control_token_does_not_become_one(model):
    """An image placeholder in an answer would be counted as a picture."""
    ids = model.encoder.encode(Texts("a", "<|image_pad|> <|im_end|>"), model.rubric.dimensions[0], False, 0)
    plain = model.encoder.encode(Texts("a", "b"), model.rubric.dimensions[0], False, 0)
    assert model.encoder.image_token_id not in ids
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == plain.count(end)


def test_the_forms_are_recorded_and_default_ones_leave_older_fingerprints_as_they_are(model, tmp_path):
    """Version 0.1 knows three forms and refuses others: default ones are left out of what it reads."""
    newer = {"picture", "several", "answer"}
    model.save_pretrained(tmp_path / "model")
    recorded = json.loads((tmp_path / "model" / "zreward.json").read_text())["forms"]
    assert recorded and not newer & set(recorded)
    older = {key: text for key, text in asdict(model.forms).items() if key not in newer}
    assert model.fingerprint()["forms"] == short_digest(older)
    other = replace(model.forms, several="changed {prompt}")
    assert short_digest(other.digested()) != short_digest(older)


# --- passes


def opened_items(model: RewardModel) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(map(model.open, one or [])) for one in SHOWN]


def alone(model: RewardModel, item: int, name: str) -> torch.Tensor:
    """[S] label logits of one item by the Hugging Face model itself, its tokens put together by hand."""
    shown = opened_items(model)[item]
    ids = model.encoder.encode(Texts(PROMPTS[item], ANSWERS[item]), model.rubric.dimension(name), False, len(shown))
    patched = [model.layout.patchify(one) for one in shown]
    tokens, left = [], [model.layout.tokens(grid) for _, grid in patched]
    for token in ids:
        tokens += [token] * (left.pop(0) if token == model.encoder.image_token_id else 1)
    given = {"input_ids": torch.tensor([tokens]), "attention_mask": torch.ones(1, len(tokens), dtype=torch.long)}
    if shown:
        given["pixel_values"] = torch.cat([patches for patches, _ in patched]).to(model.backbone.base.dtype)
        if model.backbone.base.config.model_type != "llava":
            given["image_grid_thw"] = torch.tensor([grid for _, grid in patched])
            given["mm_token_type_ids"] = (given["input_ids"] == model.encoder.image_token_id).int()
    return model.backbone.base(**given).logits[0, -1, model.encoder.label_ids]


@torch.no_grad()
@pytest.mark.parametrize("chosen", [[2], [2, 3], [3, 3], [1, 4], [4, 2], [0, 1, 2, 3, 4]])
def test_shared_passes_are_the_plain_model_item_by_item(family_model, short_openings, chosen):
    """In float64, whatever items stand beside each other, with an opening of its own."""
    model = family_model.double()
    try:
        shown, texts = [opened_items(model)[n] for n in chosen], [Texts(PROMPTS[n], ANSWERS[n]) for n in chosen]
        images = [image for mine in shown for image in mine]
        inputs = replace(model.collate(images, rows_of(shown, texts, NAMES)), share=True)
        cut = model.backbone.shared_prefix.cut(model.backbone, inputs)
        assert cut.prefix is not None and len(cut.prefix.ids) == len(chosen)
        assert (cut.opening is not None) == (len(chosen) > 1)
        found = model.backbone(inputs).score_logits
        expected = torch.stack([alone(model, n, name) for n in chosen for name in NAMES])
    finally:
        model.float()
    exact = model.backbone.base.config.model_type != "qwen3_5"  # whose delta rule computes in float32
    assert torch.allclose(found, expected, atol=1e-9 if exact else 1e-4)


@torch.no_grad()
def test_scores_and_judgements_do_not_depend_on_the_items_beside_them(model):
    whole = model.score(SHOWN, PROMPTS, NAMES, batch_size=2, answers=ANSWERS).probs
    judged = model.judge(SHOWN, PROMPTS, 2, NAMES, 0, answers=ANSWERS)
    for n in range(len(SHOWN)):
        one = model.score([SHOWN[n]], PROMPTS[n], NAMES, answers=[ANSWERS[n]])
        assert torch.allclose(whole[n], one.probs[0], atol=1e-5)
        expected = torch.stack([alone(model, n, name) for name in NAMES]).softmax(-1)
        assert torch.allclose(whole[n], expected, atol=1e-4)
        (mine,) = model.judge([SHOWN[n]], PROMPTS[n], 1, NAMES, 0, answers=[ANSWERS[n]])
        assert mine.traces["realism"][0] == judged[n].traces["realism"][1]
        assert torch.allclose(mine.distribution.probs, judged[n].distribution.probs, atol=1e-4)


def test_the_order_of_pictures_and_every_word_of_an_answer_count(model):
    probs = model.score([PICTURES[:2], PICTURES[1::-1]], "a red circle").probs
    assert not torch.allclose(probs[0], probs[1], atol=1e-3)
    words = model.score(None, "a circle is", answers=["a red circle", "a blue circle"]).probs
    assert not torch.allclose(words[0], words[1], atol=1e-3)
    assert torch.equal(words, model.score([None, []], "a circle is", answers=["a red circle", "a blue circle"]).probs)
    assert torch.equal(words[:1], model.score(None, ["a circle is"], answers="a red circle").probs)


def test_gradients_of_shared_passes_are_those_of_whole_rows(model, separately):
    """Of the words' embeddings, over items with and without pictures."""
    weight = model.backbone.base.get_input_embeddings().weight

    def gradient() -> torch.Tensor:
        shown, texts = opened_items(model), list(map(Texts, PROMPTS, ANSWERS))
        images = [image for mine in shown for image in mine]
        inputs = replace(model.collate(images, rows_of(shown, texts, NAMES)), share=True)
        logits = model.backbone(inputs).score_logits
        return torch.autograd.grad(logits.log_softmax(-1)[:, 1].sum(), weight)[0]

    assert torch.allclose(gradient(), separately(gradient), atol=1e-4)


# --- bad input


@pytest.mark.parametrize(
    ("images", "prompts", "answers", "match"),
    [
        (None, "p", None, "neither images nor answers"),
        ([None], "p", None, "neither a picture nor an answer"),
        ([PICTURES[0], None], "p", None, "item 1 has neither"),
        ([PICTURES[:1] * 9], "p", None, "shows 9 pictures; expected at most 8"),
        (None, ["p", "q"], ["a"], "1 answers but 2 prompts"),
        ([PICTURES[0]], "p", ["a", "b"], "1 items but 2 answers"),
        (None, "p", [" "], "answer is empty or blank"),
        (None, "p", ["a", 3], "answer 1 is a int"),
        (None, "p", ["a" * 1_000_001], "1,000,001 letters"),
        (None, "p", 3, "answers is a int"),
        (None, "p", [], "no images were given"),
    ],
)
def test_items_that_cannot_be_judged(model, images, prompts, answers, match):
    for ask in (model.score, model.judge):
        with pytest.raises(InputError, match=match):
            ask(images, prompts, answers=answers)


def test_a_model_that_compares_takes_one_picture_and_its_reference(model):
    judge = comparing(model, COMPARISON)
    with pytest.raises(InputError, match="shows 3 pictures; this model compares"):
        judge.score([PICTURES[:2]], "p", references=PICTURES[:1])
    with pytest.raises(InputError, match="shows 1 pictures; this model compares"):
        judge.score([None], "p", references=PICTURES[:1])


def test_too_long_an_answer_is_refused_before_the_model_runs():
    short = tiny_model()
    short.backbone.base.config.get_text_config().max_position_embeddings = 40
    with pytest.raises(InputError, match="40; shorten its texts"):
        short.score(None, "p", answers=["a red circle " * 20])


def test_teachers_of_single_pictures_refuse_other_items():
    from zreward.data import Record

    class Single:
        any_sequence = False

    check_takes(Single(), "vLLM", [Record("p", b"0")])
    with pytest.raises(InputError, match="record p2: an answer; vLLM takes records of one picture"):
        check_takes(Single(), "vLLM", [Record("p", b"0"), Record("p", answer="a", id="p2")])
    assert single_pictures([PICTURES[0], (PICTURES[1],)], [None, None], "vLLM") == PICTURES[:2]
    with pytest.raises(InputError, match="item 1 shows 2 pictures; vLLM"):
        single_pictures([PICTURES[0], PICTURES[:2]], None, "vLLM")
    with pytest.raises(InputError, match="vLLM takes items of one picture and no answer"):
        plain_prompts(["p", Texts("p", "a")], "vLLM")
