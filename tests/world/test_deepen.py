"""A deepened network is the old function with more room: same answers, gradients in the new layers."""

from __future__ import annotations

import torch

from zreward.world.base_models import as_judge, make_base
from zreward.world.deepen import deepen


def test_new_layers_change_nothing_until_they_learn():
    shallow = make_base("small", layers=4)
    network = deepen(shallow.backbone.model, 6)
    deep = as_judge(network, shallow.tokenizer)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = ["a small red circle", "a large blue cross above a small red square"]
    with torch.no_grad():
        torch.testing.assert_close(deep(pixels, prompts).probs, shallow(pixels, prompts).probs)
    deep(pixels, prompts).mean.sum().backward()
    layers = network.model.language_model.layers
    assert len(layers) == network.config.text_config.num_hidden_layers == 6
    assert all(layers[n].mlp.down_proj.weight.grad.abs().sum() > 0 for n in (3, 4))
    assert shallow.backbone.model.config.text_config.num_hidden_layers == 4
