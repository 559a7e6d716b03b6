"""Pretrain the world's base models: they learn to see, to name what they see in a trace, and to hold an uncalibrated opinion.

The opinion counts defects and gives each the same weight, with a wide spread: right in direction, wrong by the rubric,
whose severities (`scenes.SEVERITY`) appear nowhere in pretraining. Some rows reason, some answer directly. Without a
trace the opinion is a first impression: what is wrong in the other dimensions colours it (the halo effect of human raters).
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from zreward.models.pixels import to_pixels
from zreward.models.reward_model import RewardModel, Row
from zreward.objectives import pointwise_cross_entropy
from zreward.world.base_models import FORMS, SPECS, as_judge, make_base
from zreward.world.checklist import ChecklistHeads
from zreward.world.deepen import deepen
from zreward.world.explain import explain
from zreward.world.grammar import sample_prompt
from zreward.world.renderer import render
from zreward.world.scenes import DIMENSIONS, Scene, sample_scene
from zreward.world.sight import learn_to_see


@dataclass(frozen=True)
class PretrainConfig:
    size: str = "large"  # large or small
    sight_steps: int = 1000  # first stage: the vision tower alone (see `sight`)
    steps: int = 1800  # second stage: everything, on traces and opinions
    scenes: int = 24000  # rendered once, drawn from again and again
    images_per_step: int = 32
    rows_per_image: int = 2  # different dimensions of one image share its vision pass
    learning_rate: float = 1.2e-3  # peak, after a linear warm-up of 100 steps; cosine to 1 %
    vision_rate: float = 0.3  # the vision tower's share of the learning rate in the second stage
    direct_share: float = 0.25  # rows that answer without a trace
    alignment_share: float = 0.5  # alignment needs the most seeing; the other three dimensions share the rest
    points_per_defect: float = 0.9  # the opinion: 5 minus this for every defect, whatever it is
    halo: float = 0.5  # of a first impression, the part that belongs to the other dimensions
    opinion_spread: float = 0.8  # standard deviation of the opinion's distribution, in points
    checklist_steps: int = 0  # third stage: also findings at the places of the prompt's checklist (see `checklist`)
    checklist_halo: float = 0.5  # the halo from the third stage on
    relation_steps: int = 0  # fourth stage: a deeper model, and also how two objects stand to each other
    relation_rate: float = 0.5  # the fourth stage's share of the learning rate
    wrong_relations: float = 0.25  # of its pictures, the part drawn from those with a wrong relation
    first_layers: int | None = None  # of the language model before the fourth stage; default: all
    seed: int = 0

    def with_seed(self, seed: int) -> PretrainConfig:
        return replace(self, seed=seed)


CONFIGS = {
    "large": PretrainConfig("large", sight_steps=2000, steps=2400),
    "small": PretrainConfig(
        "small",
        sight_steps=2500,
        steps=3000,
        direct_share=0.6,
        halo=0.35,
        checklist_steps=2000,
        checklist_halo=0.6,
        relation_steps=2500,
        first_layers=4,
    ),
}
"""How the shipped weights were made."""


def pretrain(config: PretrainConfig, out: Path) -> RewardModel:
    """Train one base model from random weights and save it to `out` (also every 400 steps)."""
    rng = random.Random(config.seed)
    model = make_base(config.size, seed=config.seed, layers=config.first_layers)
    scenes = [sample_scene(sample_prompt(rng), rng) for _ in tqdm(range(config.scenes), desc="scenes")]
    pixels = [to_pixels(render(scene)) for scene in tqdm(scenes, desc="pictures")]
    accuracy = learn_to_see(model, scenes, pixels, config.sight_steps, rng) if config.sight_steps else {}
    learner = _Learner(config, scenes, pixels, accuracy, out)
    learner.learn(model, config.steps, rng)
    if config.checklist_steps:
        model = learner.with_checklist(model)
    if config.relation_steps:
        model = learner.with_relations(model)
    return model


class _Learner:
    """The stages that learn traces and opinions."""

    def __init__(
        self, config: PretrainConfig, scenes: list[Scene], pixels: list[Tensor], sight: dict[str, float], out: Path
    ) -> None:
        self.config, self.scenes, self.pixels, self.sight, self.out = config, scenes, pixels, sight, out
        self.halo, self.rate = config.halo, config.learning_rate
        self.wrong_relations = [n for n, scene in enumerate(scenes) if scene.relation_wrong]
        self.log: list[dict[str, float]] = []

    def with_checklist(self, model: RewardModel) -> RewardModel:
        """The third stage: prompts end with the checklist."""
        self.halo = self.config.checklist_halo
        model = as_judge(model.backbone.model, model.tokenizer, FORMS[self.config.size])
        rng = random.Random(f"{self.config.seed} checklist")
        self.learn(model, self.config.checklist_steps, rng, ChecklistHeads(model))
        return model

    def with_relations(self, model: RewardModel) -> RewardModel:
        """The fourth stage: a deeper model, which also learns how objects stand to each other."""
        config = self.config
        torch.manual_seed(config.seed)
        network = deepen(model.backbone.model, SPECS[config.size].layers)
        model = as_judge(network, model.tokenizer, FORMS[config.size])
        self.halo, self.rate = config.checklist_halo, config.learning_rate * config.relation_rate
        rng = random.Random(f"{config.seed} relations")
        self.learn(model, config.relation_steps, rng, ChecklistHeads(model, relations=True))
        return model

    def learn(self, model: RewardModel, steps: int, rng: random.Random, heads: ChecklistHeads | None = None) -> None:
        config = self.config
        vision = list(model.backbone.base.model.visual.parameters())
        in_vision = {id(parameter) for parameter in vision}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in in_vision]
        rest += heads.parameters() if heads else []
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": vision, "lr": self.rate * config.vision_rate},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, steps))
        progress = tqdm(range(steps), desc=f"pretraining {config.size}" + " with its checklist" * bool(heads))
        for step in progress:
            losses = self._losses(model, heads, rng)
            optimizer.zero_grad()
            (losses["trace"] + 0.25 * losses["score"] + losses.get("checklist", 0.0)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                self.log.append({"step": step} | {f"{name}_loss": loss.item() for name, loss in losses.items()})
                progress.set_postfix({key: f"{value:.3f}" for key, value in self.log[-1].items() if key != "step"})
            if (step + 1) % 400 == 0 or step + 1 == steps:
                model.save_pretrained(self.out)
                facts = {"config": asdict(config), "sight": self.sight, "log": self.log}
                (self.out / "pretraining.json").write_text(json.dumps(facts, indent=1))

    def _losses(self, model: RewardModel, heads: ChecklistHeads | None, rng: random.Random) -> dict[str, Tensor]:
        chosen = self._choose(rng, self.config.wrong_relations if heads and heads.relations else 0.0)
        rows, targets = _rows([self.scenes[i] for i in chosen], model, self.config, self.halo, rng)
        inputs = model.collate([self.pixels[i] for i in chosen], rows)
        output = model.backbone(inputs)
        has_trace = torch.tensor([row.trace is not None for row in rows])
        losses = {
            "trace": -_mean_trace_log_prob(output.trace_log_probs, rows)[has_trace].mean(),
            "score": pointwise_cross_entropy(output.score_logits.log_softmax(-1), targets),
        }
        if heads:
            losses["checklist"] = heads.loss(inputs, [self.scenes[chosen[row.image]] for row in rows])
        return losses

    def _choose(self, rng: random.Random, wrong_relations: float) -> list[int]:
        count = self.config.images_per_step
        wrong = rng.sample(self.wrong_relations, round(wrong_relations * count))
        return [*wrong, *rng.sample(range(len(self.scenes)), count - len(wrong))]


def opinion(scene: Scene, dimension: str, points_per_defect: float, halo: float) -> float:
    """What the base model thinks of a scene, in points: every defect costs the same, whatever it is."""
    count = {name: len(scene.defects(name)) for name in DIMENSIONS}
    defects: float = count.pop(dimension)
    defects += halo * (sum(count.values()) / len(count) - defects)
    return max(1.0, 5.0 - points_per_defect * defects)


def _rows(
    scenes: list[Scene], model: RewardModel, config: PretrainConfig, halo: float, rng: random.Random
) -> tuple[list[Row], Tensor]:
    rows, targets = [], []
    others = [name for name in DIMENSIONS if name != "alignment"]
    for index, scene in enumerate(scenes):
        first = "alignment" if rng.random() < config.alignment_share * config.rows_per_image else rng.choice(others)
        names = [first, *rng.sample([n for n in others if n != first], config.rows_per_image - 1)]
        for name in names:
            trace = None
            if rng.random() >= config.direct_share:
                trace = model.as_trace(explain(scene, name))
            rows.append(Row(index, scene.prompt.text, name, trace))
            points = opinion(scene, name, config.points_per_defect, halo if trace is None else 0.0)
            targets.append(_spread(points, config.opinion_spread, model))
    return rows, torch.stack(targets)


def _spread(score: float, std: float, model: RewardModel) -> Tensor:
    """(S,): a discretised Gaussian around a score."""
    weights = torch.exp(-0.5 * ((model.rubric.scale.bins - score) / std) ** 2)
    return weights / weights.sum()


def _mean_trace_log_prob(log_probs_NT: Tensor | None, rows: list[Row]) -> Tensor:
    """(N,): mean log-probability over each row's trace tokens."""
    assert log_probs_NT is not None, "a batch of pretraining rows holds at least one trace"
    lengths = torch.tensor([max(1, len(row.trace) if row.trace else 0) for row in rows])
    return log_probs_NT.sum(1) / lengths


def _cosine(step: int, steps: int, warmup: int = 100) -> float:
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
