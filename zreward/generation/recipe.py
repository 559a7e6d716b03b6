"""Recipes of `zreward optimize`: which generator learns from which reward model, how far, and what stops it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zreward.common import registry
from zreward.common.config import check_numbers, config_from_dict, one_of, without
from zreward.common.errors import InputError
from zreward.common.runs import say
from zreward.generation.aggregate import Aggregate
from zreward.generation.familiar import LEAST
from zreward.models.memory import MEMORY

HOLDOUT, NO_JUDGE = "holdout", "none"
ADAPTER_KEYS = ("lora_alpha", "lora_targets")


@dataclass(frozen=True)
class GeneratorRecipe:
    name: str = ""  # folder or hub name of a diffusers text-to-image pipeline, or a registered name
    dtype: str = "float32"  # of the frozen parts: float32, bfloat16 or float16; what is trained stays float32
    lora_rank: int | None = None  # train a LoRA adapter of this rank; default: all weights of the denoiser
    lora_alpha: int = 16  # scale of the adapter: alpha / rank
    lora_targets: list[str] = field(
        default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"]
    )  # names of the layers that get an adapter
    height: int | None = None  # pixels; default: the pipeline's own size
    width: int | None = None  # pixels; default: the pipeline's own size
    guidance: float = 1.0  # guidance_scale as the pipeline means it: none is 1 for Stable Diffusion and 0 for Z-Image
    max_sequence_length: int | None = None  # tokens of a prompt, for pipelines that pad to it (SD3, FLUX, Z-Image)
    steps: int = 12  # denoising steps

    @property
    def options(self) -> dict[str, Any]:
        """What the pipeline is called with."""
        given = {key: getattr(self, key) for key in ("height", "width", "max_sequence_length")}
        return {"guidance_scale": self.guidance} | {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class GradientRecipe:
    steps: list[int] = field(
        default_factory=lambda: [1, 4]
    )  # denoising steps with a gradient (K): least and most; drawn for every batch
    skipped: list[int] = field(
        default_factory=lambda: [0, 0]
    )  # denoising steps left out at the end (ReFL: a random stop): least and most; drawn for every batch
    checkpointing: bool = False  # recompute denoising steps and the decoder in the backward pass


@dataclass(frozen=True)
class RewardRecipe:
    dimensions: list[str] | None = None  # dimensions in the reward; default: all of the student's
    aggregate: Aggregate = field(default_factory=Aggregate)  # how scores per dimension become one reward
    copies: int = 1  # disturbed copies of a picture whose rewards are averaged
    shift: int = 0  # the most pixels by which a copy is moved
    noise: float = 0.0  # standard deviation of the Gaussian noise on a copy; pixels are in [0, 1]
    confidence: float | None = (
        None  # score points: a picture counts by P(its score lies this near to mu), calibrated; default: all alike
    )
    memory: str | None = None  # keep, recompute or one_by_one (see RewardModel.forward); default by what is free
    dtype: str | None = None  # the student's: float32, bfloat16 or float16; default: what its checkpoint recorded
    longest_side: int | None = (
        None  # the most pixels of a picture's longer side for the student; default: its own limit
    )
    pixel_budget: int | None = None  # the most pixels of a picture for the student, instead of longest_side


@dataclass(frozen=True)
class GeneratorOptimizerRecipe:
    steps: int = 300  # optimizer steps
    batch_size: int = 16  # pictures per device and micro-batch
    gradient_accumulation: int = 1  # micro-batches per optimizer step
    learning_rate: float = 1e-4  # constant after the warm-up
    warmup_steps: int = 10  # steps in which the learning rate rises from 0
    weight_decay: float = 0.0  # of AdamW
    max_grad_norm: float = 1.0  # longer gradients are scaled down to this norm
    average: float = 0.99  # EMA decay of the weights that are evaluated and kept, 0 to 1


@dataclass(frozen=True)
class GuardsRecipe:
    """Against reward hacking. Each evaluation draws the same held-out prompts and seeds."""

    enabled: bool = True  # false: evaluate and log, but never stop (and keep the last weights)
    anchor: float = 0.1  # weight of the squared distance to the frozen generator's predictions, relative to their size
    every: int = 25  # steps between evaluations
    prompts: int = 32  # held-out prompts of an evaluation; two pictures each
    holdout: str | None = None  # a judge that is not trained on; {student} stands for the student's path
    holdout_reasoning: bool = False  # the holdout judge reasons before it scores
    patience: int = 4  # evaluations without a new best of the held-out reward before the run stops
    max_fall: float = 0.15  # points that the held-out reward may fall below its best before the run stops
    max_dimension_fall: float = 0.1  # points that one dimension of it may fall below the frozen generator's
    min_diversity: float = 0.8  # pixel distance between seeds of a prompt, over the frozen generator's
    max_drift: float = 0.5  # mean squared difference of predictions from the frozen generator's, over their mean square
    max_saturation: float = 0.95  # share of the student's scores in the top half point of the scale
    min_entropy: float = 0.25  # of the student's distributions, over their entropy on the frozen generator's pictures


@dataclass(frozen=True)
class MonitorRecipe:
    """A second look at reward hacking, from the student and its data alone (`zreward/generation/monitor.py`)."""

    enabled: bool = False  # measure at every evaluation, and stop the run when a limit below is crossed
    data: str | None = (
        None  # records that the student learned from; {student}: its path; default: unlike pictures are not counted
    )
    pictures: int = 512  # of these records that are looked at, chosen evenly
    quantile: float = 0.95  # share of known pictures that are not called unlike the others
    max_unlike: float = 0.75  # share of pictures unlike the known ones: stop when its interval lies above this


@dataclass(frozen=True)
class FinalRecipe:
    """What is measured at the end: new pictures of the frozen and of the optimised generator, side by side."""

    prompts: int = 400  # held-out prompts, the first ones; 0: no comparison
    seeds: int = 2  # pictures of each prompt
    judge: str = NO_JUDGE  # holdout (guards.holdout), none, or a judge that an installed package offers
    same: float = 0.25  # the least difference of overall scores that is not a tie


@dataclass(frozen=True)
class OptimizeRecipe:
    student: str  # the reward model: a checkpoint folder or hub name
    out: str  # run directory
    prompts: str  # text file, one prompt a line; .jsonl with a `prompt` in every line; or a registered source
    held_out: str  # prompts for evaluations and the final comparison, of the same forms; none of them in `prompts`
    generator: GeneratorRecipe = field(default_factory=GeneratorRecipe)  # what is trained
    gradient: GradientRecipe = field(default_factory=GradientRecipe)  # which denoising steps it goes through
    reward: RewardRecipe = field(default_factory=RewardRecipe)  # what it follows
    optimizer: GeneratorOptimizerRecipe = field(
        default_factory=GeneratorOptimizerRecipe
    )  # AdamW and the averaged weights
    guards: GuardsRecipe = field(default_factory=GuardsRecipe)  # what stops it
    monitor: MonitorRecipe = field(
        default_factory=MonitorRecipe
    )  # what stops it without another judge: is the student still asked about pictures that it knows?
    final: FinalRecipe = field(default_factory=FinalRecipe)  # what is measured at the end
    seed: int = 0  # random seed
    save_every: int = 50  # steps between checkpoints
    mixed_precision: str = "no"  # bf16 or fp16: accelerate's autocast
    report_to: list[str] = field(default_factory=list)  # trackers that accelerate knows: tensorboard, wandb, ...

    def __post_init__(self) -> None:
        check_numbers(
            self,
            may_be_zero=(
                *(
                    "reward.shift",
                    "reward.noise",
                    "optimizer.warmup_steps",
                    "optimizer.weight_decay",
                    "optimizer.average",
                ),
                *(
                    "guards.anchor",
                    "guards.min_diversity",
                    "guards.min_entropy",
                    "generator.guidance",
                    "final.same",
                    "final.prompts",
                    "seed",
                ),
            ),
            may_be_negative=("reward.aggregate.caution",),
        )
        if self.monitor.quantile >= 1 or self.monitor.max_unlike > 1:
            raise InputError(
                f"recipe: monitor.quantile is {self.monitor.quantile}, monitor.max_unlike {self.monitor.max_unlike}; expected "
                "shares, the first below 1"
            )
        if self.monitor.pictures < LEAST:
            raise InputError(f"recipe: monitor.pictures is {self.monitor.pictures}, expected at least {LEAST}")
        if self.monitor.data and not self.monitor.enabled:
            raise InputError(
                "recipe: monitor.data is set, but monitor.enabled is not; set it, or leave monitor.data out"
            )
        one_of("final.judge", self.final.judge, (*registry.names(registry.JUDGES), HOLDOUT, NO_JUDGE))
        one_of("generator.dtype", self.generator.dtype, ("float32", "bfloat16", "float16"))
        if self.reward.memory is not None:
            one_of("reward.memory", self.reward.memory, MEMORY)
        if self.reward.dtype is not None:
            one_of("reward.dtype", self.reward.dtype, ("float32", "bfloat16", "float16"))
        one_of("mixed_precision", self.mixed_precision, ("no", "bf16", "fp16"))
        for key, least in (("steps", 1), ("skipped", 0)):
            given = getattr(self.gradient, key)
            if len(given) != 2 or not all(isinstance(n, int) for n in given) or not least <= given[0] <= given[1]:
                raise InputError(f"recipe: gradient.{key} is {given}, expected [lowest, highest] from {least} up")
        if self.gradient.steps[1] + self.gradient.skipped[1] > self.generator.steps:
            raise InputError(
                f"recipe: gradient.steps {self.gradient.steps} and gradient.skipped {self.gradient.skipped} need more than "
                f"generator.steps ({self.generator.steps})"
            )
        if self.final.judge == HOLDOUT and not self.guards.holdout:
            raise InputError("recipe: final.judge is holdout, but guards.holdout names none")
        if self.guards.holdout_reasoning and not self.guards.holdout:
            raise InputError("recipe: guards.holdout_reasoning is set, but guards.holdout names no judge; leave it out")
        adapter = GeneratorRecipe()
        for key in ADAPTER_KEYS:
            if self.generator.lora_rank is None and getattr(self.generator, key) != getattr(adapter, key):
                raise InputError(
                    f"recipe: generator.{key} is set, but generator.lora_rank is not: all weights would be trained; set "
                    f"generator.lora_rank, or leave generator.{key} out"
                )
        trained_half = self.generator.lora_rank is None and self.generator.dtype != "float32"
        if trained_half and self.mixed_precision == "no":
            raise InputError(
                f"recipe: generator.dtype is {self.generator.dtype} and all weights are trained, which are kept in float32; set "
                f"mixed_precision to {'bf16' if self.generator.dtype == 'bfloat16' else 'fp16'}, or generator.lora_rank"
            )
        if not self.generator.name:
            object.__setattr__(self, "generator", replace(self.generator, name=_older_generator()))

    @property
    def monitor_data(self) -> str | None:
        """The path of the records that the student learned from."""
        return self.monitor.data.replace("{student}", self.student) if self.monitor.data else None

    @property
    def holdout(self) -> str | None:
        """The path of the held-out judge."""
        return self.guards.holdout.replace("{student}", self.student) if self.guards.holdout else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _older_generator() -> str:
    """The generator that recipes of version 0.1 without a name meant. InputError if no installed package offers one."""
    name = registry.find(registry.DEFAULTS, "generator.name")
    if name is None:
        raise InputError("recipe: generator.name is missing; expected a folder or hub name of a diffusers pipeline")
    say(f"recipe: generator.name is missing; using {name}, as version 0.1 did. Write it into the recipe")
    return name


def stored_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    """A run's recipe in today's form: fields that its version did not know have their defaults.

    So have those that did nothing, which version 0.1 let pass and `OptimizeRecipe` refuses: a run is resumed without them.
    """
    if isinstance(raw.get("generator"), dict) and raw["generator"].get("lora_rank") is None:
        raw = without(raw, "generator", ADAPTER_KEYS)
    if isinstance(raw.get("guards"), dict) and not raw["guards"].get("holdout"):
        raw = without(raw, "guards", ("holdout_reasoning",))
    return config_from_dict(OptimizeRecipe, raw).to_dict()
