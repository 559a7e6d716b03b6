"""Plug-ins against the libraries they plug into, or the contract where a library does not install here."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import noise_pictures, sharpen, tiny_model, tiny_tokenizer
from zreward.common.errors import InputError
from zreward.integrations.best_of_n import best_of_n
from zreward.integrations.metric import RewardScore
from zreward.integrations.rewards import trl_reward, verl_compute_score

PROMPTS = ["a red circle", "a blue cross", "a small green square"]


@pytest.fixture(scope="module")
def model():
    return sharpen(tiny_model())


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return noise_pictures(len(PROMPTS))


def test_trl_trains_on_the_reward(model, pictures, tmp_path):
    """TRL's own GRPOTrainer, a tiny language model that writes descriptions of pictures."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    writer = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
    rows = datasets.Dataset.from_dict({"prompt": [" judge the"] * 4, "picture": [pictures[0]] * 4})
    seen = []
    reward = trl_reward(model, ["alignment"], image_column="picture")

    def watched(**arguments):
        seen.append((arguments["completions"], reward(**arguments)))
        return seen[-1][1]

    options = trl.GRPOConfig(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=2, max_completion_length=4,
        report_to=[], use_cpu=True, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(writer, watched, args=options, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    completions, rewards = seen[0]
    assert len(completions) == len(rewards) == 4
    texts = [text.strip() for text in completions]
    assert rewards == pytest.approx(model.score([pictures[0]] * 4, texts, ["alignment"]).mean[:, 0].tolist(), abs=1e-4)
    assert any("zreward/alignment" in row for row in trainer.state.log_history)


def test_trl_rows_without_text_or_image_are_left_out(model, pictures):
    reward = trl_reward(model)
    conversation = [{"role": "assistant", "content": [{"type": "text", "text": PROMPTS[0]}]}]
    given = reward(
        prompts=["x"] * 3, completions=[conversation, " ", PROMPTS[1]], image=[pictures[0], pictures[1], None]
    )
    assert given[0] == pytest.approx(model.score(pictures[:1], PROMPTS[0]).mean.mean().item(), abs=1e-4)
    assert given[1:] == [None, None]
    with pytest.raises(InputError, match="no column 'image'; it has \\['photo'\\]"):
        reward(prompts=["x"], completions=["y"], photo=[pictures[0]])


def test_trl_rows_hold_pictures_as_data_sets_do(model, pictures, tmp_path):
    """Lists of one, {bytes, path}, bytes, files, arrays; and conversations without content."""
    want = model.score(pictures[0], PROMPTS[0]).mean.mean().item()
    file = io.BytesIO()
    pictures[0].save(file, "PNG")
    content, array = file.getvalue(), np.asarray(pictures[0])
    held = [
        pictures[0],
        {"bytes": content, "path": None},
        content,
        bytearray(content),
        file,
        array,
        torch.from_numpy(array.copy()),
    ]
    for column in (held, [[one] for one in held], [(one,) for one in held]):
        given = trl_reward(model, image_column="images")(
            prompts=["x"] * len(held), completions=[PROMPTS[0]] * len(held), images=column
        )
        assert given == pytest.approx([want] * len(held), abs=1e-4)
    with pytest.raises(InputError, match="row 1 has 2 images"):
        trl_reward(model)(prompts=["x"] * 2, completions=["a", "b"], image=[pictures[0], pictures[:2]])


@pytest.mark.parametrize(
    "completion",
    [
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "tool_calls": []}],
        [{"role": "assistant", "content": [{"type": "text", "text": None}, {"type": "tool"}]}],
        [],
        None,
        "",
    ],
)
def test_trl_completions_without_words_get_no_reward(model, pictures, completion):
    given = trl_reward(model)(prompts=["x"] * 2, completions=[completion, PROMPTS[0]], image=[pictures[0]] * 2)
    assert given[0] is None and given[1] is not None
    assert trl_reward(model)(prompts=["x"], completions=["a"], image=[[]]) == [None]


def test_verl_omni_gets_a_score_and_its_dimensions(model, pictures):
    score = verl_compute_score(model, ["alignment", "realism"])
    pixels = np.asarray(pictures[0]).transpose(2, 0, 1)
    found = asyncio.run(score("world", pixels, PROMPTS[0], extra_info={}, other=1))
    expected = model.score(pictures[:1], PROMPTS[0], ["alignment", "realism"]).mean[0].tolist()
    assert [found["alignment"], found["realism"]] == pytest.approx(expected, abs=1e-4)
    assert found["score"] == pytest.approx(sum(expected) / 2, abs=1e-4)
    with pytest.raises(InputError, match="float32 .*expected uint8"):
        asyncio.run(score("world", pixels.astype(np.float32), PROMPTS[0]))


def test_the_metric_is_that_of_all_pictures_whatever_the_batches(model, pictures):
    metric = RewardScore(model, ["alignment", "realism"])
    metric.update(pictures[:1], PROMPTS[:1])
    metric.update(pictures[1:], PROMPTS[1:])
    scores = model.score(pictures, PROMPTS, ["alignment", "realism"])
    found = metric.compute()
    assert found["realism"].item() == pytest.approx(scores.mean[:, 1].mean().item(), abs=1e-4)
    assert found["overall"].item() == pytest.approx(scores.mean.mean().item(), abs=1e-4)
    assert found["alignment_spread"].item() == pytest.approx(scores.std[:, 0].mean().item(), abs=1e-4)
    assert found["alignment_low"].item() == pytest.approx(scores.probs[:, 0, :3].sum(-1).mean().item(), abs=1e-4)
    assert not metric.state_dict() and not list(metric.parameters())
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric.compute()["overall"].isnan()


def test_states_of_two_processes_add_up(model, pictures):
    both, one, other = (RewardScore(model) for _ in range(3))
    both.update(pictures, PROMPTS)
    one.update(pictures[:1], PROMPTS[:1])
    other.update(pictures[1:], PROMPTS[1:])
    one.probs += other.probs  # what torchmetrics' sum over processes does
    one.spread += other.spread
    one.count += other.count
    for name, value in both.compute().items():
        assert one.compute()[name].item() == pytest.approx(value.item(), abs=1e-5)


def test_best_of_n_gives_the_pictures_in_order_and_repeats(model):
    diffusers = pytest.importorskip("diffusers")
    from tests.generation.conftest import stable_diffusion

    pipeline = stable_diffusion()
    assert isinstance(pipeline, diffusers.DiffusionPipeline)
    found = best_of_n(
        pipeline, model, PROMPTS[0], count=3, seed=5, batch_size=2, num_inference_steps=2, guidance_scale=1.0
    )
    chances = [candidate.best for _, candidate in found]
    assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(1)
    assert {candidate.image for _, candidate in found} == {"5", "6", "7"}
    again = best_of_n(
        pipeline, model, PROMPTS[0], count=3, seed=5, batch_size=3, num_inference_steps=2, guidance_scale=1.0
    )
    assert [candidate.image for _, candidate in again] == [candidate.image for _, candidate in found]
    expected = model.score([found[0][0]], PROMPTS[0]).mean.mean().item()
    assert found[0][1].overall == pytest.approx(expected, abs=1e-4)
