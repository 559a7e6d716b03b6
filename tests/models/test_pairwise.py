"""Models that compare with a reference image: the conversation, the order of the two pictures, bad input."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import COMPARISON
from zreward.common.errors import InputError
from zreward.models.pairwise import PairwiseQuestion, comparing
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row

PROMPT = "a red circle"


def plain_logits(judge: RewardModel, pixels: list[torch.Tensor], row: Row) -> torch.Tensor:
    """[V] at the answer of one row, by the Hugging Face model itself, the pictures in the conversation's order."""
    inputs = judge.collate([pixels[i] for i in row.images], [Row((0, 1), row.prompt, row.dimension)])
    qwen = {
        "mm_token_type_ids": (inputs.input_ids == judge.encoder.image_token_id).int(),
        "image_grid_thw": inputs.grid,
    }
    return judge.backbone.model(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        pixel_values=inputs.patches,
        **({} if judge.backbone.base.config.model_type == "llava" else qwen),
    ).logits[0, -1]


@torch.no_grad()
def test_the_answer_is_the_plain_models_over_reference_then_image(family_model, pictures):
    judge = comparing(family_model, COMPARISON)
    images, references = pictures[:4], pictures[4:8]
    probs = judge.score(images, PROMPT, ["realism"], references=references).probs[:, 0]
    pixels = [judge.open(image) for image in [*images, *references]]
    for n in range(4):
        logits = plain_logits(judge, pixels, Row((4 + n, n), PROMPT, "realism"))
        assert torch.allclose(probs[n], logits[judge.encoder.label_ids].softmax(-1), atol=1e-5)
    swapped = judge.score(references, PROMPT, ["realism"], references=images).probs[:, 0]
    assert not torch.allclose(probs, swapped, atol=1e-3)
    alone = judge.score(images[1:2], PROMPT, ["realism"], references=references[1:2]).probs[0, 0]
    assert torch.allclose(probs[1], alone, atol=1e-4)


def test_the_probability_of_yes_is_the_mean_and_differentiable(model, pictures):
    judge = comparing(model, COMPARISON)
    pixels = torch.stack([judge.open(picture.resize((32, 32))) for picture in pictures[:2]]).requires_grad_()
    answer = judge(pixels, PROMPT, references=pictures[2:4])
    assert torch.equal(answer.mean, answer.probs[..., 1])
    answer.mean.sum().backward()
    assert pixels.grad.abs().flatten(1).sum(1).min() > 0


def test_a_saved_comparing_model_is_the_same_model(model, pictures, tmp_path):
    judge = comparing(model, COMPARISON)
    judge.save_pretrained(tmp_path / "judge")
    again = RewardModel.from_pretrained(tmp_path / "judge")
    before, after = (m.score(pictures[:2], PROMPT, references=pictures[2:4]).probs for m in (judge, again))
    assert torch.equal(before, after)


def test_bad_calls_are_refused(model, pictures):
    judge = comparing(model, COMPARISON)
    with pytest.raises(InputError, match="compares with a reference"):
        judge.score(pictures[:2], PROMPT)
    with pytest.raises(InputError, match="2 images but 1 references"):
        judge.score(pictures[:2], PROMPT, references=pictures[:1])
    with pytest.raises(InputError, match="compares with a reference"):
        judge.judge(pictures[:2], PROMPT)
    with pytest.raises(InputError, match="scores single images"):
        model.score(pictures[:2], PROMPT, references=pictures[:2])
    with pytest.raises(InputError, match="already compares"):
        comparing(judge)
    with pytest.raises(InputError, match="label 'no' is . tokens"):
        comparing(model, PairwiseQuestion())
