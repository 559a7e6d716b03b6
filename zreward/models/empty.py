"""Models whose weights another process has: an engine that shards them hands them over, layer by layer.

Their memory is asked for and not written to, so that it takes no room in the machine until the engine puts something there. The
first and the last number of every weight are NaN: where no engine brings the weights, the first loss says so.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def empty_network(config: Any, dtype: torch.dtype, **options: Any) -> Any:
    """The image-text-to-text model of a configuration, on the CPU, its buffers computed and its weights not there."""
    from transformers import AutoModelForImageTextToText
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False, **options)
    model.tie_weights()
    for weight in model.parameters():
        mark(weight.data)
    return model


def mark(values: Tensor) -> Tensor:
    """The same tensor, NaN at both ends; the rest of its memory is not touched."""
    if values.numel():
        flat = values.view(-1)
        flat[0] = flat[-1] = float("nan")
    return values


def emptied(weight: nn.Parameter, dtype: torch.dtype) -> Tensor:
    """Another format for a weight that is not there."""
    return mark(torch.empty_like(weight.data, dtype=dtype))
