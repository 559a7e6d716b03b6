"""Pretrain the world's base models: they learn to see, to name what they see in a trace, and to hold an uncalibrated opinion.

The opinion counts defects and gives each the same weight, with a wide spread: right in direction, wrong by the rubric,
whose severities (`scenes.SEVERITY`) appear nowhere in pretraining. Some rows reason, some answer directly. Without a
trace the opinion is a first impression: what is wrong in the other dimensions colours it (the halo effect of human raters).
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from zreward.common.files import atomic_path, write_json
from zreward.models.inputs import ModelInput
from zreward.models.pixels import to_pixels
from zreward.models.reward_model import RewardModel
from zreward.models.rows import Row
from zreward.objectives import pointwise_cross_entropy
from zreward.world.base_models import CHECKLIST_FORMS, as_judge, make_base
from zreward.world.checklist import ChecklistHeads
from zreward.world.deepen import deepen
from zreward.world.explain import explain
from zreward.world.grammar import sample_prompt
from zreward.world.renderer import render
from zreward.world.scenes import DIMENSIONS, Scene, sample_scene
from zreward.world.sight import learn_to_see

FACTS = "pretraining.json"  # how the weights beside it were made


@dataclass(frozen=True)
class Stage:
    """One stage of learning traces and opinions, the whole model at once."""

    steps: int
    rate: float = 1.0  # share of the learning rate
    scenes: int = 0  # pictures rendered before the stage and drawn from again and again; 0: those of the stage before
    fresh: bool = False  # every step renders its own pictures
    layers: int | None = None  # the language model grows to as many (see `deepen`); default: as it is
    checklist: bool = False  # prompts end with the checklist, whose findings are asked for (see `checklist`)
    relations: bool = False  # of these findings, also how two objects stand to each other
    places: bool = False  # traces also say where objects stand, and so how they relate
    halo: float = 0.5  # of a first impression, the part that belongs to the other dimensions


@dataclass(frozen=True)
class PretrainConfig:
    size: str  # large or small
    sight_steps: int  # before all stages: the vision tower alone (see `sight`)
    stages: tuple[Stage, ...]
    first_layers: int  # of the language model in the first stage
    direct_share: float = 0.25  # rows that answer without a trace
    images_per_step: int = 32
    rows_per_image: int = 2  # different dimensions of one image share its vision pass
    learning_rate: float = 1.2e-3  # peak, after a linear warm-up of 100 steps; cosine to 1 %
    vision_rate: float = 0.3  # the vision tower's share of a stage's learning rate
    alignment_share: float = 0.5  # alignment needs the most seeing; the other three dimensions share the rest
    points_per_defect: float = 0.9  # the opinion: 5 minus this for every defect, whatever it is
    opinion_spread: float = 0.8  # standard deviation of the opinion's distribution, in points
    wrong_relations: float = 0.25  # of the pictures of stages about relations, the part that has a wrong one
    relation_weight: float = 0.5  # of the two words about the relation, beside the whole trace
    seed: int = 0

    def with_seed(self, seed: int) -> PretrainConfig:
        return replace(self, seed=seed)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PretrainConfig:
        """What `pretraining.json` holds under "config"."""
        return cls(**values | {"stages": tuple(Stage(**stage) for stage in values["stages"])})


CONFIGS = {
    "large": PretrainConfig(
        "large",
        sight_steps=2000,
        first_layers=4,
        stages=(
            Stage(2400, scenes=24000),
            Stage(2400, rate=0.65, scenes=24000, places=True),
            Stage(1000, rate=0.65, scenes=24000, places=True, checklist=True),
            Stage(2400, rate=0.65, fresh=True, places=True, checklist=True, relations=True, layers=6),
        ),
    ),
    "small": PretrainConfig(
        "small",
        sight_steps=2500,
        first_layers=4,
        direct_share=0.6,
        stages=(
            Stage(3000, scenes=24000, halo=0.35),
            Stage(2000, checklist=True, halo=0.6),
            Stage(2500, rate=0.5, checklist=True, relations=True, layers=6, halo=0.6),
            Stage(800, rate=0.5, fresh=True, places=True, checklist=True, relations=True, halo=0.6),
        ),
    ),
}
"""How the shipped weights were made, in several sittings: a run from the start draws other random numbers."""


def pretrain(config: PretrainConfig, out: Path) -> RewardModel:
    """Train one base model from random weights and save it to `out` (also every 400 steps)."""
    rng = random.Random(config.seed)
    model = make_base(config.size, seed=config.seed, layers=config.first_layers)
    learner = _Learner(config, out)
    for number, stage in enumerate(config.stages):
        if stage.scenes:
            learner.render(stage.scenes, rng)
        if number == 0 and config.sight_steps:
            learner.sight = learn_to_see(model, learner.scenes, learner.pixels, config.sight_steps, rng)
        model = learner.learn(model, stage, rng)
    ship(model, out, learner.facts)
    return model


def ship(model: RewardModel, out: Path, facts: dict[str, Any]) -> None:
    """Round the weights to half precision and store them so: half the size. They are loaded in float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    model.save_pretrained(out)
    weights = load_file(out / "model.safetensors")
    with atomic_path(out / "model.safetensors") as temporary:
        save_file({name: value.half() for name, value in weights.items()}, temporary, {"format": "pt"})
    write_json(out / FACTS, facts)


class _Learner:
    """The stages that learn traces and opinions."""

    def __init__(self, config: PretrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.scenes: list[Scene] = []
        self.pixels: list[Tensor] = []
        self.sight: dict[str, float] = {}  # accuracies of the vision tower's heads
        self.log: list[dict[str, float]] = []

    @property
    def facts(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "sight": self.sight, "log": self.log}

    def render(self, count: int, rng: random.Random) -> None:
        self.scenes = [_scene(rng) for _ in tqdm(range(count), desc="scenes")]
        self.pixels = [to_pixels(render(scene)) for scene in tqdm(self.scenes, desc="pictures")]

    def learn(self, model: RewardModel, stage: Stage, rng: random.Random) -> RewardModel:
        """The model after a stage: another one where it grew or got its checklist."""
        torch.manual_seed(self.config.seed)
        if stage.checklist:
            network = model.backbone.model
            if stage.layers:
                network = deepen(network, stage.layers)
            model = as_judge(network, model.tokenizer, CHECKLIST_FORMS).train()
        heads = ChecklistHeads(model, stage.relations) if stage.checklist else None
        self._learn(model, stage, heads, rng)
        return model

    def _learn(self, model: RewardModel, stage: Stage, heads: ChecklistHeads | None, rng: random.Random) -> None:
        config, rate = self.config, self.config.learning_rate * stage.rate
        vision = list(model.backbone.base.model.visual.parameters())
        in_vision = {id(parameter) for parameter in vision}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in in_vision]
        rest += heads.parameters() if heads else []
        groups: list[dict[str, Any]] = [
            {"params": rest},
            {"params": vision, "lr": rate * config.vision_rate},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, stage.steps))
        progress = tqdm(range(stage.steps), desc=f"pretraining {config.size}")
        for step in progress:
            losses = self._losses(model, stage, heads, rng)
            optimizer.zero_grad()
            relation = config.relation_weight * losses.get("relation", 0.0)
            (losses["trace"] + 0.25 * losses["score"] + losses.get("checklist", 0.0) + relation).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                self.log.append({"step": step} | {f"{name}_loss": loss.item() for name, loss in losses.items()})
                progress.set_postfix({key: f"{value:.3f}" for key, value in self.log[-1].items() if key != "step"})
            if (step + 1) % 400 == 0 or step + 1 == stage.steps:
                model.save_pretrained(self.out)
                write_json(self.out / FACTS, self.facts)

    def _losses(
        self, model: RewardModel, stage: Stage, heads: ChecklistHeads | None, rng: random.Random
    ) -> dict[str, Tensor]:
        scenes, pixels = self._draw(stage, rng)
        rows, targets = _rows(scenes, model, self.config, stage, rng)
        inputs = model.collate(pixels, rows)
        output = model.backbone(inputs)
        has_trace = torch.tensor([row.trace is not None for row in rows])
        losses = {
            "trace": -_mean_trace_log_prob(output.trace_log_probs, rows)[has_trace].mean(),
            "score": pointwise_cross_entropy(output.score_logits.log_softmax(-1), targets),
        }
        if heads:
            losses["checklist"] = heads.loss(inputs, [scenes[row.images[0]] for row in rows])
        if stage.places:
            losses["relation"] = _relation_loss(output.trace_log_probs, inputs, model)
        return losses

    def _draw(self, stage: Stage, rng: random.Random) -> tuple[list[Scene], list[Tensor]]:
        """One step's scenes and pictures, a fixed part of them with a wrong relation where the stage is about that."""
        count = self.config.images_per_step
        wrong = round(self.config.wrong_relations * count) if stage.places or stage.relations else 0
        if stage.fresh:
            scenes = [_scene(rng, wrong_relation=True) for _ in range(wrong)]
            scenes += [_scene(rng) for _ in range(count - wrong)]
            return scenes, [to_pixels(render(scene)) for scene in scenes]
        with_wrong = [number for number, scene in enumerate(self.scenes) if scene.relation_wrong] if wrong else []
        chosen = [*rng.sample(with_wrong, wrong), *rng.sample(range(len(self.scenes)), count - wrong)]
        return [self.scenes[number] for number in chosen], [self.pixels[number] for number in chosen]


def _scene(rng: random.Random, wrong_relation: bool = False) -> Scene:
    while True:
        scene = sample_scene(sample_prompt(rng), rng)
        if scene.relation_wrong or not wrong_relation:
            return scene


def opinion(scene: Scene, dimension: str, points_per_defect: float, halo: float) -> float:
    """What the base model thinks of a scene, in points: every defect costs the same, whatever it is."""
    count = {name: len(scene.defects(name)) for name in DIMENSIONS}
    defects: float = count.pop(dimension)
    defects += halo * (sum(count.values()) / len(count) - defects)
    return max(1.0, 5.0 - points_per_defect * defects)


def _rows(
    scenes: list[Scene], model: RewardModel, config: PretrainConfig, stage: Stage, rng: random.Random
) -> tuple[list[Row], Tensor]:
    rows, targets = [], []
    others = [name for name in DIMENSIONS if name != "alignment"]
    for index, scene in enumerate(scenes):
        first = "alignment" if rng.random() < config.alignment_share * config.rows_per_image else rng.choice(others)
        names = [first, *rng.sample([n for n in others if n != first], config.rows_per_image - 1)]
        for name in names:
            trace = None
            if rng.random() >= config.direct_share:
                trace = model.as_trace(explain(scene, name, stage.places))
            rows.append(Row((index,), scene.prompt.text, name, trace))
            points = opinion(scene, name, config.points_per_defect, stage.halo if trace is None else 0.0)
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


def _relation_loss(log_probs_NT: Tensor | None, inputs: ModelInput, model: RewardModel) -> Tensor:
    """Mean over the traces that speak of a relation: its two words, how the objects stand and whether that is right."""
    assert log_probs_NT is not None and inputs.trace_mask is not None, "pretraining rows hold traces"
    word = model.tokenizer.convert_tokens_to_ids(model.tokenizer.tokenize(" relation"))[0]
    rows, places = ((inputs.input_ids == word) & inputs.trace_mask.bool()).nonzero(as_tuple=True)
    if not len(rows):
        return log_probs_NT.new_zeros(())
    return -(log_probs_NT[rows, places + 1] + log_probs_NT[rows, places + 2]).mean()


def _cosine(step: int, steps: int, warmup: int = 100) -> float:
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
