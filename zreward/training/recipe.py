"""Recipes: one YAML file per experiment, read into dataclasses; every key is known or refused.

`base: OTHER.yaml` (relative to the file) takes over another recipe and changes only what the file itself says.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from zreward.errors import InputError
from zreward.models.pairwise import Comparison
from zreward.models.scratch import ScratchSpec

METHODS = ("sft", "rewarddance", "rewarddance-pairwise", "risd", "grpo", "gdso", "opd")
DIRECT_METHODS = ("sft", "rewarddance", "rewarddance-pairwise", "risd")
DIRECT_OPTIONS = ("group_dimensions", "augment", "word_dropout", "keep_images")


@dataclass(frozen=True)
class DataRecipe:
    train: str  # records (JSONL or Parquet) to train on
    train_split: str | None = None  # only records of this split
    train_records: int | None = None  # only this many records, the first ones
    dev: str | None = None  # records for the curve during training; never used for gradients
    dev_split: str | None = None
    dev_records: int = 200  # at most this many dev records, the first ones
    dimensions: list[str] | None = None  # default: every dimension that the records rate
    targets: str | None = None  # risd, rewarddance: the folder that `zreward label` wrote for `train`
    target_traces: int | None = None  # risd: average only the first K traces of each target
    one_hot_targets: bool = False  # risd: the target's most likely bin in place of its distribution (ablation)
    chain_weight: float = 1.0  # rewarddance: weight of the post-hoc chain beside the score
    smoothing: float = 0.0  # ordinal smoothing of the raters' histograms, standard deviation in points
    skip_bad: bool = False  # go on past bad lines, writing them to a file
    # Direct methods only:
    group_dimensions: bool = False  # an image's dimensions share a batch and its vision pass; batch_size counts images
    augment: bool = False  # mirror and shift pictures at random (see zreward/training/augment.py)
    word_dropout: float = 0.0  # share of a prompt's words left out at random
    keep_images: bool = False  # hold opened pictures in memory: small ones only


@dataclass(frozen=True)
class ModelRecipe:
    name: str  # checkpoint folder, hub name, world:large / world:small, or scratch:qwen3_5 (random weights)
    rubric: str | None = None  # YAML file, for a model that brings no rubric of its own
    dtype: str | None = None  # float32, bfloat16 or float16
    quantization: str | None = None  # 4bit or 8bit (GPUs)
    longest_side: int | None = None  # resolution policy: pixels
    pixel_budget: int | None = None  # resolution policy: pixels in total
    max_trace_tokens: int | None = None  # reasoning budget
    lora_rank: int | None = None  # train a LoRA adapter of this rank instead of all weights
    lora_alpha: int = 32
    lora_targets: str = "all-linear"  # PEFT target modules: a name, regular expression or "all-linear"
    freeze_vision: bool = False  # keep the vision tower as it is
    scratch: ScratchSpec = field(default_factory=ScratchSpec)  # sizes of a model that starts from random weights


@dataclass(frozen=True)
class OptimizerRecipe:
    steps: int = 200  # optimizer steps
    batch_size: int = 8  # per device: rows for direct methods, pairs for roll-out methods
    gradient_accumulation: int = 1
    learning_rate: float = 1e-4
    schedule: str = "cosine"  # a name that transformers' get_scheduler knows
    warmup_steps: int = 10
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class RolloutRecipe:
    group_size: int = 4  # G: traces per image
    temperature: float = 1.0
    updates_per_rollout: int = 1  # K_gdso: optimizer steps on the same roll-outs
    sequences_per_forward: int | None = None  # micro-batch of the update; default: all of a step's sequences at once
    lambda_pt: float = 1.0  # weight of the pointwise reward (7) in (13)
    lambda_pw: float = 1.0  # weight of the pairwise reward (10) in (13); GRPO ignores it
    alpha_pt: float = 1.0  # weight of the pointwise loss (8) in (14); GRPO ignores it
    alpha_pw: float = 1.0  # weight of the gap loss (11) in (14); GRPO ignores it
    beta: float = 0.0  # KL to the model that training starts from
    reward_from: str = "expectation"  # or parsed: the score that the policy wrote, a sampled label (ablation)
    preference_loss: str = "score_gap"  # (11), or bradley_terry (12) in its place (ablation)
    policy_weight: float = 1.0  # weight of the policy gradient in (14); 0: direct losses only (ablation)
    teacher: str | None = None  # opd: the checkpoint whose log-probabilities the student follows
    clip: float = 0.2  # ratio clipping, from the second update on a roll-out
    divide_by_std: bool = True  # false: advantages are centred only (the gap loss narrows groups late in training)
    include_ties: bool = True  # pairs with equal scores train the gap loss with gap 0


@dataclass(frozen=True)
class Recipe:
    method: str  # sft, rewarddance, rewarddance-pairwise, risd, grpo, gdso or opd
    out: str  # run directory: config, versions, metrics, checkpoints, final model
    data: DataRecipe
    model: ModelRecipe
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    rollout: RolloutRecipe = field(default_factory=RolloutRecipe)
    comparison: Comparison = field(default_factory=Comparison)  # rewarddance-pairwise: how the question is put
    seed: int = 0
    eval_every: int = 0  # steps between points of the dev curve; 0: no curve
    eval_temperature: float = 1.0  # of the traces behind the dev curve; 0: greedy
    save_every: int = 50  # steps between checkpoints
    keep_checkpoints: int = 2
    report_to: list[str] = field(default_factory=list)  # trackers that transformers knows: tensorboard, wandb, ...
    trainer: dict[str, Any] = field(
        default_factory=dict
    )  # passed on to transformers.TrainingArguments (fsdp, deepspeed, bf16, ...)

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _check_numbers(self)
        _one_of("rollout.reward_from", self.rollout.reward_from, ("expectation", "parsed"))
        _one_of("rollout.preference_loss", self.rollout.preference_loss, ("score_gap", "bradley_terry"))
        if self.method in ("grpo", "gdso") and self.rollout.group_size < 2:
            raise InputError(
                f"recipe: rollout.group_size is {self.rollout.group_size}; a group needs at least 2 traces"
            )
        if self.save_every % self.rollout.updates_per_rollout:
            raise InputError(
                f"recipe: save_every ({self.save_every}) must be a multiple of rollout.updates_per_rollout "
                f"({self.rollout.updates_per_rollout}), so that no checkpoint falls inside a roll-out"
            )
        if not 0 <= self.data.word_dropout < 1:
            raise InputError(
                f"recipe: data.word_dropout is {self.data.word_dropout}, expected a share from 0 to below 1"
            )
        direct_only = [key for key in DIRECT_OPTIONS if getattr(self.data, key)]
        if direct_only and self.method not in DIRECT_METHODS:
            raise InputError(
                f"recipe: data.{direct_only[0]} goes with methods {list(DIRECT_METHODS)}, not {self.method}"
            )
        if (self.method in ("risd", "rewarddance")) != (self.data.targets is not None):
            raise InputError(
                "recipe: data.targets (a folder written by `zreward label`) goes with methods risd and rewarddance, "
                f"and only with them; the method is {self.method}"
            )
        if (self.method == "opd") != (self.rollout.teacher is not None):
            raise InputError("recipe: rollout.teacher (a checkpoint) goes with method opd, and only with it")
        if self.method == "opd" and self.rollout.beta:
            raise InputError("recipe: rollout.beta has no place in opd: its pull is to the teacher; leave it at 0")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides (dotted keys: optimizer.steps=10).

    Raises InputError for unreadable files, unknown keys (naming the nearest known one) and values of the wrong type.
    """
    raw = _read(Path(path), ())
    for text in overrides:
        _override(raw, text)
    return recipe_from_dict(raw, str(path))


def _read(path: Path, inside: tuple[Path, ...]) -> dict[str, Any]:
    """The file's keys over those of its base."""
    if path.resolve() in inside:
        raise InputError(f"recipe {path}: its base leads back to itself")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(raw, dict):
        raise InputError(f"recipe {path}: expected keys and values, got {type(raw).__name__}")
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise InputError(f"recipe {path}: base is {base!r}, expected the path of another recipe")
    return _merge(_read(path.parent / base, (*inside, path.resolve())), raw)


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merge(under[key], over[key])
        for key in over
        if isinstance(under.get(key), dict) and isinstance(over[key], dict)
    }
    return under | over | both


def recipe_from_dict(raw: dict[str, Any], where: str = "recipe") -> Recipe:
    """Build a recipe from nested dictionaries, with the same checks as a file."""
    return _build(Recipe, raw, where, "")


def _override(raw: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"override {text!r}: expected key=value, for example optimizer.steps=100")
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise InputError(f"override {text!r}: {parent} holds a value, not further keys")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is not YAML: {str(error).splitlines()[0]}") from None


def _build(cls: type, raw: Any, where: str, prefix: str) -> Any:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {prefix or 'recipe'} is {raw!r}, expected keys and values")
    known = {item.name: item for item in fields(cls)}
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys are {sorted(known)}"
            raise InputError(f"{where}: unknown key {prefix}{key}; {hint}")
    hints = get_type_hints(cls)
    values = {}
    for name, item in known.items():
        if name not in raw:
            if item.default is MISSING and item.default_factory is MISSING:
                raise InputError(f"{where}: {prefix}{name} is missing")
            continue
        expected = hints[name]
        if is_dataclass(expected):
            values[name] = _build(expected, raw[name], where, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            values[name] = _check(raw[name], expected, where, f"{prefix}{name}")
    return cls(**values)


def _check(value: Any, expected: Any, where: str, key: str) -> Any:
    """The value as the expected type; YAML reads 1e-4 as a text, which is taken for the number it is."""
    options = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    if value is None and type(None) in options:
        return None
    if float in options and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    for option in options:
        plain = get_origin(option) or option
        if plain is not type(None) and isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
            return value
    names = " or ".join(getattr(o, "__name__", str(o)) for o in options if o is not type(None))
    raise InputError(f"{where}: {key} is {value!r}, expected {names}")


MAY_BE_ZERO = (
    *("data.chain_weight", "data.smoothing", "data.word_dropout", "optimizer.warmup_steps", "optimizer.weight_decay"),
    *("rollout.lambda_pt", "rollout.lambda_pw", "rollout.alpha_pt", "rollout.alpha_pw", "rollout.beta"),
    *("rollout.policy_weight", "seed", "eval_every", "eval_temperature"),
)


def _check_numbers(recipe: Recipe) -> None:
    """InputError for the first number that is not finite, is negative, or is zero where that means nothing."""
    own = {item.name: getattr(recipe, item.name) for item in fields(recipe)}
    rooms = {"": own} | {name: asdict(own[name]) for name in ("data", "model", "optimizer", "rollout")}
    for room, values in rooms.items():
        for name, value in values.items():
            key = f"{room}.{name}" if room else name
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not (isfinite(value) and (value > 0 or (value == 0 and key in MAY_BE_ZERO))):
                expected = "0 or more" if key in MAY_BE_ZERO else "more than 0"
                raise InputError(f"recipe: {key} is {value}, expected {expected}")


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        raise InputError(
            f"recipe: {key} is {value!r}; expected one of {list(known)}" + (f" ({near[0]}?)" if near else "")
        )
