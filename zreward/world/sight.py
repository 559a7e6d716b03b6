"""The first stage of pretraining: the vision tower learns to see, by naming what stands in each quarter of a picture.

Real backbones bring a pretrained vision encoder; a tower trained only through the language model's loss is ignored by it
at this size (its gradient dies away before it becomes useful). The heads are thrown away afterwards.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from zreward.models.reward_model import RewardModel
from zreward.world.grammar import COLOURS, SHAPES, SIZES
from zreward.world.scenes import CELLS, Scene

SHADOWS = ("ok", "missing", "opposite", "distant")
CELL_CLASSES = {
    "colour": 1 + len(COLOURS),
    "shape": len(SHAPES),
    "size": len(SIZES),
    "shadow": len(SHADOWS),
    "split": 2,
}
PICTURE_CLASSES = {"noise": 3, "blur": 3, "blocks": 3, "faded": 3, "cut": 3, "harsh": 2}
_IGNORE = -100


class SightHeads(nn.Module):
    """Linear classifiers on the merged image tokens: per quarter (4 tokens each) and for the whole picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.ModuleDict({name: nn.Linear(4 * width, count) for name, count in CELL_CLASSES.items()})
        self.picture = nn.ModuleDict({name: nn.Linear(16 * width, count) for name, count in PICTURE_CLASSES.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """(N, 16, H), a 4 x 4 grid -> logits (N, 4, classes) per quarter, (N, classes) per picture."""
        N, _, H = tokens.shape
        quarters = tokens.view(N, 2, 2, 2, 2, H).permute(0, 1, 3, 2, 4, 5).reshape(N, 4, 4 * H)
        logits = {name: head(quarters) for name, head in self.cell.items()}
        return logits | {name: head(tokens.flatten(1)) for name, head in self.picture.items()}


def sight_labels(scene: Scene) -> dict[str, Tensor]:
    """The classes of one scene; quarters in reading order, attributes of an empty quarter ignored."""
    cells = [(x, y) for y in range(2) for x in range(2)]
    labels = {name: torch.full((4,), _IGNORE) for name in CELL_CLASSES}
    labels["colour"][:] = 0
    for placed in scene.objects:
        nearest = min(cells, key=lambda c: sum((a - b) ** 2 for a, b in zip(CELLS[c], placed.centre, strict=True)))
        at = cells.index(nearest)
        labels["colour"][at] = 1 + COLOURS.index(placed.colour)
        labels["shape"][at] = SHAPES.index(placed.shape)
        labels["size"][at] = SIZES.index(placed.size)
        labels["shadow"][at] = SHADOWS.index(placed.shadow)
        labels["split"][at] = int(placed.split)
    return labels | {name: torch.tensor(int(getattr(scene, name))) for name in PICTURE_CLASSES}


def learn_to_see(model: RewardModel, scenes: list[Scene], pixels: list[Tensor], steps: int, rng: random.Random) -> dict:
    """Train the vision tower for `steps` steps of 64 pictures; returns the last accuracies."""
    core = model.backbone.base.model
    heads = SightHeads(model.backbone.base.config.text_config.hidden_size)
    parameters = [*core.visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    accuracy: dict[str, float] = {}
    progress = tqdm(range(steps), desc="learning to see")
    for _ in progress:
        chosen = rng.sample(range(len(scenes)), 64)
        parts = [model.layout.patchify(pixels[i]) for i in chosen]
        patches, grid = torch.cat([p for p, _ in parts]), torch.tensor([g for _, g in parts])
        tokens = torch.stack(core.get_image_features(patches, grid, return_dict=True).pooler_output)
        each = [sight_labels(scenes[i]) for i in chosen]
        loss = torch.zeros(())
        for name, logits in heads(tokens).items():
            labels = torch.stack([item[name] for item in each])
            flat, target = logits.flatten(0, -2), labels.flatten()
            loss = loss + F.cross_entropy(flat, target, ignore_index=_IGNORE)
            seen = target != _IGNORE
            hit = (flat.argmax(-1) == target)[seen].float().mean().item()
            accuracy[name] = 0.95 * accuracy.get(name, hit) + 0.05 * hit
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        progress.set_postfix({name: f"{accuracy[name]:.2f}" for name in ("colour", "shape", "noise", "shadow")})
    return accuracy
