"""`zreward doctor`: a table of the machine and its kernels; a fault is named, and told by the exit code."""

from __future__ import annotations

import json

import pytest
import torch

from tests.kernels.planted import plant
from tests.tiny import tiny_model
from zreward.models import doctor


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("zreward.models.kernels.peak._SECONDS", 0.01)
    return tmp_path / "cache" / "zreward" / "kernels"


@pytest.fixture
def model(tmp_path, capsys):
    tiny_model().save_pretrained(tmp_path / "model")
    capsys.readouterr()  # the bar of the saved files
    return tmp_path / "model"


def test_the_families_on_this_machine(zreward, cache, tmp_path):
    code, out, err = zreward("doctor", "--device", "cpu", "--json", tmp_path / "machine.json")
    assert (code, err) == (0, "")
    for text in ("Qwen3_5GatedDeltaNet", "Qwen3VLTextAttention", "LlamaAttention", "matrix peak, float32", "sdpa"):
        assert text in out
    assert torch.__version__ in out and "missing for a GPU: a CUDA device" in out
    found = json.loads((tmp_path / "machine.json").read_text())
    assert found["environment"]["torch"] == torch.__version__ and not found["wrong"]
    assert {row["verdict"] for row in found["findings"]} == {"right"}
    assert {row["format"] for row in found["findings"]} == {"float32", "bfloat16"}
    assert len({row["sizes"] for row in found["findings"] if row["kernel"] == "chunk_gated_delta_rule"}) == 2
    assert all(value > 0 for value in found["peak"].values()) and len(list(cache.glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        ("gradient", 1, ("wrong (differs by 2.0e-01", "gradient of query")),
        ("nan", 1, ("NaN (output",)),
        ("raises", 0, ("refuses (RuntimeError", "this card produces incorrect")),
        ("right", 0, ("right (",)),
    ],
)
def test_a_fault_stands_in_the_table(zreward, model, monkeypatch, fault, code, told):
    plant(monkeypatch, fault)
    found, out, err = zreward("doctor", model, "--device", "cpu")
    assert (found, err) == (code, "")
    (line,) = [line for line in out.splitlines() if " chunk_gated_delta_rule " in line]
    assert "fla.ops" in line
    words = " ".join(out.split())
    assert all(part in words for part in told), out
    advice = "chunk_gated_delta_rule: install Triton 3.7.1 or newer and flash-linear-attention 0.6"
    assert (advice in words) == (fault != "right")
    assert " LlamaAttention " not in out  # the model's layers alone


def test_a_fault_is_looked_for_anew(zreward, model, monkeypatch):
    """Training may trust an earlier verdict; whoever asks the doctor wants to know."""
    plant(monkeypatch, "right")
    assert zreward("doctor", model, "--device", "cpu")[0] == 0
    plant(monkeypatch, "gradient")
    assert zreward("doctor", model, "--device", "cpu")[0] == 1


def test_json_alone_prints_json(zreward, model):
    code, out, err = zreward("doctor", model, "--device", "cpu", "--json")
    assert (code, err) == (0, "") and json.loads(out)["device"] == "cpu"


def test_weights_are_not_read(zreward, model):
    (model / "model.safetensors").unlink()
    assert zreward("doctor", model, "--device", "cpu")[0] == 0


def test_an_adapter_is_checked_by_its_base(zreward, model, tmp_path):
    from peft import LoraConfig, get_peft_model

    from zreward.models.reward_model import RewardModel

    loaded = RewardModel.from_pretrained(model, device="cpu")
    loaded.backbone.model = get_peft_model(loaded.backbone.model, LoraConfig(r=2, target_modules="all-linear"))
    loaded.save_pretrained(tmp_path / "adapter")
    code, out, _ = zreward("doctor", tmp_path / "adapter", "--device", "cpu")
    assert code == 0 and "heads of 16 and 16" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere/at-all",), "no such checkpoint folder"),
        (("--device", "tpu"), "device 'tpu'"),
        (("--json", "machine.txt"), ".json"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(zreward, monkeypatch, arguments, told):
    monkeypatch.setattr(doctor, "matrix_peak", None)
    code, _, err = zreward("doctor", *arguments)
    assert code == 2 and told in err and "Traceback" not in err


def test_help_states_the_exit_codes(zreward):
    out = " ".join(zreward("doctor", "--help")[1].split())
    assert "Exit code: 0 if every kernel is right" in out and "1 if a kernel gives wrong numbers or NaN" in out


def test_what_is_missing_on_a_machine_with_a_card():
    facts = {"torch": "2.12.0+cu130", "cuda": "13.0", "triton": "3.7.0", "flash-linear-attention": "0.6.0"}
    (line,) = doctor._missing(facts, torch.device("cuda"))
    assert line.startswith("Triton 3.7.1 or newer (this is 3.7.0)")
    assert doctor._missing(facts | {"triton": "3.7.1"}, torch.device("cuda")) == []
    assert doctor._missing(facts | {"triton": "3.10.0+git"}, torch.device("cuda")) == []
