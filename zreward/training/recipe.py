"""Recipes of `zreward train`: one YAML file per experiment, read into dataclasses (see `zreward.common.config`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import Any

from zreward.common import registry
from zreward.common.config import check_numbers, config_from_dict, load_config, one_of, without
from zreward.common.errors import InputError
from zreward.evaluation.coupling_edits import find_editor
from zreward.models.attention_names import ATTENTIONS
from zreward.models.compose import ComposeSpec
from zreward.models.dry_checks import warm_up_notes
from zreward.models.pairwise import PairwiseQuestion
from zreward.models.scratch import ScratchSpec
from zreward.sampling.options import VllmOptions

METHODS = ("sft", "rewarddance", "rewarddance-pairwise", "risd", "preference", "grpo", "gdso", "opd")
DIRECT_METHODS = ("sft", "rewarddance", "rewarddance-pairwise", "risd", "preference")
DIRECT_OPTIONS = ("group_dimensions", "augment", "word_dropout", "keep_images")


@dataclass(frozen=True)
class DataRecipe:
    train: str  # records to train on: JSONL, Parquet, tar shards, a folder, hf:NAME; of method preference, preferences
    prompt_field: str | None = None  # of `train`: column, or key of a .json, of the prompt; default: prompt
    image_field: str | None = None  # of `train`: column of the picture, or extension of its file; default: image
    train_split: str | None = None  # only records of this split
    train_records: int | None = None  # only this many records, the first ones
    dev: str | None = None  # records or preferences for the curve during training; never used for gradients
    dev_split: str | None = None  # only dev records of this split
    dev_records: int = 200  # at most this many dev records, the first ones
    dimensions: list[str] | None = None  # default: every dimension that the records rate
    targets: str | None = None  # risd, rewarddance: the folder that `zreward label` wrote for `train`
    target_traces: int | None = None  # risd: average only the first K traces of each target
    one_hot_targets: bool = False  # risd: train on the target's most likely bin alone (ablation)
    rated: str | None = None  # preference: records with scores, to be learned from as well
    rated_weight: float = 1.0  # preference: weight of a rated picture; that of a pair is 1
    vote_smoothing: float = 0.0  # preference: votes added to each side, so that a single one is not certainty
    preference_loss: str = "win_rate"  # preference: win_rate of the distributions, or bradley_terry of their means
    preferences: str | None = None  # gdso: preferences, to be learned from beside the scores of `train`
    preferences_weight: float = 1.0  # gdso: weight of a pair with votes; that of a pair with scores is 1
    chain_weight: float = 1.0  # rewarddance: weight of the explanation's token loss; the score's is 1
    smoothing: float = 0.0  # ordinal smoothing of the raters' histograms: standard deviation in score points; 0: none
    workers: int = 0  # processes that open pictures; 0: the training process does. Losses are the same
    skip_bad: bool = False  # skip invalid lines and list them in FILE.skipped.jsonl; false: stop
    # Direct methods only:
    group_dimensions: bool = False  # put all dimensions of an image into one batch; batch_size then counts images
    augment: bool = False  # mirror and shift pictures at random (see zreward/training/augment.py)
    word_dropout: float = 0.0  # share of a prompt's words left out at random, 0 to below 1
    mismatched: float = 0.0  # sft: share of mismatched_dimension's rows that get another image's prompt, as a bad match
    mismatched_dimension: str | None = None  # sft: the dimension that asks whether the image shows its prompt
    keep_images: bool = False  # keep opened pictures in memory; for small pictures only


@dataclass(frozen=True)
class ModelRecipe:
    name: str  # checkpoint folder, hub name, a registered name, scratch:qwen3_5 (random weights), or compose
    rubric: str | None = None  # rubric YAML, for a model without a rubric of its own; default: the shipped rubric
    dtype: str | None = (
        None  # float32, bfloat16 or float16; default: what the checkpoint recorded, else bfloat16 on GPUs, float32 on CPUs
    )
    quantization: str | None = None  # 4bit or 8bit (GPUs only); default: none
    attn_implementation: str | None = (
        None  # sdpa, eager, flash_attention_2, flash_attention_3 or flex_attention; default: transformers' choice
    )
    longest_side: int | None = None  # the most pixels of an image's longer side; default: the model's own limit
    pixel_budget: int | None = None  # the most pixels of an image, instead of longest_side
    max_trace_tokens: int | None = None  # the most tokens of a reasoning trace; default: the model's own, else 512
    lora_rank: int | None = None  # train a LoRA adapter of this rank instead of all weights
    lora_alpha: int = 32  # scale of the adapter: alpha / rank
    lora_targets: str = "all-linear"  # PEFT target modules: a name, regular expression or "all-linear"
    freeze_vision: bool = False  # do not train the vision tower
    train_projector: bool = (
        False  # lora_rank: also train what lies between vision tower and language model, in full (LLaVA)
    )
    image_pool: int | None = (
        None  # 2: the mean of every 2 x 2 image tokens becomes one (LLaVA); default: the model's own
    )
    image_cache: str | None = (
        None  # folder for the frozen vision tower's features of pictures (LLaVA): made once, then read
    )
    compose: ComposeSpec = field(default_factory=ComposeSpec)  # name compose: the pretrained parts of a LLaVA model
    scratch: ScratchSpec = field(default_factory=ScratchSpec)  # sizes of a model that starts from random weights


@dataclass(frozen=True)
class OptimizerRecipe:
    steps: int = 200  # optimizer steps
    batch_size: int = 8  # per device: rows for direct methods, pairs for roll-out methods
    gradient_accumulation: int = 1  # batches per optimizer step
    learning_rate: float = 1e-4  # highest learning rate, reached after the warm-up
    schedule: str = "cosine"  # a name that transformers' get_scheduler knows
    warmup_steps: int = 10  # steps in which the learning rate rises from 0
    weight_decay: float = 0.0  # weight decay of AdamW
    projector_learning_rate: float | None = (
        None  # train_projector: highest learning rate of the projector; default: the same
    )
    projector_steps: int = 0  # train_projector: first steps, in which the projector alone is trained
    max_grad_norm: float = 1.0  # gradients are clipped to this norm
    gradient_checkpointing: bool = False  # recompute activations: less memory, more time
    share_prefix: bool | None = None  # encode what rows share once; default where the forms put the rubric first


@dataclass(frozen=True)
class RolloutRecipe:
    engine: str = "generate"  # what samples traces: generate (transformers), or vllm, with a copy of the weights
    group_size: int = 4  # G: traces per image
    temperature: float = 1.0  # sampling temperature of training's traces; 1 is the policy itself
    seed_by: str = (
        "item"  # what a trace depends on: item (seed, step, item, place in its group), or batch, as in version 0.1
    )
    updates_per_rollout: int = 1  # K_gdso: optimizer steps on the same roll-outs
    sequences_per_forward: int | None = None  # sequences in a micro-batch of the update; default: all of a step's
    lambda_pt: float = 1.0  # weight of the pointwise reward (7) in (13)
    lambda_pw: float = 1.0  # weight of the pairwise reward (10) in (13); GRPO ignores it
    alpha_pt: float = 1.0  # weight of the pointwise loss (8) in (14); GRPO ignores it
    alpha_pw: float = 1.0  # weight of the gap loss (11) in (14), and of that of pairs with votes; GRPO ignores it
    beta: float = 0.0  # weight of the KL penalty to the model that training starts from
    reward_from: str = "expectation"  # expectation, or parsed: the score label that the policy sampled (ablation)
    preference_loss: str = "score_gap"  # score_gap (11) and win rates of votes, or bradley_terry (12) (ablation)
    policy_weight: float = 1.0  # weight of the policy gradient in (14); 0: direct losses only (ablation)
    coupling_weight: float = 0.0  # gdso: weight of the coupling term: mu has to follow edits of its trace; 0: off
    coupling_margin: float = 0.5  # coupling_weight: how far mu has to move after an edit, in score points
    coupling_editor: str = "words"  # coupling_weight: what edits traces: words (English), or a package's editor
    teacher: str | None = None  # opd: the checkpoint whose log-probabilities the student follows
    clip: float = 0.2  # clip the ratio to 1 - clip ... 1 + clip, from the second update of a roll-out on
    importance_cap: float = (
        2.0  # engine vllm: the largest weight of a token that corrects for the engine's probabilities
    )
    divide_by_std: bool = True  # false: advantages are centred only (the gap loss narrows groups late in training)
    include_ties: bool = True  # pairs with equal scores train the gap loss with gap 0
    max_kl: float | None = (
        None  # per token; a step above it ends the run: see reference_kl (beta) and policy_kl (reuse)
    )
    stall_after: float = 3600.0  # seconds after which a roll-out that has not ended ends the run


@dataclass(frozen=True)
class Recipe:
    method: str  # sft, rewarddance, rewarddance-pairwise, risd, preference, grpo, gdso or opd
    out: str  # run directory: config, versions, metrics, checkpoints, final model
    data: DataRecipe  # what is trained on
    model: ModelRecipe  # what is trained
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)  # AdamW and its schedule
    rollout: RolloutRecipe = field(default_factory=RolloutRecipe)  # grpo, gdso and opd: traces, rewards and losses
    vllm: VllmOptions = field(default_factory=VllmOptions)  # rollout.engine vllm: how it is started
    comparison: PairwiseQuestion = field(default_factory=PairwiseQuestion)  # rewarddance-pairwise: the question's texts
    seed: int = 0  # random seed
    eval_every: int = 0  # steps between points of the dev curve; 0: no curve
    eval_temperature: float = 1.0  # sampling temperature of the dev curve's traces; 0: greedy
    eval_batch_size: int | None = None  # images in a batch for the dev curve; default: 32, with reasoning 8
    best_by: str | None = None  # keep the best weights in OUT/best, by dev_hpa or another figure of the dev curve
    patience: int | None = None  # points of the dev curve without a better best_by after which training ends
    save_every: int = 50  # steps between checkpoints
    keep_checkpoints: int = 2  # number of checkpoints to keep, the newest
    report_to: list[str] = field(default_factory=list)  # trackers that transformers knows: tensorboard, wandb, ...
    trainer: dict[str, Any] = field(
        default_factory=dict
    )  # passed on to transformers.TrainingArguments (fsdp, deepspeed, bf16, ...)

    def __post_init__(self) -> None:
        one_of("method", self.method, (*METHODS, *registry.names(registry.METHODS)))
        check_numbers(self, MAY_BE_ZERO, most=MOST)
        twice = next((name for name in self.trainer if name in OWN_KEYS), None)
        if twice:  # resuming, and whether a run is finished, go by the recipe's own keys
            raise InputError(f"recipe: trainer.{twice} is {OWN_KEYS[twice]} of the recipe; set that")
        one_of("rollout.engine", self.rollout.engine, ("generate", "vllm"))
        if self.model.attn_implementation is not None:
            one_of("model.attn_implementation", self.model.attn_implementation, ATTENTIONS)
        one_of("rollout.reward_from", self.rollout.reward_from, ("expectation", "parsed"))
        one_of("rollout.seed_by", self.rollout.seed_by, ("item", "batch"))
        one_of("data.preference_loss", self.data.preference_loss, ("win_rate", "bradley_terry"))
        one_of("rollout.preference_loss", self.rollout.preference_loss, ("score_gap", "bradley_terry"))
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
        if not 0 <= self.data.mismatched < 1 or bool(self.data.mismatched) != bool(self.data.mismatched_dimension):
            raise InputError(
                f"recipe: data.mismatched is {self.data.mismatched} and data.mismatched_dimension "
                f"{self.data.mismatched_dimension}; expected a share below 1 and a dimension, or neither"
            )
        direct_only = [key for key in DIRECT_OPTIONS if getattr(self.data, key)]
        if direct_only and self.method in METHODS and self.method not in DIRECT_METHODS:
            raise InputError(
                f"recipe: data.{direct_only[0]} goes with methods {list(DIRECT_METHODS)}, not {self.method}"
            )
        if self.data.workers:
            self._check_workers()
        self._refuse_idle()
        self._check_coupling()
        self._check_engine()
        self._check_stopping()
        if (self.method in ("risd", "rewarddance")) != (self.data.targets is not None):
            raise InputError(
                "recipe: data.targets (a folder written by `zreward label`) goes with methods risd and rewarddance, "
                f"and only with them; the method is {self.method}"
            )
        if (self.method == "opd") != (self.rollout.teacher is not None):
            raise InputError("recipe: rollout.teacher (a checkpoint) goes with method opd, and only with it")
        if self.method == "opd" and self.rollout.beta:
            raise InputError(
                "recipe: rollout.beta does not go with method opd, which follows its teacher; leave it at 0"
            )

    def _check_stopping(self) -> None:
        if self.best_by is not None:
            one_of("best_by", self.best_by, BEST_METRICS)
            if not (self.data.dev and self.eval_every):
                raise InputError(
                    f"recipe: best_by is {self.best_by}, a metric of the dev curve; set data.dev and eval_every"
                )
        if self.patience is not None and self.best_by is None:
            raise InputError(f"recipe: patience is {self.patience}; set best_by, the metric that it watches")
        rollout = self.rollout
        if rollout.max_kl is not None and not rollout.beta and rollout.updates_per_rollout == 1:
            raise InputError(
                "recipe: rollout.max_kl limits the KL to the starting model (rollout.beta above 0) or to the policy that "
                "sampled a reused roll-out (rollout.updates_per_rollout above 1); with neither there is none to measure"
            )

    def _check_coupling(self) -> None:
        rollout = self.rollout
        if not rollout.coupling_weight:
            for key in ("coupling_margin", "coupling_editor"):
                if _is_set(rollout, key):
                    raise InputError(
                        f"recipe: rollout.{key} goes with rollout.coupling_weight; set that, or leave it out"
                    )
            return
        if self.method in METHODS and self.method != "gdso":
            raise InputError(f"recipe: rollout.coupling_weight goes with method gdso, not {self.method}; leave it out")
        find_editor(rollout.coupling_editor)

    def _check_workers(self) -> None:
        if self.model.image_cache:
            raise InputError(
                "recipe: model.image_cache lets the training process run the vision tower, and data.workers opens pictures in "
                "others; set one of the two"
            )
        if self.data.keep_images:
            raise InputError(
                "recipe: data.keep_images keeps opened pictures in the training process, and data.workers opens them in "
                "others; set one of the two"
            )
        if "fork" not in get_all_start_methods():
            raise InputError(
                f"recipe: data.workers is {self.data.workers}, but {sys.platform} cannot fork; set it to 0"
            )

    def _check_engine(self) -> None:
        if self.rollout.engine != "vllm":
            if self.vllm != VllmOptions():
                raise InputError("recipe: vllm.* goes with rollout.engine vllm; set that, or leave vllm out")
            return
        if self.method in DIRECT_METHODS:
            raise InputError(
                f"recipe: rollout.engine goes with methods that sample traces, not {self.method}; leave it out"
            )
        if self.model.quantization:
            raise InputError(
                "recipe: rollout.engine vllm loads the weights as they are, not quantised: its answers would not be those of "
                "the trained model. Leave model.quantization out, or use rollout.engine generate"
            )
        if self.rollout.importance_cap < 1:
            raise InputError(f"recipe: rollout.importance_cap is {self.rollout.importance_cap}, expected 1 or more")

    def _refuse_idle(self) -> None:
        """InputError for a key that is set but would do nothing."""
        for key, method in ONE_METHODS.items():
            if self.method != method and _is_set(self.data, key):
                raise InputError(f"recipe: data.{key} goes with method {method}, not {self.method}; leave it out")
        for key in ("prompt_field", "image_field"):
            if self.method == "preference" and _is_set(self.data, key):
                raise InputError(
                    f"recipe: data.{key} names a field of records, and preferences have none; leave it out"
                )
        if self.data.preferences is None and _is_set(self.data, "preferences_weight"):
            raise InputError("recipe: data.preferences_weight goes with data.preferences; set that, or leave it out")
        for key in PROJECTOR_KEYS:
            if not self.model.train_projector and _is_set(self.optimizer, key):
                raise InputError(f"recipe: optimizer.{key} goes with model.train_projector; set that, or leave it out")
        for key in ADAPTER_KEYS:
            if self.model.lora_rank is None and _is_set(self.model, key):
                raise InputError(
                    f"recipe: model.{key} is set, but model.lora_rank is not: all weights would be trained; set "
                    f"model.lora_rank, or leave model.{key} out"
                )

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries, for YAML."""
        return asdict(self)


def notes_of(recipe: Recipe) -> list[str]:
    """Warnings about keys of a recipe that will have no effect. Not errors: `data.dev=null` is a common override."""
    notes = warm_up_notes(recipe.optimizer.steps, recipe.optimizer.warmup_steps)
    if recipe.eval_every and not recipe.data.dev:
        notes.append(f"eval_every is {recipe.eval_every}, but data.dev names no records: there will be no dev curve")
    return notes


def _is_set(config: Any, key: str) -> bool:
    """Whether a key has another value than its default."""
    return getattr(config, key) != next(item.default for item in fields(config) if item.name == key)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A YAML recipe with `key=value` overrides; see `zreward.common.config.load_config`."""
    return load_config(Recipe, path, overrides)


ONE_METHODS = {
    "mismatched": "sft",
    "mismatched_dimension": "sft",
    "target_traces": "risd",
    "one_hot_targets": "risd",
    "chain_weight": "rewarddance",
    "rated": "preference",
    "rated_weight": "preference",
    "vote_smoothing": "preference",
    "preference_loss": "preference",
    "preferences": "gdso",
    "preferences_weight": "gdso",
}
"""Key of data -> the only method that it goes with."""
DEV_METRICS = ("dev_hpa", "dev_margin_hpa", "dev_plcc", "dev_srcc")
"""What the dev curve logs of rated records."""
PREFERENCE_METRICS = ("dev_accuracy", "dev_vote_agreement", "dev_preference_nll", "dev_preference_ece")
"""What it logs of preferences."""
BEST_METRICS = (*DEV_METRICS, "dev_accuracy", "dev_vote_agreement")
"""Those of them of which more is better."""
ADAPTER_KEYS = ("lora_alpha", "lora_targets", "train_projector")
PROJECTOR_KEYS = ("projector_learning_rate", "projector_steps")
OWN_KEYS = {
    "output_dir": "out",
    "max_steps": "optimizer.steps",
    "save_steps": "save_every",
    "learning_rate": "optimizer.learning_rate",
    "per_device_train_batch_size": "optimizer.batch_size",
    "gradient_accumulation_steps": "optimizer.gradient_accumulation",
    "seed": "seed",
}
"""Option of transformers.TrainingArguments -> the recipe's own key for it."""
MAY_BE_ZERO = (
    *("data.smoothing", "data.vote_smoothing", "data.word_dropout", "data.mismatched"),
    *("data.chain_weight", "data.workers"),
    *("optimizer.warmup_steps", "optimizer.weight_decay", "optimizer.projector_steps"),
    *("rollout.lambda_pt", "rollout.lambda_pw", "rollout.alpha_pt", "rollout.alpha_pw", "rollout.beta"),
    *(
        "rollout.coupling_weight",
        "rollout.policy_weight",
        "model.scratch.linear_layers",
        "seed",
        "eval_every",
        "eval_temperature",
    ),
)
MOST = {"model.lora_rank": 8192, "rollout.group_size": 4096, "data.workers": 256, "data.vote_smoothing": 1000}
"""Key -> its largest value."""
MAY_CHANGE = (
    *("optimizer.batch_size", "optimizer.gradient_accumulation", "optimizer.gradient_checkpointing"),
    *("optimizer.share_prefix", "rollout.sequences_per_forward", "data.workers", "data.keep_images"),
    *("rollout.max_kl", "rollout.stall_after", "patience"),
    *("eval_batch_size", "save_every", "keep_checkpoints", "report_to", "model.image_cache"),
    *(f"vllm.{item.name}" for item in fields(VllmOptions)),
    *(f"trainer.{name}" for name in ("fsdp", "fsdp_config", "deepspeed", "ddp_backend", "ddp_timeout", "use_cpu")),
)
"""Keys with which a run may be resumed that it was not started with: how it is computed, not what. The global batch stays."""


def stored_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    """`resumable` of a run's recipe in today's form: fields that its version did not know have their defaults.

    So have those that did nothing, which version 0.1 let pass and `Recipe` refuses: a run is resumed without them.
    """
    idle = [key for key, method in ONE_METHODS.items() if raw.get("method") != method]
    if isinstance(raw.get("model"), dict) and raw["model"].get("lora_rank") is None:
        raw = without(raw, "model", ADAPTER_KEYS)
    return resumable(as_begun(config_from_dict(Recipe, without(raw, "data", idle)), raw))


def resumable(recipe: Recipe) -> dict[str, Any]:
    """What a resumed run must have in common with what it was started with: all that results depend on."""
    facts = recipe.to_dict()
    for key in MAY_CHANGE:
        section, _, name = key.rpartition(".")
        facts = without(facts, section, (name,)) if section else {k: v for k, v in facts.items() if k != name}
    return facts


def as_begun(recipe: Recipe, stored: dict[str, Any]) -> Recipe:
    """The recipe to resume with, where the run was begun by a version that had one way of sampling only."""
    if "seed_by" in (stored.get("rollout") or {}):
        return recipe
    return replace(recipe, rollout=replace(recipe.rollout, seed_by="batch"))
