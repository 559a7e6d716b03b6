"""TF32 is off wherever a model is loaded on a card, whichever of PyTorch's two settings was used before."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest
import torch

from tests.tiny import tiny_model
from zreward.models import network
from zreward.models.precision import set_tf32, tf32_allowed

BOTH, NEITHER = {"matmul": True, "convolution": True}, {"matmul": False, "convolution": False}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """As PyTorch starts: products exact, convolutions not."""
    monkeypatch.setenv("TRITON_F32_DEFAULT", "")
    yield
    set_tf32(False)
    torch.backends.cudnn.allow_tf32 = True


def test_both_are_switched():
    for allowed, expected, triton in ((True, BOTH, "tf32"), (False, NEITHER, "ieee"), (True, BOTH, "tf32")):
        set_tf32(allowed)
        assert tf32_allowed() == expected and os.environ["TRITON_F32_DEFAULT"] == triton
        assert torch.backends.cuda.matmul.allow_tf32 is allowed and torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="PyTorch 2.9's setting")
@pytest.mark.parametrize("allowed", [True, False])
def test_what_transformers_set_before_does_not_stay(allowed):
    """With the older setting alone, convolutions would keep what the newer one said."""
    torch.backends.fp32_precision = "ieee" if allowed else "tf32"
    set_tf32(allowed)
    assert tf32_allowed() == (BOTH if allowed else NEITHER)


def test_loading_switches_it_off_on_a_card_alone(tmp_path, monkeypatch):
    """The device of another kind has no numbers here: loading stops right after the switch."""
    tiny_model().save_pretrained(tmp_path / "model")
    switched: list[bool] = []
    monkeypatch.setattr(network, "set_tf32", switched.append)
    network.load_network(tmp_path / "model", torch.device("cpu"), torch.float32, None)
    assert switched == []
    with pytest.raises((AssertionError, RuntimeError)) if not torch.cuda.is_available() else nullcontext():
        network.load_network(tmp_path / "model", torch.device("cuda"), torch.float32, None)
    assert switched == [False]
