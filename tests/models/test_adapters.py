"""Adapters: their base is found after moves, told from another one of its name, and damage is named."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.tiny import sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.models.checkpoint import load_weights
from zreward.models.reward_model import RewardModel

PICTURE = Image.new("RGB", (32, 32), "red")


def add_lora(model: RewardModel) -> RewardModel:
    model.backbone.model = get_peft_model(model.backbone.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a base in runs/base/model and its adapter in runs/lora/model, made from inside the project."""
    folder = tmp_path_factory.mktemp("work") / "project"
    sharpen(tiny_model(seed=2)).save_pretrained(folder / "runs" / "base" / "model")
    here = os.getcwd()
    os.chdir(folder)
    add_lora(RewardModel.from_pretrained("runs/base/model")).save_pretrained("runs/lora/model")
    os.chdir(here)
    return folder


@pytest.fixture
def moved(project, tmp_path):
    return shutil.copytree(project, tmp_path / "elsewhere")


def mean(path) -> float:
    return RewardModel.from_pretrained(path).score([PICTURE], "a red circle").mean[0, 0].item()


def forget(project) -> None:
    """As it was saved before bases were recorded, by somebody who trained inside the project."""
    adapter = project / "runs" / "lora" / "model"
    meta = json.loads((adapter / "zreward.json").read_text())
    del meta["base"]
    (adapter / "zreward.json").write_text(json.dumps(meta))
    note(adapter, "runs/base/model")


def note(adapter, base) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))


def test_a_moved_project_finds_its_base_from_anywhere(project, moved, tmp_path, monkeypatch):
    expected = mean(project / "runs/lora/model")
    for place in (tmp_path, moved, moved / "runs"):
        monkeypatch.chdir(place)
        assert mean(moved / "runs/lora/model") == expected
        assert mean(os.path.relpath(moved / "runs/lora/model")) == expected
    shutil.move(moved / "runs/lora/model", tmp_path / "alone")  # without its base: that of the first project is found
    assert mean(tmp_path / "alone") == expected


def test_a_moved_project_needs_nothing_of_where_it_was(project, moved, tmp_path):
    adapter = moved / "runs/lora/model"
    meta = json.loads((adapter / "zreward.json").read_text())
    assert meta["base"]["path"] == "../../base/model"
    meta["base"] |= {"absolute": str(tmp_path / "gone"), "name": "gone/too"}
    (adapter / "zreward.json").write_text(json.dumps(meta))
    note(adapter, str(tmp_path / "gone"))
    assert mean(adapter) == mean(project / "runs/lora/model")


def test_another_base_of_the_same_name_is_refused(moved, tmp_path, monkeypatch):
    adapter, base = moved / "runs/lora/model", moved / "runs/base/model"
    meta = json.loads((adapter / "zreward.json").read_text())
    meta["base"]["absolute"] = str(tmp_path / "gone")
    (adapter / "zreward.json").write_text(json.dumps(meta))
    note(adapter, str(tmp_path / "gone"))
    monkeypatch.chdir(moved)
    shutil.rmtree(base)
    tiny_model(seed=7).save_pretrained(base)
    with pytest.raises(InputError, match=r"was trained on runs/base/model \(\w{16}\).* other weights: .*\(\w{16}\)"):
        mean("runs/lora/model")
    shutil.rmtree(base)
    with pytest.raises(InputError, match="its base runs/base/model .* is missing; put it there again"):
        mean("runs/lora/model")


def test_an_adapter_that_was_saved_before_is_loaded_without_a_check(project, moved, tmp_path, monkeypatch):
    forget(moved)
    expected = mean(project / "runs/lora/model")
    other = tmp_path / "other"
    tiny_model(seed=7).save_pretrained(other / "runs/base/model")  # of the same name, below the current folder
    monkeypatch.chdir(other)
    assert mean(moved / "runs/lora/model") == expected


def test_resuming_on_another_base_is_refused(moved, tmp_path):
    tiny_model(seed=7).save_pretrained(tmp_path / "other")
    model = add_lora(RewardModel.from_pretrained(tmp_path / "other"))
    with pytest.raises(InputError, match="was trained on runs/base/model .* has other weights now"):
        load_weights(model, moved / "runs/lora/model")
    load_weights(add_lora(RewardModel.from_pretrained(moved / "runs/base/model")), moved / "runs/lora/model")


def test_an_adapter_of_a_hub_repository(project, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, allow_patterns, ignore_patterns=None):
        asked.append((name, tuple(allow_patterns)))
        return str({"me/judge": project / "runs/base/model", "me/adapter": tmp_path / "adapter"}[name])

    shutil.copytree(project / "runs/lora/model", tmp_path / "adapter")
    note(tmp_path / "adapter", "me/judge")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert mean("me/adapter") == mean(project / "runs/lora/model")
    assert [name for name, _ in asked] == ["me/adapter", "me/judge"]
    assert not any("py" in pattern or "bin" in pattern for _, patterns in asked for pattern in patterns)


def edit(**changes):
    def change(adapter):
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps(config | changes))

    return change


def as_pickle(adapter):
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()


def without_one(adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, adapter / "adapter_model.safetensors")


CASES = {
    "not JSON": (lambda adapter: (adapter / "adapter_config.json").write_text("{"), "cut off"),
    "another type": (edit(peft_type="EVIL"), "peft_type is 'EVIL'; expected LORA"),
    "a rank without end": (edit(r=10**9), "r is 1000000000, expected a rank"),
    "NaN": (edit(lora_alpha=float("nan")), "lora_alpha is nan"),
    "a module to import": (edit(megatron_config={}, megatron_core="os"), "names a module to import"),
    "an endless expression": (edit(target_modules="(.*)*(.*)*x"), "too complicated"),
    "a broken expression": (edit(target_modules="("), "is no regular expression"),
    "code": (edit(auto_map={"AutoModel": "evil.M"}), "names code of its own"),
    "a pickle": (as_pickle, "adapter_model.bin: .* safetensors only"),
    "no weights": (lambda adapter: (adapter / "adapter_model.safetensors").unlink(), "the adapter is incomplete"),
    "cut weights": (lambda adapter: os.truncate(adapter / "adapter_model.safetensors", 3_000), "cut off"),
    "a pointer": (
        lambda adapter: (adapter / "adapter_model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\n"
        ),
        "Git LFS pointer",
    ),
    "one weight less": (without_one, "1 weights are missing or have no place"),
    "other modules": (edit(target_modules=["k_proj"]), "weights are missing or have no place"),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_a_damaged_adapter_is_told_in_one_message(moved, change, message):
    change(moved / "runs/lora/model")
    with pytest.raises(InputError, match=message):
        mean(moved / "runs/lora/model")


@pytest.mark.parametrize("base", [None, "", 7])
def test_an_adapter_that_names_no_base(moved, base):
    forget(moved)
    note(moved / "runs/lora/model", base)
    with pytest.raises(InputError, match="base_model_name_or_path is .*expected the folder or hub name"):
        mean(moved / "runs/lora/model")
