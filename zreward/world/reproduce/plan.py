"""What there is to run: data, trainings, labellings and test-set predictions, each with what it waits for.

A method is a shipped recipe on one of the two base models. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError
from zreward.world.dataset import WorldSize

T2, T3, F1, F4 = DEFAULT_PARTS = ("table2", "table3", "fig1", "fig4")
PARTS = (*DEFAULT_PARTS, "ablations")
TEACHER, CHAINS = "large-gdso", "chains"


@dataclass(frozen=True)
class StudyMethod:
    """A row of the tables: a recipe on a base model, and how it is asked on the test set."""

    size: str  # large or small
    name: str
    recipe: str | None  # None: the base model as it is
    reasoning: bool  # on the test set
    rate: float | None = None  # learning rate for the comparison, chosen on dev prompts; None: the recipe's
    minutes: float = 0.0  # of training on alignment alone, one core
    targets: str | None = None  # label task whose targets it reads
    parts: tuple[str, ...] = ("table2",)
    steps: int | None = None  # None: the recipe's

    @property
    def key(self) -> str:
        return f"{self.size}-{self.name}"

    @property
    def has_curve(self) -> bool:
        return F1 in self.parts or F4 in self.parts


@dataclass(frozen=True)
class Labelling:
    """Targets that a model writes for a split of the data."""

    split: str
    traces: int = 1  # an item
    reasoning: bool = True
    records: int | None = None  # only the first ones
    minutes: float = 0.0  # on alignment alone, one core


RISD_STEPS = 900  # more than the demo's: the pool is larger
# Learning rates: benchmarks/sweep.py, on a world seed of its own.
METHODS = (
    StudyMethod("large", "zero-shot", None, False, parts=(T2, F1)),
    StudyMethod("large", "zero-shot-reasoning", None, True),
    StudyMethod("large", "sft", "world-sft", False, 1e-4, 0.9, parts=(T2, F1)),
    StudyMethod("large", "rewarddance", "world-rewarddance", False, 1e-4, 1.2, CHAINS, (T2, F1)),
    StudyMethod("large", "grpo", "world-grpo", True, 1e-4, 2.3, parts=(T2, F1, F4)),
    StudyMethod("large", "grpo-parsed", "ablations/grpo-parsed", True, 1e-4, 2.3, parts=(T2, F4)),
    StudyMethod("large", "gdso", "world-gdso", True, 1e-4, 2.7, parts=(T2, T3, F1, F4)),
    StudyMethod("large", "gdso-parsed", "ablations/gdso-parsed", True, 1e-4, 2.7, parts=(T2, F4)),
    StudyMethod("small", "zero-shot", None, False),
    StudyMethod("small", "zero-shot-reasoning", None, True),
    StudyMethod("small", "sft", "world-sft", False, 1e-4, 0.4, parts=(T2, T3)),
    StudyMethod("small", "rewarddance", "world-rewarddance", False, 1e-4, 0.6, CHAINS),
    StudyMethod("small", "grpo", "world-grpo", True, 1e-4, 1.2),
    StudyMethod("small", "gdso", "world-gdso", True, 1e-4, 1.5, parts=(T2, T3)),
    StudyMethod("small", "opd", "world-opd", True, 1e-4, 1.6, parts=(T2, T3)),
    StudyMethod("small", "risd", "world-risd", False, 3e-4, 5.0, "pool", (T2, T3), RISD_STEPS),
)
_ABLATION = ("ablations",)
ABLATIONS = (
    StudyMethod("large", "rewarddance-pairwise", "world-rewarddance-pairwise", False, None, 3.5, parts=_ABLATION),
    StudyMethod(
        "large", "gdso-without-pointwise", "ablations/gdso-without-pointwise", True, 1e-4, 2.7, parts=_ABLATION
    ),
    StudyMethod("large", "gdso-without-gap", "ablations/gdso-without-gap", True, 1e-4, 2.7, parts=_ABLATION),
    StudyMethod("large", "gdso-bradley-terry", "ablations/gdso-bradley-terry", True, 1e-4, 2.7, parts=_ABLATION),
    StudyMethod("large", "gdso-without-policy", "ablations/gdso-without-policy", True, 1e-4, 2.7, parts=_ABLATION),
    StudyMethod(
        "small", "risd-1-trace", "ablations/risd-1-trace", False, 3e-4, 5.0, "quarter-8", _ABLATION, RISD_STEPS
    ),
    StudyMethod(
        "small", "risd-4-traces", "ablations/risd-4-traces", False, 3e-4, 5.0, "quarter-8", _ABLATION, RISD_STEPS
    ),
    StudyMethod(
        "small", "risd-8-traces", "ablations/risd-8-traces", False, 3e-4, 5.0, "quarter-8", _ABLATION, RISD_STEPS
    ),
    StudyMethod("small", "risd-one-hot", "ablations/risd-one-hot", False, 3e-4, 5.0, "pool", _ABLATION, RISD_STEPS),
    StudyMethod(
        "small", "risd-unreasoned", "ablations/risd-unreasoned", False, 3e-4, 5.0, "pool-direct", _ABLATION, RISD_STEPS
    ),
    StudyMethod("small", "risd-pool-1x", "ablations/risd-pool-1x", False, 3e-4, 5.0, "pool", _ABLATION, RISD_STEPS),
    StudyMethod("small", "risd-pool-4x", "ablations/risd-pool-4x", False, 3e-4, 5.0, "pool", _ABLATION, RISD_STEPS),
    StudyMethod("small", "risd-pool-16x", "ablations/risd-pool-16x", False, 3e-4, 5.0, "pool", _ABLATION, RISD_STEPS),
)
LABELS = {
    CHAINS: Labelling("train", traces=4, minutes=0.4),
    "pool": Labelling("pool", minutes=4.0),
    "quarter-8": Labelling("pool", records=5200, traces=8, minutes=8.0),
    "pool-direct": Labelling("pool", reasoning=False, minutes=2.0),
}
"""The base model writes the chains, each seed's teacher the rest."""
PREDICT_MINUTES = {False: 0.3, True: 0.7}


TEST_SIZE = WorldSize(dev=(60, 4), pool=(10400, 2), test=(800, 4))
"""As the demo's, with a larger pool (labels from a teacher cost no people) and enough test pairs to tell one point of HPA."""


BESIDE = {"ablations": ("large-gdso", "small-risd")}
"""Rows of other parts that a part is read against."""


@dataclass(frozen=True)
class StudyPlan:
    """One reproduction: what is asked for, and where it lies."""

    out: Path
    seeds: int = 3
    world_seed: int = 0
    dimensions: tuple[str, ...] = ("alignment",)
    parts: tuple[str, ...] = DEFAULT_PARTS
    overrides: tuple[str, ...] = ()  # key=value for every recipe, such as optimizer.steps=20
    size: WorldSize = TEST_SIZE
    chosen: tuple[str, ...] = ()  # keys such as large-gdso: only these of the parts' methods; empty: all

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise InputError(f"reproduce: unknown part {unknown or self.parts}; expected some of {list(PARTS)}")
        known = [method.key for method in self._of_parts()]
        for key in self.chosen:
            if key not in known:
                raise InputError(
                    f"reproduce: method {key!r} is not in {', '.join(self.parts)}; expected some of {known}"
                )
        if self.seeds < 1:
            raise InputError(f"reproduce: seeds is {self.seeds}, expected 1 or more")

    def fixed(self) -> dict[str, Any]:
        """What may not change between runs in one folder; parts and seeds may be added."""
        return {
            "world_seed": self.world_seed,
            "dimensions": list(self.dimensions),
            "overrides": list(self.overrides),
            "size": {name: list(value) for name, value in asdict(self.size).items()},
        }

    def to_dict(self) -> dict[str, Any]:
        return (
            self.fixed()
            | {"out": str(self.out), "seeds": self.seeds}
            | {name: list(getattr(self, name)) for name in ("parts", "chosen")}
        )

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> StudyPlan:
        size = WorldSize(**{name: tuple(value) for name, value in raw["size"].items()})
        lists = {name: tuple(raw[name]) for name in ("dimensions", "parts", "overrides", "chosen")}
        return cls(Path(raw["out"]), raw["seeds"], raw["world_seed"], size=size, **lists)

    @property
    def methods(self) -> list[StudyMethod]:
        """The rows that the parts asked for need, in the order of the tables."""
        return [method for method in self._of_parts() if not self.chosen or method.key in self.chosen]

    def _of_parts(self) -> list[StudyMethod]:
        beside = {key for part in self.parts for key in BESIDE.get(part, ())}
        return [
            method for method in (*METHODS, *ABLATIONS) if set(method.parts) & set(self.parts) or method.key in beside
        ]


@dataclass(frozen=True)
class StudyTask:
    """One piece of work. `name` is unique; `kind` says which function of `tasks` does it."""

    name: str
    kind: str  # data, train, label or predict
    seed: int = 0
    method: StudyMethod | None = None
    label: str | None = None
    needs: tuple[str, ...] = ()
    minutes: float = 0.0  # estimate on one core


def tasks(study: StudyPlan) -> list[StudyTask]:
    """Everything the study needs, every task after those it waits for."""
    data = StudyTask("data", "data", study.world_seed, minutes=0.5)
    found = {data.name: data}
    share = len(study.dimensions)
    for seed in range(study.seeds):
        for method in study.methods:
            _add(found, method, seed, share)
    return sorted(found.values(), key=lambda task: ("data", "train", "label", "predict").index(task.kind) == 3)


def _add(found: dict[str, StudyTask], method: StudyMethod, seed: int, share: int) -> None:
    """The method's own tasks and those it waits for. Base models predict the same for every seed when asked directly."""
    needs = ["data"]
    if method.recipe is not None:
        if method.targets is not None:
            needs.append(_add_label(found, method.targets, seed, share))
        if method.name == "opd":
            needs.append(_add_training(found, _teacher(), seed, ["data"]))
        needs = [_add_training(found, method, seed, needs)]
    elif seed and not method.reasoning:
        return
    name = f"predict-{method.key}-{seed}"
    found[name] = StudyTask(
        name, "predict", seed, method, needs=tuple(needs), minutes=PREDICT_MINUTES[method.reasoning] * share
    )


def _add_training(found: dict[str, StudyTask], method: StudyMethod, seed: int, needs: Iterable[str]) -> str:
    name = f"train-{method.key}-{seed}"
    found.setdefault(name, StudyTask(name, "train", seed, method, needs=tuple(needs), minutes=method.minutes))
    return name


def _add_label(found: dict[str, StudyTask], label: str, seed: int, share: int) -> str:
    if label == CHAINS:
        seed, needs = 0, ["data"]
    else:
        needs = [_add_training(found, _teacher(), seed, ["data"])]
    name = f"label-{label}-{seed}"
    found.setdefault(
        name, StudyTask(name, "label", seed, label=label, needs=tuple(needs), minutes=LABELS[label].minutes * share)
    )
    return name


def _teacher() -> StudyMethod:
    return next(method for method in METHODS if method.key == TEACHER)
