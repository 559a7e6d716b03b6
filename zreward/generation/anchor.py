"""The pull to the frozen generator: how far its predictions are from the trained one's, at the places visited.

    drift = sum |eps(x_t) - eps_0(x_t)|^2 / sum |eps_0(x_t)|^2        over the gradient steps of a batch

For a diffusion policy with fixed variances the KL divergence of a step is proportional to this squared difference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def drift(calls: list[tuple[tuple, dict[str, Any], Any]], frozen: nn.Module) -> Tensor:
    """Relative squared difference of predictions (), differentiable to the trained denoiser."""
    difference, size = torch.zeros(()), torch.zeros(())
    for args, kwargs, output in calls:
        with torch.no_grad():
            expected = _prediction(frozen(*args, **kwargs))
        found = _prediction(output)
        difference = difference.to(found.device) + (found - expected).float().square().sum()
        size = size.to(found.device) + expected.float().square().sum()
    return difference / size.clamp(min=1e-12)


def _prediction(output: Any) -> Tensor:
    """The tensor in a denoiser's answer: bare, in a tuple, under `sample`, or a list of one per picture."""
    if hasattr(output, "sample"):
        output = output.sample
    if isinstance(output, tuple):
        output = output[0]
    return torch.stack(list(output)) if isinstance(output, list) else output
