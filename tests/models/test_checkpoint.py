"""Checkpoints: what is written is an ordinary Hugging Face folder, what is read is checked, and nothing is half-written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.tiny import FORMS, sharpen, tiny_model, tiny_rubric
from zreward.common.errors import InputError
from zreward.models.calibration import Calibration, Recalibration
from zreward.models.checkpoint import record_calibrations
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.prompting import PromptForms
from zreward.rubric import Rubric

PROMPT = "a red circle"


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_scores_the_same(family_model, pictures, tmp_path):
    family_model.save_pretrained(tmp_path / "model")
    loaded = RewardModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.score(pictures[:3], PROMPT).probs, family_model.score(pictures[:3], PROMPT).probs)
    assert loaded.rubric == family_model.rubric
    assert loaded.forms == family_model.forms
    assert loaded.max_trace_tokens == family_model.max_trace_tokens


def test_the_resolution_policy_is_recorded_and_can_be_overridden(model, tmp_path):
    original = model.resolution
    try:
        model.resolution = ResolutionPolicy(longest_side=16)
        model.save_pretrained(tmp_path / "model")
    finally:
        model.resolution = original
    assert RewardModel.from_pretrained(tmp_path / "model").resolution == ResolutionPolicy(longest_side=16)
    other = ResolutionPolicy(pixel_budget=256)
    assert RewardModel.from_pretrained(tmp_path / "model", resolution=other).resolution == other


def test_options_that_would_do_nothing_are_refused(folder, model):
    for tokens in (0, -1, 1.5):
        with pytest.raises(InputError, match=f"max_trace_tokens is {tokens}"):
            RewardModel.from_pretrained(folder, max_trace_tokens=tokens)
    with pytest.raises(InputError, match="has prompt forms of its own"):
        RewardModel.from_pretrained(folder, forms=replace(model.forms, stop_marker=" end"))
    assert RewardModel.from_pretrained(folder, forms=model.forms, max_trace_tokens=5).max_trace_tokens == 5


@torch.no_grad()
def test_plain_transformers_loads_model_and_tokenizer(family_model, tmp_path):
    import transformers
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    family_model.save_pretrained(tmp_path / "model")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    for name, weight in family_model.backbone.model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], weight), name
    text = " a red circle </think> level 5"
    assert AutoTokenizer.from_pretrained(tmp_path / "model")(text) == family_model.tokenizer(text)
    stored = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    assert getattr(transformers, stored["image_processor_type"])
    assert tuple(stored["image_mean"]) == family_model.layout.mean


def test_only_safetensors_are_written_and_read(folder):
    suffixes = {path.suffix for path in folder.iterdir()}
    assert ".safetensors" in suffixes
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match=r"its weights as pytorch_model\.bin: .* reads safetensors only"):
        RewardModel.from_pretrained(folder)


def test_an_adapter_is_saved_beside_its_base(pictures, tmp_path):
    base = sharpen(tiny_model(seed=5))
    base.save_pretrained(tmp_path / "base")
    adapted = RewardModel.from_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    adapted.backbone.model.name_or_path = str(tmp_path / "base")
    adapted.backbone.model = get_peft_model(adapted.backbone.model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    adapted.eval().save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").exists()
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    loaded = RewardModel.from_pretrained(tmp_path / "adapter")
    scores = loaded.score(pictures[:2], PROMPT).probs
    assert torch.allclose(scores, adapted.score(pictures[:2], PROMPT).probs, atol=1e-6)
    assert not torch.allclose(scores, base.score(pictures[:2], PROMPT).probs, atol=1e-6)


def edit(folder, **changes):
    file = folder / "zreward.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_checkpoint_says_the_oldest_version_that_reads_it(model, tmp_path):
    """A default text that is stored would be an unknown form to version 0.1; one of its own must not be left out."""

    def stored(forms: PromptForms, name: str) -> dict:
        made = RewardModel(model.backbone.model, model.tokenizer, model.rubric, forms)
        made.save_pretrained(tmp_path / name)
        assert RewardModel.from_pretrained(tmp_path / name).forms == forms
        return json.loads((tmp_path / name / "zreward.json").read_text())

    plain = stored(model.forms, "plain")
    assert plain["schema_version"] == 1 and not {"picture", "several", "answer"} & set(plain["forms"])
    own = stored(replace(model.forms, several="\nAfter this edit: {prompt}"), "own")
    assert own["schema_version"] == 4 and own["forms"]["several"] == "\nAfter this edit: {prompt}"
    for name, version in (("plain", 3), ("own", 4)):
        record_calibrations(tmp_path / name, "direct", Calibration("temperature", {"realism": Recalibration(2.0)}))
        assert json.loads((tmp_path / name / "zreward.json").read_text())["schema_version"] == version


def test_a_newer_schema_is_refused(folder):
    edit(folder, schema_version=99)
    with pytest.raises(InputError, match=r"schema version 99.*Install a newer zreward"):
        RewardModel.from_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": "x"}', "{}", '{"schema_version": 1}'])
def test_a_damaged_description_is_refused(folder, text):
    (folder / "zreward.json").write_text(text)
    with pytest.raises(InputError, match="not a valid zreward.json"):
        RewardModel.from_pretrained(folder)


def test_missing_weights_are_refused_not_invented(folder):
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "mlp.up_proj" in name)
    save_file({name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors")
    with pytest.raises(InputError, match="1 weights are missing, .*mlp.up_proj"):
        RewardModel.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="model.safetensors is cut off"):
        RewardModel.from_pretrained(folder)


def test_a_model_without_a_rubric_says_that_the_default_one_is_used(folder):
    (folder / "zreward.json").unlink()
    with pytest.warns(UserWarning, match="no rubric was given"):
        assert RewardModel.from_pretrained(folder).rubric == Rubric.default()


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(InputError, match="no such checkpoint folder"):
        RewardModel.from_pretrained(f"{folder.parent.name}/modell")


def test_a_checkpoint_of_another_rubric_is_refused(folder):
    with pytest.raises(InputError, match="was trained with rubric 'tiny'.*'default'"):
        RewardModel.from_pretrained(folder, rubric=Rubric.default())
    own = RewardModel.from_pretrained(folder).rubric
    RewardModel.from_pretrained(folder, rubric=own)


def test_a_label_of_two_tokens_is_refused_by_name(folder, tmp_path):
    raw = tiny_rubric().to_dict()
    raw["labels"] = [*raw["labels"][:-1], "10"]
    (tmp_path / "rubric.yaml").write_text(yaml.safe_dump(raw))
    (folder / "zreward.json").unlink()
    with pytest.raises(InputError, match=r"label '10' is 2 tokens"):
        RewardModel.from_pretrained(folder, rubric=Rubric.from_yaml(tmp_path / "rubric.yaml"), forms=FORMS)


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "nowhere"])
def test_a_missing_folder_is_named(path):
    with pytest.raises(InputError, match="no such checkpoint folder"):
        RewardModel.from_pretrained(path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="not a checkpoint folder"):
        RewardModel.from_pretrained(tmp_path)


def test_an_unsupported_model_type_is_named(tmp_path, model):
    """Idefics3 splits an image into tiles: neither Qwen-type patches nor one square."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"model_type": "llama", "vocab_size": 600, "num_key_value_heads": 2, "pad_token_id": 0}
    config = Idefics3Config(text_config=text, vision_config=sizes | {"image_size": 32, "patch_size": 8})
    Idefics3ForConditionalGeneration(config).save_pretrained(tmp_path / "idefics3")
    model.tokenizer.save_pretrained(tmp_path / "idefics3")
    with pytest.raises(InputError, match="'idefics3' takes images in a way that is not supported; supported are"):
        RewardModel.from_pretrained(tmp_path / "idefics3")


def test_quantised_loading_needs_a_gpu_and_says_so(folder):
    with pytest.raises(InputError, match="needs a CUDA device"):
        RewardModel.from_pretrained(folder, quantization="4bit", device="cpu")
    with pytest.raises(InputError, match="'4bit' or '8bit'"):
        RewardModel.from_pretrained(folder, quantization="3bit", device="cpu")


def test_an_unknown_dtype_is_refused(folder):
    with pytest.raises(InputError, match="dtype 'half' is unknown"):
        RewardModel.from_pretrained(folder, dtype="half")


def test_a_save_that_fails_keeps_the_old_checkpoint(model, folder, pictures, monkeypatch):
    before = model.score(pictures[:1], PROMPT).probs
    monkeypatch.setattr(model.tokenizer, "save_pretrained", lambda path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match="cannot write: disk full"):
        model.save_pretrained(folder)
    monkeypatch.undo()
    assert torch.equal(RewardModel.from_pretrained(folder).score(pictures[:1], PROMPT).probs, before)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_never_replaces_a_folder_of_something_else(model, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("three years")
    with pytest.raises(InputError, match="holds no checkpoint"):
        model.save_pretrained(tmp_path / "precious")
    with pytest.raises(InputError, match="is a file"):
        model.save_pretrained(tmp_path / "precious" / "thesis.txt")
    with pytest.raises(InputError, match="cannot write: File name too long"):
        model.save_pretrained(tmp_path / ("x" * 300))
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "three years"


def test_bfloat16_is_recorded_and_close(folder, model, pictures, tmp_path):
    half = RewardModel.from_pretrained(folder, dtype="bfloat16")
    half.save_pretrained(tmp_path / "half")
    again = RewardModel.from_pretrained(tmp_path / "half")
    assert next(again.parameters()).dtype is torch.bfloat16
    difference = again.score(pictures[:4], PROMPT).mean - model.score(pictures[:4], PROMPT).mean
    assert difference.abs().max() < 0.3


def test_a_float64_model_is_loaded_as_it_was_saved(tmp_path):
    tiny_model(seed=5).double().save_pretrained(tmp_path / "model")
    assert next(RewardModel.from_pretrained(tmp_path / "model").parameters()).dtype is torch.float64
