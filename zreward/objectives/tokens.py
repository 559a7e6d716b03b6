"""Sequences of unequal lengths: numbers (..., T) beside a mask (..., T) that is true where a token counts."""

from __future__ import annotations

from torch import Tensor


def only_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Zero outside the mask, (..., T) -> (..., T).

    Log-probabilities may be -inf or padding noise there: replaced before use, or their gradient is NaN.
    """
    return values.masked_fill(~mask, 0.0)


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """(..., T) -> (...): the mean of each sequence's own tokens, so that a long sequence weighs as much as a short one.

    Values outside the mask are finite; a sequence without any token has a mean of zero.
    """
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
