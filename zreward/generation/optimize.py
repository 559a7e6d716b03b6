"""Optimising a generator: draw with a gradient, score, aggregate, step; evaluate held-out prompts; stop in time.

loss = -mean A(student(picture, prompt)) + anchor * drift
"""

from __future__ import annotations

import gc
import json
import random
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from zreward.common.errors import InputError, NotFiniteError
from zreward.common.files import atomic_folder, write_json
from zreward.common.jobs import Job
from zreward.common.runs import RunDirectory, say
from zreward.common.termination import Terminated, termination
from zreward.distribution import ScoreDistribution
from zreward.generation.adaptation import Adaptation, load_pipeline
from zreward.generation.anchor import drift
from zreward.generation.confidence import confidence_of
from zreward.generation.disturb import disturbed
from zreward.generation.evaluator import Evaluator
from zreward.generation.final import measure_final
from zreward.generation.guards import Guards
from zreward.generation.inputs import generator_fingerprint, inputs_of
from zreward.generation.judges import load_judge, load_student
from zreward.generation.monitor import load_monitor
from zreward.generation.outcome import OUTCOME, PAGE, Outcome, is_finished, read_outcome, write_outcome
from zreward.generation.pages import describe_ending, write_optimization_page
from zreward.generation.prompts import load_prompts
from zreward.generation.recipe import HOLDOUT, NO_JUDGE, OptimizeRecipe, stored_recipe
from zreward.generation.sampling import SamplingPlan, draw
from zreward.generation.state import load_state, save_state
from zreward.models.dry_checks import warm_up_notes
from zreward.models.finished import check_left
from zreward.models.kernels.check import use_right_kernels

_KEPT = 2  # checkpoints
FROZEN = "frozen.safetensors"  # the student's distributions of the frozen generator's pictures


def optimize(recipe: OptimizeRecipe, resume: bool = False) -> Outcome:
    """Train a generator by a reward model's gradient, to the end of the recipe or until a guard stops it.

    Args:
        recipe: `zreward.common.config.load_config(OptimizeRecipe, path)` reads one from YAML.
        resume: continue from the run's last complete checkpoint; a finished run is left alone.

    Returns:
        How it ended, and the folder of the last good weights, `recipe.out`/model.

    Raises:
        InputError: wrong recipe, prompts or models, before anything is trained.
        FloatingPointError: a reward or gradient that is not finite; the last good weights are kept.
        Terminated: SIGTERM came; the run has ended with a checkpoint after the step.
    """
    if not isinstance(recipe, OptimizeRecipe):
        raise InputError(
            f"optimize: recipe is {recipe!r:.100}, expected an OptimizeRecipe; read one with "
            "zreward.common.config.load_config(OptimizeRecipe, path)"
        )
    run = RunDirectory(Path(recipe.out))
    accelerator, finished = _accelerator(recipe, run.path), is_finished(run.path)
    with run.claim(recipe.to_dict(), resume, finished, stored_recipe, writes=accelerator.is_main_process):
        if resume and finished:
            again = "use --resume, which continues from the last checkpoint and writes it again"
            check_left(run.path / "model", f"delete {run.path / OUTCOME} and {again}")
            say(f"{run.path} is finished: nothing to do")
            return read_outcome(run.path)
        accelerator.wait_for_everyone()  # before the first of them writes into the folder that the others read
        return _run(recipe, accelerator, run, resume)


def _run(recipe: OptimizeRecipe, accelerator: Accelerator, run: RunDirectory, resume: bool) -> Outcome:
    optimization = _Optimization(recipe, accelerator, run)
    if accelerator.is_main_process:
        if resume:
            run.check_inputs(optimization.inputs)
        else:
            run.start(recipe.to_dict(), optimization.inputs)
        for note in warm_up_notes(recipe.optimizer.steps, recipe.optimizer.warmup_steps):
            say(note)
        if recipe.reward.confidence is not None and "direct" not in optimization.student.calibrations:
            say(
                f"reward.confidence: {recipe.student} is not calibrated; its own distribution is used (zreward calibrate)"
            )
    if recipe.report_to:
        accelerator.init_trackers("zreward", config={"recipe": json.dumps(recipe.to_dict())})
    if resume:
        optimization.resume()
    try:
        outcome = optimization.run_to_end()
        prompts, evaluations = optimization.final_prompts, optimization.guards.evaluations
        job = optimization.evaluator.job
        del optimization
        _free_memory()  # the comparison loads generators and judges anew
        accelerator.wait_for_everyone()  # all load what the first one has written
        final = measure_final(recipe, prompts, accelerator.device, job)
    finally:
        accelerator.end_training()
    if accelerator.is_main_process:
        grids = sorted((run.path / "grids").glob("step-*.png"))
        command = shlex.join(["zreward", "optimize", str(run.path / run.config)])
        facts = {"command": command, "student": recipe.student, "seed": recipe.seed}
        ending = describe_ending(outcome.step, outcome.stopped_at, outcome.guard, outcome.message, recipe.holdout)
        write_optimization_page(run.path / PAGE, evaluations, grids, ending, facts, final)
    return outcome


def _free_memory() -> None:
    gc.collect()  # hooks and modules refer to one another
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _accelerator(recipe: OptimizeRecipe, run: Path) -> Accelerator:
    """InputError for a precision that the device cannot do, or an unknown tracker."""
    try:
        accelerator = Accelerator(
            gradient_accumulation_steps=1,  # ours: a micro-batch is a whole draw
            mixed_precision=recipe.mixed_precision,
            log_with=recipe.report_to or None,
            project_dir=str(run),
        )
    except ValueError as error:
        raise InputError(
            f"recipe: mixed_precision is {recipe.mixed_precision!r}, report_to {recipe.report_to}: accelerate refuses: {error}"
        ) from error
    if recipe.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("recipe: mixed_precision is 'fp16', but the device is a CPU; expected a GPU, or bf16 or no")
    return accelerator


def _split(held_out: list[str], recipe: OptimizeRecipe) -> tuple[list[str], list[str]]:
    """Held-out prompts for the evaluations, which choose weights, and others for the final comparison, which is made once."""
    watched = recipe.guards.prompts
    needed = watched + (recipe.final.prompts if recipe.final.judge != NO_JUDGE else 0)
    if len(held_out) < needed:
        raise InputError(
            f"held_out {recipe.held_out}: {len(held_out)} prompts, expected {needed} (guards.prompts and final.prompts); "
            "add prompts or lower these"
        )
    return held_out[:watched], held_out[watched:needed]


class _Optimization:
    def __init__(self, recipe: OptimizeRecipe, accelerator: Accelerator, directory: RunDirectory) -> None:
        self.recipe, self.accelerator, self.directory, self.run = recipe, accelerator, directory, directory.path
        self.prompts = load_prompts(recipe.prompts, recipe.seed)
        held_out = load_prompts(recipe.held_out, recipe.seed + 1, set(self.prompts))
        both = set(self.prompts) & set(held_out)
        if both:
            raise InputError(
                f"held_out {recipe.held_out}: {len(both)} of its prompts are trained on, such as {min(both)!r}"
            )
        watched, self.final_prompts = _split(held_out, recipe)
        device = accelerator.device
        self.student = load_student(recipe, device)
        use_right_kernels(self.student.backbone, [self.student.backbone.base.dtype], device)
        self.dimensions = self.student.check_dimensions(recipe.reward.dimensions)
        recipe.reward.aggregate.check(self.dimensions, len(self.student.rubric.scale))
        size = recipe.optimizer.batch_size
        holdout = load_judge(recipe.holdout, device, recipe.guards.holdout_reasoning, size) if recipe.holdout else None
        self.pipeline = load_pipeline(recipe.generator, device)
        self.inputs = inputs_of(generator_fingerprint(self.pipeline), self.prompts, held_out, self.student, holdout)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)  # a new adapter's weights are random
            self.adaptation = Adaptation(self.pipeline, recipe.generator, recipe.optimizer.average)
        self.optimizer = torch.optim.AdamW(
            self.adaptation.weights.values(),
            lr=recipe.optimizer.learning_rate,
            weight_decay=recipe.optimizer.weight_decay,
        )
        # Half-precision gradients vanish unless they are scaled; without fp16 it does nothing.
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.mixed_precision == "fp16")
        self.guards = Guards(recipe.guards, recipe.monitor)
        self.step = 0
        self.options = recipe.generator.options
        final = load_judge(recipe.final.judge) if recipe.final.judge not in (HOLDOUT, NO_JUDGE) else None
        how = (holdout, final, recipe.generator.steps, size, self.options)
        job = Job(accelerator.process_index + 1, accelerator.num_processes) if accelerator.num_processes > 1 else None
        monitor = load_monitor(recipe, self.student) if recipe.monitor.enabled else None
        if monitor is not None:
            self.inputs["monitor"] = {"data": monitor.fingerprint}
        given = (self.adaptation, watched, self.student, self.dimensions, recipe.reward.aggregate)
        self.evaluator = Evaluator(*given, *how, job, monitor, self.run / FROZEN)

    # The loop.

    def run_to_end(self) -> Outcome:
        recipe, steps = self.recipe, self.recipe.optimizer.steps
        if self.step == 0:
            self._look()
        bar = tqdm(total=steps, initial=self.step, desc="optimize", unit="step", disable=not self._is_main)
        with termination() as asked, bar:
            while self.step < steps and not self.guards.tripped:
                metrics = self._train_step()
                self.step += 1
                self._log(metrics)
                bar.update()
                bar.set_postfix(reward=metrics["reward"], drift=metrics["drift"])
                if self.step % recipe.guards.every == 0 or self.step == steps:
                    self._look()
                if self._is_asked_to_stop(asked) and self.step < steps:
                    self._checkpoint()
                    raise Terminated(f"stopped by SIGTERM at step {self.step}; continue with --resume")
                if self.step % recipe.save_every == 0:
                    self._checkpoint()
        return self._finish()

    def _is_asked_to_stop(self, asked: Event) -> bool:
        """Whether SIGTERM came to one of the processes."""
        if asked.is_set():
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def _train_step(self) -> dict[str, float]:
        recipe, settings = self.recipe, self.recipe.optimizer
        rng = random.Random(f"{recipe.seed}-{self.step}-{self.accelerator.process_index}")
        torch.manual_seed(rng.randrange(2**62))
        self._set_rate()
        totals: dict[str, float] = {}
        for _ in range(settings.gradient_accumulation):
            loss, metrics = self._loss(rng)
            self.scaler.scale(loss / settings.gradient_accumulation).backward()
            for key, value in metrics.items():
                totals[key] = totals.get(key, 0.0) + value / settings.gradient_accumulation
        weights = list(self.adaptation.weights.values())
        if self.accelerator.num_processes > 1:
            for weight in weights:
                weight.grad = self.accelerator.reduce(weight.grad, reduction="mean")
        self.scaler.unscale_(self.optimizer)  # after the reduction, so that all processes see the same overflow
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        if not torch.isfinite(norm) and not self._may_overflow():
            raise FloatingPointError(
                f"step {self.step + 1}: the gradient is not finite; the last good weights are in {self.run / 'best'}. Lower "
                "optimizer.learning_rate or gradient.steps"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.adaptation.update_average()
        return totals | {"grad_norm": norm.item()}

    def _may_overflow(self) -> bool:
        """Whether a gradient that is not finite may be due to the scale, which is lowered then and the step left out."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def _loss(self, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        recipe, count = self.recipe, self.recipe.optimizer.batch_size
        prompts = rng.choices(self.prompts, k=count)
        seeds = [rng.randrange(2**31) for _ in prompts]
        plan = SamplingPlan(
            recipe.generator.steps, rng.randint(*recipe.gradient.steps), rng.randint(*recipe.gradient.skipped)
        )
        with self.accelerator.autocast():
            drawn = draw(self.pipeline, prompts, seeds, plan, recipe.gradient.checkpointing, **self.options)
        reward, gradient, sure = self._reward_gradient(drawn.pixels, prompts, self._reference(prompts, seeds))
        with self.adaptation.frozen() as frozen, self.accelerator.autocast():
            moved = drift(drawn.calls, frozen)
        # Linear in the pixels with the reward's gradient: what the chain rule makes of it in the generator is the same.
        loss = -(gradient * drawn.pixels.float()).sum() + recipe.guards.anchor * moved
        metrics = {"reward": reward.mean().item(), "drift": moved.item(), "gradient_steps": plan.gradient_steps}
        return loss, metrics if sure is None else metrics | {"confidence": sure.mean().item()}

    def _reward_gradient(
        self, pictures: Tensor, prompts: Sequence[str], reference: ScoreDistribution | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rewards (N,), the gradient of their mean to the pictures, and the weights (N,) in that mean where confidence weighs it.

        Taken before the generator's own backward pass begins, copy by copy, so that nothing of the reward model's is kept
        beside it.
        """
        recipe, rewards, weights = self.recipe.reward, [], []
        pixels = pictures.detach().float().requires_grad_()
        gradient = torch.zeros_like(pixels)
        for _ in range(recipe.copies):
            reward, scores = self._reward(disturbed(pixels, recipe.shift, recipe.noise), prompts, reference)
            rewards.append(reward.detach())
            if recipe.confidence is not None:
                weights.append(confidence_of(scores, recipe.confidence, recipe.aggregate.weights))
                reward = weights[-1] * reward
            gradient += torch.autograd.grad(reward.mean() / recipe.copies, pixels)[0]
        return torch.stack(rewards).mean(0), gradient, torch.stack(weights).mean(0) if weights else None

    def _reward(
        self, pixels: Tensor, prompts: Sequence[str], reference: ScoreDistribution | None
    ) -> tuple[Tensor, ScoreDistribution]:
        """(N,), and the distributions behind them; FloatingPointError where one is not finite."""
        try:
            scores = self.student(pixels, prompts, self.dimensions, memory=self.recipe.reward.memory)
            reward = self.recipe.reward.aggregate(scores, reference)
        except NotFiniteError as error:
            raise FloatingPointError(
                f"step {self.step + 1}: the reward of {len(prompts)} pictures: {error}; the last good weights are in "
                f"{self.run / 'best'}"
            ) from error
        if not bool(torch.isfinite(reward).all()):
            bad = int((~torch.isfinite(reward)).nonzero()[0])
            raise FloatingPointError(
                f"step {self.step + 1}: the reward of {prompts[bad]!r} is {reward[bad].item()}; the last good weights are in "
                f"{self.run / 'best'}"
            )
        return reward, scores

    def _reference(self, prompts: Sequence[str], seeds: Sequence[int]) -> ScoreDistribution | None:
        """Scores of the frozen generator's pictures of the same prompts and seeds, where the aggregate compares."""
        if self.recipe.reward.aggregate.kind != "beats":
            return None
        with torch.no_grad(), self.adaptation.frozen_pipeline() as pipeline:
            drawn = draw(pipeline, prompts, seeds, SamplingPlan(self.recipe.generator.steps), **self.options)
            return self.student(drawn.pixels.float(), prompts, self.dimensions)

    def _set_rate(self) -> None:
        settings = self.recipe.optimizer
        warm = min(1.0, (self.step + 1) / max(1, settings.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * warm

    # Looks, and what is kept.

    def _look(self) -> None:
        """Measure held-out pictures, and keep the weights when they are the best so far."""
        evaluation = self.evaluator.evaluate(self.step, self.run / "grids")
        better = self.guards.see(evaluation)
        if not self._is_main:
            return
        if better:
            self._keep("best")
        write_json(self.run / "looks.json", self.guards.to_dict())
        facts = {f"evaluation/{key}": value for key, value in evaluation.to_dict().items() if isinstance(value, float)}
        facts |= {f"monitor/{key}": value for key, value in evaluation.monitor.items()}
        self.accelerator.log(facts, step=self.step)

    def _keep(self, name: str) -> None:
        """The averaged weights under a name, whole or not at all."""
        with atomic_folder(self.run / name) as folder:
            self.adaptation.save(folder)

    def _checkpoint(self) -> None:
        if not self._is_main:
            return
        facts = {"step": self.step, "guards": self.guards.to_dict(), "scaler": self.scaler.state_dict()}
        folder = self.directory.checkpoint_folder / f"step-{self.step}"
        save_state(folder, self.adaptation.weights, self.adaptation.average, self.optimizer, facts)
        self.directory.keep_checkpoints(_KEPT)

    def resume(self) -> None:
        """Go on from the last whole checkpoint; from the start when there is none."""
        folder = self.directory.last_checkpoint()
        if folder is None:
            if self._is_main:
                self.directory.cut_metrics(0)
            return
        facts = load_state(folder, self.adaptation.weights, self.adaptation.average, self.optimizer)
        self.step = facts["step"]
        self.guards = Guards.from_dict(self.recipe.guards, facts["guards"], self.recipe.monitor)
        if self.scaler.is_enabled() and "scaler" in facts:  # version 0.1 did not scale
            self.scaler.load_state_dict(facts["scaler"])
        if self._is_main:
            self.directory.cut_metrics(self.step)
            self.directory.keep_checkpoints(_KEPT)  # a kill may have come before that

    def _finish(self) -> Outcome:
        """`model` holds the best evaluation's weights; without guards, the last ones."""
        guards = self.guards
        guard, message = guards.tripped or (None, f"ran all {self.step} steps")
        if not self._is_main:
            return Outcome(self.run / "model", self.step, self.step, guard, message)
        if (guards.recipe.enabled or guards.monitor.enabled) and guards.best is not None:
            step = guards.best.step
            with atomic_folder(self.run / "model") as folder:
                shutil.copytree(self.run / "best", folder, dirs_exist_ok=True)
        else:
            step = self.step
            self._keep("model")
        outcome = Outcome(self.run / "model", step, self.step, guard, message)
        write_outcome(self.run, outcome)
        return outcome

    def _log(self, metrics: dict[str, float]) -> None:
        if self._is_main:
            self.directory.append_metrics({"step": self.step} | metrics)
        self.accelerator.log(metrics, step=self.step)

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process
