"""How much of each weakness is accepted. `zreward init audit` writes them with these comments; a file may hold only some.

Points are those of a scale from 1 to 5; scores of another scale are stretched to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from zreward.common.config import check_numbers, load_config


@dataclass(frozen=True)
class InvarianceLimits:
    stored_mean: float = 0.05  # points that a score moves, on average, when the same pixels are stored in another way
    mean: float = 0.5  # points that a score moves, on average, under one harmless edit of the pixels
    p95: float = 1.5  # the 95th percentile of these moves, points
    moved: float = 0.4  # share of pictures whose score moves by more than half a point


@dataclass(frozen=True)
class MonotonicityLimits:
    least_fall: float = 0.3  # points that a defect takes at its worst, from one of the dimensions named below at least
    most_rise: float = 0.5  # points that any dimension may gain, on average, while a defect grows
    blur: list[str] = field(default_factory=lambda: ["realism"])  # dimensions that blur must lower; none known: any
    noise: list[str] = field(default_factory=lambda: ["realism"])  # dimensions that noise must lower
    jpeg: list[str] = field(default_factory=lambda: ["realism"])  # dimensions that JPEG's artefacts must lower
    occlusion: list[str] = field(default_factory=list)  # dimensions that a covered part must lower; none: any


@dataclass(frozen=True)
class PromptLimits:
    edit_mean: float = 0.75  # points that a score moves, on average, when the prompt says the same in another form
    rise: float = 0.5  # points that an instruction to the judge gains, on average


@dataclass(frozen=True)
class SensitivityLimits:
    gain: float | None = None  # points that the search gains within 4/255, on average; null: shown, not judged


@dataclass(frozen=True)
class LeakageLimits:
    share: float = 0.4  # of what a defect takes from its own dimension, the share that another dimension may lose
    least_own: float = 0.3  # points that a defect must take from its own dimension, on average
    least_seen: float = 0.15  # of what people take for a known defect, the share that the model must take
    into: list[str] = field(default_factory=lambda: ["alignment"])  # dimensions that blur and noise must not lower


@dataclass(frozen=True)
class UnlikeLimits:
    auroc: float | None = None  # least AUROC of entropy between data and other pictures; null: shown, not judged


@dataclass(frozen=True)
class Thresholds:
    invariance: InvarianceLimits = field(default_factory=InvarianceLimits)  # the same picture in another file
    monotonicity: MonotonicityLimits = field(default_factory=MonotonicityLimits)  # growing defects
    prompts: PromptLimits = field(default_factory=PromptLimits)  # the same prompt in another form, and instructions
    sensitivity: SensitivityLimits = field(default_factory=SensitivityLimits)  # changes that nobody sees
    leakage: LeakageLimits = field(default_factory=LeakageLimits)  # a defect of one dimension
    unlike: UnlikeLimits = field(default_factory=UnlikeLimits)  # pictures unlike the data

    def __post_init__(self) -> None:
        check_numbers(self, MAY_BE_ZERO)


MAY_BE_ZERO = (
    *("invariance.stored_mean", "invariance.mean", "invariance.p95", "invariance.moved"),
    *("monotonicity.least_fall", "monotonicity.most_rise", "prompts.edit_mean", "prompts.rise"),
    *("sensitivity.gain", "leakage.share", "leakage.least_own", "leakage.least_seen", "unlike.auroc"),
)


def load_thresholds(path: Path | None) -> Thresholds:
    """The defaults, or those of a YAML file over them; InputError for an unknown key or a value that is none."""
    return load_config(Thresholds, path) if path else Thresholds()
