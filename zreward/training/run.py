"""One training run: recipe in, run directory out (config, versions, metrics, checkpoints, final model)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import set_seed

from zreward.common.errors import InputError, shown
from zreward.common.runs import RunDirectory, say
from zreward.common.termination import Terminated, termination
from zreward.data import Preference, Record, check_disjoint, load_preferences, load_records, open_records
from zreward.data.preference import records_of
from zreward.data.preference_files import holds_preferences
from zreward.data.sources import Fields, Source
from zreward.models.attention_names import check_attention
from zreward.models.compose import NAME as COMPOSE
from zreward.models.devices import find_device
from zreward.models.empty import emptied
from zreward.models.finished import check_left
from zreward.models.image_cache import ImageCache
from zreward.models.pairwise import comparing
from zreward.models.pixels import ResolutionPolicy
from zreward.models.reward_model import RewardModel
from zreward.models.scratch import PREFIX, make_scratch
from zreward.models.tower import projector_name
from zreward.rubric import Rubric
from zreward.training.composed import composed, pool
from zreward.training.curves import Curve, DevCurve, PreferenceCurve
from zreward.training.engines import start
from zreward.training.global_batch import keep_global_batch, note_processes
from zreward.training.methods import Job, Method, find_method
from zreward.training.noted import note_prompts, note_training_data
from zreward.training.recipe import (
    BEST_METRICS,
    DEV_METRICS,
    PREFERENCE_METRICS,
    DataRecipe,
    Recipe,
    as_begun,
    notes_of,
    resumable,
    stored_recipe,
)
from zreward.training.resuming import inputs_of, is_finished
from zreward.training.rollout_engine import check_engine
from zreward.training.sequences import check_sequences, encode_in_every_pass
from zreward.training.stopping import KeepBest, StopWhenAsked
from zreward.training.trainer_base import RewardTrainer, is_main_process, training_arguments
from zreward.training.whole_checkpoint import check_checkpoint


def train(recipe: Recipe, resume: bool = False, model: RewardModel | None = None) -> Path:
    """Train a reward model by a recipe. All input is checked before training starts.

    Args:
        recipe: `zreward.training.recipe.load_recipe` reads one from YAML.
        resume: continue from the run's last complete checkpoint; a finished run is left alone.
        model: replaces loading `recipe.model` (dry runs).

    Returns:
        The folder of the final model, `recipe.out`/model.

    Raises:
        InputError: wrong recipe, data or checkpoint; a run directory in use; with `resume` another recipe (but for keys of
            `recipe.MAY_CHANGE`), data or starting weights than the run's; a full disk (the last complete checkpoint is kept).
        FloatingPointError: a loss that is not finite, or a KL above `rollout.max_kl`.
        Terminated: SIGTERM came; the run has ended with a checkpoint after the step.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"train: recipe is {shown(recipe)}, expected a Recipe; read one with zreward.training.recipe.load_recipe(path)"
        )
    run = RunDirectory(Path(recipe.out))
    finished, main = is_finished(run.path), is_main_process()
    if resume and run.is_started:
        recipe = as_begun(recipe, run.read_config())
    with run.claim(resumable(recipe), resume, finished, stored_recipe, writes=main):
        final = run.path / "model"
        if resume and finished:
            check_left(final, f"delete {final} and use --resume, which writes it again from the last checkpoint")
            say(f"{run.path} is finished: nothing to do; the model is {final}")
            return final
        # The arguments may not live on: under ZeRO-3, transformers would load weights that are split already.
        device, processes, empty = start(recipe, training_arguments(recipe, run))
        if resume:
            recipe = keep_global_batch(run.path, recipe, processes)
        set_seed(recipe.seed)
        model = model or load_model(recipe, device, empty)
        check_engine(model, recipe, processes)
        trainer = build_trainer(recipe, run, model)
        trainer.prepare_device()
        if main:
            inputs = inputs_of(recipe, model, *trainer.read, trainer.preferences, trainer.dev_preferences)
            if resume:
                run.check_inputs(inputs)
                run.remove_half_written()
                run.keep_checkpoints(recipe.keep_checkpoints)  # a kill may have come before that
            else:
                note_processes(run.path, recipe, processes)
                run.start(recipe.to_dict(), inputs)
            for note in notes_of(recipe):
                say(note)
        before = note_prompts(trainer.reward_model, trainer.read[0]) if main else None
        with termination() as asked:
            stopper = StopWhenAsked(trainer, asked)
            trainer.add_callback(stopper)
            last = run.last_checkpoint() if resume else None
            if last is not None:
                check_checkpoint(last, trainer.args)
            trainer.run_to_end(last)
        if stopper.stopped:
            raise Terminated(f"stopped by SIGTERM at step {trainer.state.global_step}; continue with --resume")
        note_training_data(run.path, trainer.reward_model, trainer.read[0], before)
        trainer.save_model(str(final))
    return final


def build_trainer(recipe: Recipe, run: RunDirectory, model: RewardModel) -> RewardTrainer:
    """The trainer for a recipe: data loaded and checked, nothing trained yet. Its `read` says what it was made from."""
    data = recipe.data
    method = find_method(recipe.method)
    records, preferences = _training_data(recipe, model.rubric)
    chosen = records if method.prefers else records[: data.train_records]
    dimensions = _dimensions(recipe, method, chosen, preferences, model)
    check_sequences(recipe, method.compares, chosen)
    trained = comparing(model, recipe.comparison) if method.compares else model
    voted = records_of(preferences)
    read = [part for part in (records, voted) if part]
    callbacks = _callbacks(recipe, method, read, dimensions, model.rubric, trained)
    trainer = method.trainer(Job(recipe, run, trained, records, chosen, dimensions, callbacks, preferences))
    for curve in callbacks:
        curve.trackers = trainer.callback_handler
    if recipe.best_by is not None:
        trainer.add_callback(KeepBest(trainer, recipe.best_by, recipe.patience))
    trainer.read = (
        [*chosen, *voted] if voted else chosen,
        callbacks[0].records if callbacks else [],
        getattr(trainer, "teacher", None),
    )
    trainer.preferences, trainer.dev_preferences = preferences, callbacks[0].preferences if callbacks else ()
    encode_in_every_pass(trainer)
    return trainer


def _training_data(recipe: Recipe, rubric: Rubric) -> tuple[Sequence[Record], Sequence[Preference]]:
    """Records with scores and preferences to train on: data.train and data.preferences, or data.rated and data.train."""
    data = recipe.data
    if not find_method(recipe.method).prefers:
        records = open_records(training_source(data), rubric, skip_bad=data.skip_bad, split=data.train_split)
        return records, _preferences(data, data.preferences) if data.preferences else ()
    rated = load_records(data.rated, rubric, skip_bad=data.skip_bad, split=data.train_split) if data.rated else []
    return rated, _preferences(data, data.train)[: data.train_records]


def _preferences(data: DataRecipe, path: str) -> list[Preference]:
    return load_preferences(path, skip_bad=data.skip_bad, split=data.train_split)


def training_source(data: DataRecipe) -> Source:
    """Where the records of data.train are."""
    return Source(data.train, Fields(data.prompt_field, data.image_field))


def load_model(recipe: Recipe, device: torch.device | None = None, empty: bool = False) -> RewardModel:
    """The recipe's starting model, with its adapter when one is asked for. Default device: CUDA when there is one.

    `empty`: an engine will bring its weights.
    """
    wanted = recipe.model
    name, device = wanted.name, find_device("cpu" if recipe.trainer.get("use_cpu") else device)
    if name == COMPOSE:
        name = str(composed(recipe))
    resolution = None
    if wanted.longest_side or wanted.pixel_budget:
        resolution = ResolutionPolicy(wanted.longest_side, wanted.pixel_budget)
    if name.startswith(PREFIX):
        return _ready(_from_scratch(recipe, resolution).to(device), recipe)
    model = RewardModel.from_pretrained(
        name,
        device=device,
        rubric=Rubric.from_yaml(wanted.rubric) if wanted.rubric else None,
        dtype=wanted.dtype,
        quantization=wanted.quantization,
        resolution=resolution,
        max_trace_tokens=wanted.max_trace_tokens,
        trainable_adapter=True,
        attn_implementation=wanted.attn_implementation,
        empty=empty,
    )
    return _ready(model, recipe)


def _ready(model: RewardModel, recipe: Recipe) -> RewardModel:
    """Image tokens pooled, prepared for training, with its image cache; a calibration of what it was before is dropped."""
    wanted = recipe.model
    model.calibrations = {}
    if wanted.image_pool is not None:
        pool(model, wanted.image_pool)
    model = prepare(model, recipe)
    if wanted.image_cache:
        model.image_cache = ImageCache(wanted.image_cache, model)
    return model


def _from_scratch(recipe: Recipe, resolution: ResolutionPolicy | None) -> RewardModel:
    wanted = recipe.model
    rubric = Rubric.from_yaml(wanted.rubric) if wanted.rubric else Rubric.default()
    records, preferences = _training_data(recipe, rubric)
    options = {"max_trace_tokens": wanted.max_trace_tokens} if wanted.max_trace_tokens else {}
    prompts = [record.prompt for record in records] + [one.prompt for one in preferences]
    prompts += [record.answer for record in records if record.answer is not None]
    model = make_scratch(wanted.name.removeprefix(PREFIX), wanted.scratch, prompts, rubric, resolution, **options)
    if wanted.attn_implementation not in (None, "sdpa"):
        check_attention(wanted.attn_implementation)
        model.backbone.base.set_attn_implementation(wanted.attn_implementation)
    return model


def prepare(model: RewardModel, recipe: Recipe) -> RewardModel:
    """Freeze the vision tower, add the adapter, and keep what is trained in float32, as the recipe says."""
    wanted = recipe.model
    if wanted.freeze_vision:
        model.backbone.vision_tower.requires_grad_(False)
    if wanted.lora_rank:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=wanted.lora_rank,
            lora_alpha=wanted.lora_alpha,
            target_modules=wanted.lora_targets,
            exclude_modules=_vision_modules(model) if wanted.freeze_vision else None,
            modules_to_save=[projector_name(model.backbone.base)] if wanted.train_projector else None,
        )
        try:
            model.backbone.model = get_peft_model(model.backbone.model, config)
        except ValueError as error:
            raise InputError(f"model.lora_rank, model.lora_targets: {error}") from error
    return train_in_float32(model)


def train_in_float32(model: RewardModel) -> RewardModel:
    """Trained weights of half precision become float32; passes compute in the half precision they came in (autocast).

    A bfloat16 number has three digits: at a learning rate of 1e-5, nine of ten weights would never move.
    """
    halves = [p for p in model.backbone.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)]
    for weight in halves:
        model.computed_in = weight.dtype
        weight.data = emptied(weight, torch.float32) if model.empty else weight.data.float()
    return model


def _vision_modules(model: RewardModel) -> str:
    """A regular expression for everything inside the vision tower."""
    tower = model.backbone.vision_tower
    name = next(name for name, module in model.backbone.model.named_modules() if module is tower)
    return rf"{re.escape(name)}\..*"


def _dimensions(
    recipe: Recipe,
    method: Method,
    records: Sequence[Record],
    preferences: Sequence[Preference],
    model: RewardModel,
) -> tuple[str, ...]:
    asked = model.check_dimensions(recipe.data.dimensions)
    if not method.needs_ratings:
        return asked
    rated = tuple(name for name in asked if any(record.ratings(name) for record in records))
    if not rated:
        raise InputError(
            f"{recipe.data.train}: no record rates any of {list(asked)}; {recipe.method} needs annotations"
        )
    return tuple(name for name in asked if name in rated or any(one.counts(name) for one in preferences))


def _callbacks(
    recipe: Recipe,
    method: Method,
    trained: Sequence[Sequence[Record]],
    dimensions: tuple[str, ...],
    rubric: Rubric,
    model: RewardModel,
) -> list[Curve]:
    data = recipe.data
    if not (data.dev and recipe.eval_every):
        return []
    voted = holds_preferences(data.dev)
    known = PREFERENCE_METRICS if voted else DEV_METRICS
    if recipe.best_by is not None and recipe.best_by not in known:
        raise InputError(
            f"recipe: best_by is {recipe.best_by}, but {data.dev} holds {'preferences' if voted else 'records'}, of which the "
            f"dev curve has {', '.join(name for name in known if name in BEST_METRICS)}"
        )
    how = (method.reasons, recipe.eval_every, recipe.seed, recipe.eval_temperature, recipe.eval_batch_size)
    if voted:
        preferences = load_preferences(data.dev, skip_bad=data.skip_bad, split=data.dev_split)[: data.dev_records]
        for records in trained:
            check_disjoint(records, records_of(preferences))
        return [PreferenceCurve(model, preferences, dimensions, *how)]
    dev = open_records(data.dev, rubric, skip_bad=data.skip_bad, split=data.dev_split)[: data.dev_records]
    for records in trained:
        check_disjoint(records, dev)
    rated = [name for name in dimensions if any(r.ratings(name) for r in dev)]
    if not rated:
        raise InputError(f"{data.dev}: rates none of the trained dimensions {list(dimensions)}; leave data.dev out")
    return [DevCurve(model, list(dev), rated, *how)]
