"""Which pictures are unlike the data that a reward model learned from.

    d(x) = distance of z(x) = h(x) / |h(x)| from the 5th nearest z of the known pictures

h(x) is what the model's label head reads (the hidden state at the score position, all dimensions in a row), so a picture is
judged with its prompt. A picture is unlike the data when its d is above a quantile of the d of known pictures
that were left out of the neighbours: of new pictures of the same origin 1 - quantile are.
Source: Sun et al. 2022 (deep nearest neighbours).

Shapes: N pictures, H numbers of a picture's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.common.errors import InputError

NEIGHBOUR = 5
LEAST = 64
"""Pictures: fewer give no quantile."""


@dataclass(frozen=True)
class Familiar:
    """Known pictures, and from which distance on a picture is unlike them. Memory: the features of half of them."""

    known: Tensor  # (N, H) float32, each of length one
    limit: float

    @classmethod
    def fit(cls, features: Tensor, quantile: float) -> Familiar:
        """From features of known pictures (N, H): every second one is a neighbour, the others give the limit.

        Raises:
            InputError: fewer than `LEAST` pictures, features that are not finite.
        """
        if len(features) < LEAST:
            raise InputError(
                f"monitor.data: {len(features)} pictures, expected at least {LEAST}; name a larger file of records"
            )
        _check_finite(features)
        found = cls(F.normalize(features[::2].float(), dim=-1), 0.0)
        return cls(found.known, torch.quantile(found.distance(features[1::2]), quantile).item())

    def distance(self, features: Tensor) -> Tensor:
        """(N, H) -> (N,) float64. InputError where a feature is not finite."""
        _check_finite(features)
        near = F.normalize(features.float(), dim=-1) @ self.known.T
        return (2 - 2 * near.double()).clamp_min(0).kthvalue(NEIGHBOUR, dim=-1).values.sqrt()

    def unlike(self, features: Tensor) -> Tensor:
        """Whether pictures with features (N, H) are unlike the known ones, (N,) of 0 and 1."""
        return (self.distance(features) > self.limit).double()


def _check_finite(features: Tensor) -> None:
    """InputError otherwise: NaN is above no limit, so such a picture would count as known."""
    bad = (~torch.isfinite(features).all(-1)).nonzero()
    if len(bad):
        raise InputError(
            f"monitor: the student's hidden states of picture {int(bad[0])} are not finite ({len(bad)} such of {len(features)}); "
            "its weights are broken, or overflow in their number format: set reward.dtype to float32"
        )
