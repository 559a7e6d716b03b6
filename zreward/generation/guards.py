"""What stops a run: each evaluation on held-out prompts is compared with the frozen generator's, and with the best so far.

An evaluation that no guard objects to and that has the best held-out reward is the last good state; its weights are kept.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from zreward.generation.monitor import objection as monitor_objection
from zreward.generation.recipe import GuardsRecipe, MonitorRecipe


@dataclass(frozen=True)
class Evaluation:
    """Measurements on held-out prompts at one step; scores on the rubric's scale."""

    step: int
    reward: float  # the aggregate that is trained on
    student: dict[str, float]  # dimension -> mean expected score
    holdout: dict[str, float]  # the same by the judge that is not trained on; empty without one
    entropy: float  # nats, mean over pictures and dimensions of the student's distributions
    saturation: float  # share of expected scores in the top half point of the scale
    diversity: float  # root mean square distance of the pictures of a prompt, in [0, 1] units
    drift: float  # of the predictions, see `anchor`; 0 at the start
    final: dict[str, float] = field(default_factory=dict)  # the final judge's means, for the report only
    monitor: dict[str, float] = field(default_factory=dict)  # see `generation.monitor`; empty without one

    @property
    def judged(self) -> float:
        """What decides which evaluation is best: the held-out judge's mean; without one, the reward."""
        return sum(self.holdout.values()) / len(self.holdout) if self.holdout else self.reward

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Evaluation:
        """Version 0.1 wrote the final judge's means under the judge's own name."""
        known = {item.name for item in fields(cls)}
        final = next((value for name, value in stored.items() if name not in known), None)
        own = {name: value for name, value in stored.items() if name in known}
        return cls(**own if final is None else own | {"final": final})


@dataclass
class Guards:
    """Takes evaluations in order of their steps. `best` is the last good one."""

    recipe: GuardsRecipe
    monitor: MonitorRecipe = field(default_factory=MonitorRecipe)
    first: Evaluation | None = None
    best: Evaluation | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    tripped: tuple[str, str] | None = None  # which guard, and the message

    def see(self, evaluation: Evaluation) -> bool:
        """Whether this evaluation is the best so far. Sets `tripped` when a guard objects."""
        self.evaluations.append(evaluation)
        self.first = self.first or evaluation
        objection = self._objection(evaluation)
        if self.monitor.enabled:
            if not self.recipe.enabled:
                objection = None
            objection = objection or monitor_objection(self.monitor, [seen.monitor for seen in self.evaluations])
        if objection and (self.recipe.enabled or self.monitor.enabled):
            self.tripped = objection
        if not objection and (self.best is None or evaluation.judged > self.best.judged):
            self.best = evaluation
            return True
        return False

    def _objection(self, evaluation: Evaluation) -> tuple[str, str] | None:
        assert self.first is not None, "set by see"
        recipe, first = self.recipe, self.first
        limits = [
            (
                "diversity",
                evaluation.diversity / max(first.diversity, 1e-9),
                recipe.min_diversity,
                "of the frozen generator's",
            ),
            (
                "entropy",
                evaluation.entropy / max(first.entropy, 1e-9),
                recipe.min_entropy,
                "of that on the frozen generator's",
            ),
            ("drift", -evaluation.drift, -recipe.max_drift, "of the predictions' own size"),
            ("saturation", -evaluation.saturation, -recipe.max_saturation, "of the scores at the top of the scale"),
        ]
        for name, value, least, what in limits:
            if value < least:
                bound = "less than" if least > 0 else "more than"
                return name, f"{name} is {abs(value):.2f} {what}, {bound} {abs(least):g}"
        fallen = _fallen(first.holdout or first.student, evaluation.holdout or evaluation.student)
        if fallen[1] > recipe.max_dimension_fall:
            return (
                "dimension",
                f"{fallen[0]} fell {fallen[1]:.2f} below the frozen generator's, more than {recipe.max_dimension_fall:g}",
            )
        if self.best is None:
            return None
        source = "held-out reward" if evaluation.holdout else "reward on held-out prompts"
        if evaluation.judged < self.best.judged - recipe.max_fall:
            fall = self.best.judged - evaluation.judged
            return (
                "holdout",
                f"the {source} fell {fall:.2f} below its best ({self.best.judged:.2f} at step {self.best.step})",
            )
        since = [seen for seen in self.evaluations if seen.step > self.best.step]
        if len(since) >= recipe.patience and evaluation.judged <= self.best.judged:
            return (
                "patience",
                f"no better {source} in {len(since)} evaluations (best {self.best.judged:.2f} at step {self.best.step})",
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"looks": [evaluation.to_dict() for evaluation in self.evaluations], "tripped": self.tripped}

    @classmethod
    def from_dict(cls, recipe: GuardsRecipe, stored: dict[str, Any], monitor: MonitorRecipe | None = None) -> Guards:
        """What `to_dict` returned, seen again.

        Args:
            recipe: its limits.
            stored: the evaluations.
            monitor: its limits; default: no monitor.
        """
        guards = cls(recipe, monitor or MonitorRecipe())  # the key in the file is that of version 0.1
        for row in stored["looks"]:
            guards.see(Evaluation.from_dict(row))
        return guards


def _fallen(before: dict[str, float], after: dict[str, float]) -> tuple[str, float]:
    """The dimension that lost most, and how much: a gain in the others must not pay for it."""
    name = max(before, key=lambda dimension: before[dimension] - after[dimension])
    return name, before[name] - after[name]
