"""Which pictures are unlike the data that a reward model learned from.

    d(x)^2 = (f(x) - m)' ((1 - a) C + a tr(C)/H I)^-1 (f(x) - m) / H        a = 0.1

f(x) is the vision tower's answer (mean and standard deviation over tokens), m and C its mean and covariance over every second
of the records' pictures. A picture is unlike the data when its d is above a quantile of the other records' d: of new pictures
of the same origin 1 - quantile are. Source: Lee et al. 2018 (Mahalanobis distance of features); shrinkage and shares are
ours.

Shapes: N pictures, H numbers of a picture's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zreward.common.errors import InputError

SHRINKAGE = 0.1
LEAST = 32
"""Pictures: fewer give no quantile."""


@dataclass(frozen=True)
class Familiar:
    """Where the features of known pictures lie, and from which distance on a picture is unlike them."""

    centre: Tensor  # (H,) float64
    precision: Tensor  # (H, H) float64
    limit: float

    @classmethod
    def fit(cls, features: Tensor, quantile: float) -> Familiar:
        """From features of known pictures (N, H): every second one gives the distance, the others the limit.

        Raises:
            InputError: fewer than `LEAST` pictures.
        """
        if len(features) < LEAST:
            raise InputError(f"monitor.data: {len(features)} pictures, expected at least {LEAST}")
        fitted, left = features.double()[::2], features.double()[1::2]
        centre = fitted.mean(0)
        covariance = (fitted - centre).T @ (fitted - centre) / len(fitted)
        size = covariance.diagonal().mean()
        eye = torch.eye(len(centre), dtype=torch.float64)
        precision = torch.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * size * eye)
        found = cls(centre, precision, 0.0)
        return cls(centre, precision, torch.quantile(found.distance(left), quantile).item())

    def distance(self, features: Tensor) -> Tensor:
        """(N, H) -> (N,)"""
        apart = features.double() - self.centre
        return ((apart @ self.precision) * apart).mean(-1).clamp_min(0).sqrt()

    def unlike(self, features: Tensor) -> Tensor:
        """Whether pictures with features (N, H) are unlike the known ones, (N,) of 0 and 1."""
        return (self.distance(features) > self.limit).double()
