"""An exported folder beside the model: plain transformers computes the same scores from it and from its requests."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from tests.plain_model import give_the_adapter_a_say
from tests.publishing.loading import load_processor, plain_scores
from tests.tiny import (
    COMPARISON,
    FAMILIES,
    FORMS,
    SPEC,
    noise_pictures,
    sharpen,
    tiny_model,
    tiny_rubric,
    tiny_tokenizer,
)
from zreward.common.errors import InputError
from zreward.models.pairwise import comparing
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import CHAT_TEMPLATE, SPECIAL, build_model
from zreward.publishing.export import export

PROMPT = "a large red circle"


def both(model: RewardModel, folder, picture, by_chat: bool) -> tuple[torch.Tensor, torch.Tensor]:
    return plain_scores(folder, picture, PROMPT, by_chat), model.score([picture], PROMPT).probs[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_computes_the_scores(family, tmp_path):
    model = sharpen(tiny_model(family, seed=1), 3)
    export(model, tmp_path / "judge")
    (picture,) = noise_pictures(1)
    for by_chat in (True, False):
        found, expected = both(model, tmp_path / "judge", picture, by_chat)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert expected.std(0).max() > 1e-3  # the questions differ
    again = RewardModel.from_pretrained(tmp_path / "judge").score([picture], PROMPT)
    torch.testing.assert_close(again.probs[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_that_is_resized_is_near(family, tmp_path):
    """A smooth one: resizing noise is another matter."""
    model = sharpen(tiny_model(family, seed=1), 3)
    export(model, tmp_path / "judge")
    picture = noise_pictures(1, ((4, 4),))[0].resize((90, 70))
    found, expected = both(model, tmp_path / "judge", picture, True)
    assert (found - expected).abs().max() < 0.02


def test_an_adapter_is_merged(tmp_path):
    base = sharpen(tiny_model("qwen3_vl", seed=1), 3)
    base.save_pretrained(tmp_path / "base")
    from peft import LoraConfig, get_peft_model

    network = get_peft_model(
        RewardModel.from_pretrained(tmp_path / "base").backbone.model,
        LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    model = RewardModel(network, base.tokenizer, base.rubric, base.forms)
    model.base = RewardModel.from_pretrained(tmp_path / "base").base
    give_the_adapter_a_say(model)
    model.eval().save_pretrained(tmp_path / "adapter")
    (picture,) = noise_pictures(1)
    loaded = RewardModel.from_pretrained(tmp_path / "adapter")
    expected = loaded.score([picture], PROMPT).probs[0]
    assert (expected - base.score([picture], PROMPT).probs[0]).abs().max() > 1e-3
    with pytest.raises(InputError, match="LoRA adapter; add --merge"):
        export(loaded, tmp_path / "judge")
    assert not (tmp_path / "judge").exists()
    export(loaded, tmp_path / "judge", merge=True)
    torch.testing.assert_close(plain_scores(tmp_path / "judge", picture, PROMPT, True), expected, rtol=0, atol=1e-5)
    with safe_open(tmp_path / "judge" / "model.safetensors", "pt") as file:
        assert not [key for key in set(file.keys()) if "lora" in key]
    assert "base" not in json.loads((tmp_path / "judge" / "zreward.json").read_text())
    torch.testing.assert_close(
        RewardModel.from_pretrained(tmp_path / "judge").score([picture], PROMPT).probs[0], expected, rtol=0, atol=1e-5
    )


def test_files_and_what_they_say(tmp_path):
    model = tiny_model("qwen3_vl")
    export(model, tmp_path / "judge")
    names = {file.name for file in (tmp_path / "judge").iterdir()}
    assert names >= {
        *("README.md", "chat_template.jinja", "config.json", "model.safetensors", "preprocessor_config.json"),
        *("processor_config.json", "request.json", "tokenizer.json", "video_preprocessor_config.json", "zreward.json"),
    }
    processor = json.loads((tmp_path / "judge" / "processor_config.json").read_text())
    assert processor["processor_class"] == "Qwen3VLProcessor"
    video = json.loads((tmp_path / "judge" / "video_preprocessor_config.json").read_text())
    assert processor["video_processor"] == video and video["video_processor_type"] == "Qwen3VLVideoProcessor"
    assert processor["image_processor"]["patch_size"] == 4 and processor["image_processor"]["rescale_factor"] == 1 / 255
    plan = json.loads((tmp_path / "judge" / "request.json").read_text())
    assert plan["chat_is_exact"] and list(plan["chat"]["bodies"]) == list(model.rubric.dimension_names)
    assert [label["token"] for label in plan["labels"]] == list(model.rubric.labels)
    assert [label["score"] for label in plan["labels"]] == model.rubric.scale.bins.tolist()
    body = plan["chat"]["bodies"]["realism"]
    ids = [label["token_id"] for label in plan["labels"]]
    assert body["model"] == "judge" and body["max_tokens"] == 1 and body["top_logprobs"] == 9
    assert body["logprob_token_ids"] == body["allowed_token_ids"] == ids == model.encoder.label_ids.tolist()
    assert plan["tokens"]["generate"]["sampling_params"]["logprob_token_ids"] == ids
    readme = (tmp_path / "judge" / "README.md").read_text()
    assert "vllm serve judge" in readme and "chat requests are near" not in readme
    assert model.tokenizer.chat_template == tiny_model("qwen3_vl").tokenizer.chat_template  # as it was


def test_llavas_processor_counts_the_towers_tokens(tmp_path):
    model = tiny_model("llava")
    export(model, tmp_path / "judge")
    processor = load_processor(tmp_path / "judge")
    assert type(processor).__name__ == "LlavaProcessor"
    wide = [noise_pictures(1, ((4, 4),))[0].resize((48, 20))]
    found = processor(text="<|image_pad|>", images=wide, return_tensors="pt")
    assert (found["input_ids"] == model.encoder.image_token_id).sum() == model.layout.tokens_per_image
    expected, _ = model.layout.patchify(model.open(wide[0]))
    assert found["pixel_values"].shape == expected.shape
    assert found["pixel_values"][..., :8, :].abs().max() < 0.01  # padded above and below, not stretched
    assert (found["pixel_values"] - expected).abs().mean() < 0.1  # half a pixel apart


def test_traces_begin_as_in_training(tmp_path):
    """The exported template writes the beginning of a trace, once."""
    model = tiny_model("qwen3_vl")
    export(model, tmp_path / "judge")
    again = RewardModel.from_pretrained(tmp_path / "judge")
    for reasoning in (True, False):
        dimension = model.rubric.dimensions[0]
        assert again.encoder.encode(PROMPT, dimension, reasoning) == model.encoder.encode(PROMPT, dimension, reasoning)
    export(again, tmp_path / "twice")
    first, second = ((tmp_path / name / "chat_template.jinja").read_text() for name in ("judge", "twice"))
    assert first == second


def test_a_template_that_begins_traces_itself_is_left_to_it(tmp_path):
    tokenizer = tiny_tokenizer()
    begins = "{% if enable_thinking %}{{ '<think>' }}{% endif %}"
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|im_start|> assistant{%", f"<|im_start|> assistant{begins}{{%")
    model = RewardModel(build_model("qwen3_vl", SPEC, tokenizer), tokenizer, tiny_rubric(), FORMS).eval()
    export(model, tmp_path / "judge")
    again = RewardModel.from_pretrained(tmp_path / "judge").encoder
    for reasoning in (True, False):
        dimension = model.rubric.dimensions[0]
        assert again.encode(PROMPT, dimension, reasoning) == model.encoder.encode(PROMPT, dimension, reasoning)
    assert (tmp_path / "judge" / "chat_template.jinja").read_text().count("<think>") == 1


def test_where_line_ends_meet_the_request_by_tokens_is_exact_and_says_so(tmp_path):
    """As with Qwen's own tokenizers: "\\n" of the template and "\\n" of the answer prefix become one token in one text."""
    from dataclasses import replace

    from transformers.models.qwen3_5.tokenization_qwen3_5 import Qwen3_5Tokenizer

    plain = tiny_tokenizer()
    core = json.loads(plain.backend_tokenizer.to_str())["model"]
    vocabulary = {**core["vocab"], "ĊĊ": len(core["vocab"])}
    merges = [("Ċ", "Ċ"), *(tuple(pair) for pair in core["merges"])]
    tokenizer = Qwen3_5Tokenizer(vocab=vocabulary, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|im_start|> assistant{%", "<|im_start|> assistant{{ '\\n' }}{%")
    torch.manual_seed(0)
    forms = replace(FORMS, answer_prefix="\n level ")
    model = sharpen(RewardModel(build_model("qwen3_vl", SPEC, tokenizer), tokenizer, tiny_rubric(), forms).eval(), 3)
    export(model, tmp_path / "judge")
    plan = json.loads((tmp_path / "judge" / "request.json").read_text())
    assert plan["chat_is_exact"] is False and "`tokens` is exact" in plan["chat"]["how"]
    assert "Its chat requests are near the model's own distribution" in (tmp_path / "judge" / "README.md").read_text()
    (picture,) = noise_pictures(1)
    found, expected = both(model, tmp_path / "judge", picture, False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found, expected = both(model, tmp_path / "judge", picture, True)
    assert (found - expected).abs().max() > 1e-4


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    model = tiny_model("qwen3_vl")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already; choose another folder"):
        export(model, tmp_path / "full")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="compares with a reference picture"):
        export(comparing(model, COMPARISON), tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(model, "quantization", "4bit", raising=False)
        with pytest.raises(InputError, match="quantised; load the model without quantization"):
            export(model, tmp_path / "x")
    monkeypatch.setattr(model.backbone.base.config, "model_type", "strange", raising=False)
    with pytest.raises(InputError, match=r"model type 'strange': transformers knows no processor"):
        export(model, tmp_path / "x")
    assert not (tmp_path / "x").exists()
