"""Log-probabilities of traces in chunks: the values of a plain loop in float64, and nothing of the vocabulary's width is kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model
from zreward.models import backbone
from zreward.models.backbone import head_rows
from zreward.models.reward_model import RewardModel

TEMPERATURE = 1.7


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return tiny_model().eval()


def states_and_tokens(model: RewardModel, count: int = 11) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = model.backbone.base.config.get_text_config().hidden_size
    allowed = sorted(set(range(vocabulary(model))) - set(model.backbone.trace_ban.tolist()))
    return torch.randn(count, hidden, requires_grad=True), torch.tensor([allowed[7 * n] for n in range(count)])


def vocabulary(model: RewardModel) -> int:
    return model.backbone.base.config.get_text_config().vocab_size


def by_hand(model: RewardModel, state: list[float], token: int) -> float:
    """The logarithm of one token's probability among those that may be sampled."""
    weight = model.backbone.base.get_output_embeddings().weight.double().tolist()
    logits = [sum(w * h for w, h in zip(row, state, strict=True)) / TEMPERATURE for row in weight]
    banned = set(model.backbone.trace_ban.tolist())
    return logits[token] - math.log(math.fsum(math.exp(x) for n, x in enumerate(logits) if n not in banned))


@pytest.mark.parametrize("rows", [1, 4, 11, 100])
def test_values_and_gradients_do_not_depend_on_the_chunks(model, monkeypatch, rows):
    states, tokens = states_and_tokens(model)
    monkeypatch.setattr(backbone, "HEAD_BYTES", rows * vocabulary(model) * 4)
    found = model.backbone._token_log_probs(states, tokens, TEMPERATURE)
    expected = [by_hand(model, state, token) for state, token in zip(states.tolist(), tokens.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    weights = torch.arange(1.0, len(tokens) + 1)
    (gradient,) = torch.autograd.grad((found * weights).sum(), states)
    exact = states.detach().double().requires_grad_()
    logits = exact @ model.backbone.base.get_output_embeddings().weight.detach().double().T / TEMPERATURE
    logits[:, model.backbone.trace_ban] = -math.inf
    plain = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
    (wanted,) = torch.autograd.grad((plain * weights).sum(), exact)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_chunk_has_a_stated_size(model, monkeypatch):
    """Of 248,320 words 540 tokens, 512 MiB; never less than one token."""
    assert head_rows(248_320) == 540 and head_rows(248_320) * 248_320 * 4 <= 512 * 2**20 < 541 * 248_320 * 4
    monkeypatch.setattr(backbone, "HEAD_BYTES", 1)
    assert head_rows(404) == 1
    seen, head = [], model.backbone.base.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    monkeypatch.setattr(backbone, "HEAD_BYTES", 4 * vocabulary(model) * 4)
    model.backbone._token_log_probs(*states_and_tokens(model), TEMPERATURE)
    handle.remove()
    assert seen == [4, 4, 3]


def kept_by(call) -> int:
    """Bytes that autograd keeps for the backward pass of `call`, each storage once."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = call()
    assert output.requires_grad
    return sum(kept.values())


def test_nothing_of_the_vocabularys_width_is_kept(model):
    """Also where all tokens fit into one chunk."""
    states, tokens = states_and_tokens(model)
    inputs = states.numel() * 4 + tokens.numel() * 8
    assert kept_by(lambda: model.backbone._token_log_probs(states, tokens, TEMPERATURE)) <= inputs
