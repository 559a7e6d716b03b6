"""Help for pretraining the small model: at every place of the checklist in its prompt, know what is found there.

A real backbone knows much that it does not say. At this size a direct answer learns to look only as far as one number per
picture tells it to, which for alignment (which object has which colour, and where) is not far. The small model's prompt
therefore ends with a checklist, and pretraining asks at each of its places, one layer before the last, what is drawn there
and whether the prompt asked for it. The heads are thrown away afterwards, as those of `sight` are: what stays is a state
from which findings can be read, and an uncalibrated opinion.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zreward.models.backbone import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.world.explain import ROLES
from zreward.world.grammar import COLOURS, SHAPES, SIZES
from zreward.world.scenes import CELLS, PlacedObject, Scene

ATTRIBUTES: dict[str, tuple[Any, ...]] = {"cell": tuple(CELLS), "size": SIZES, "colour": COLOURS, "shape": SHAPES}
CHECKLIST = " " + " ".join([*(f"{role} colour shape" for role in ROLES), "relation extra"])
# Indices of its words; an object's name stands for its cell and for its size.
PLACES = (0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10)
UNASKED = -100  # no such object: nothing to learn at this place


class ChecklistHeads(nn.Module):
    """Linear classifiers at the checklist's places: is something wrong there, and what is drawn there."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        base = model.backbone.base
        width = base.config.text_config.hidden_size
        self.wrong = nn.Parameter(torch.zeros(len(PLACES), width))
        self.drawn = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})
        self._start_id: int = model.tokenizer.convert_tokens_to_ids(model.tokenizer.tokenize(f" {ROLES[0]}"))[0]
        self._norm = (base.model.language_model.norm,)  # in a tuple: used here, not owned
        base.model.language_model.layers[-1].register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._states_NTH: Tensor = args[0] if args else kwargs["hidden_states"]

    def loss(self, inputs: ModelInput, scenes: list[Scene]) -> Tensor:
        """Of the forward pass just made, one scene per row: mean over the places that ask something."""
        # Prompts do not hold the word, traces come later.
        start_N = (inputs.input_ids == self._start_id).int().argmax(1)
        rows = torch.arange(len(scenes))[:, None]
        states_NPH = self._norm[0](self._states_NTH[rows, start_N[:, None] + torch.tensor(PLACES)])
        wrong_NP = torch.tensor([_wrong(scene) for scene in scenes])
        logits_NP = (states_NPH * self.wrong).sum(-1)
        asked = wrong_NP != UNASKED
        loss = F.binary_cross_entropy_with_logits(logits_NP[asked], wrong_NP[asked].float())
        for number, (name, head) in enumerate(self.drawn.items()):
            values = torch.tensor([_drawn(scene, name) for scene in scenes])
            logits = head(states_NPH[:, number : len(ROLES) * len(ATTRIBUTES) : len(ATTRIBUTES)])
            loss = loss + F.cross_entropy(logits.flatten(0, 1), values.flatten(), ignore_index=UNASKED) / len(
                ATTRIBUTES
            )
        return loss


def _wrong(scene: Scene) -> list[int]:
    """(P,): for every object whether it is missing and which attributes differ; the relation; an extra object."""
    found: list[int] = []
    for role in range(len(ROLES)):
        placed = scene.drawn(role)
        if placed is not None:
            found += [0, *(int(name in placed.wrong) for name in ("size", "colour", "shape"))]
        else:
            found += [1 if role < len(scene.prompt.objects) else UNASKED, UNASKED, UNASKED, UNASKED]
    related = scene.prompt.relation and scene.drawn(0) and scene.drawn(1)
    return [*found, int(scene.relation_wrong) if related else UNASKED, int(scene.extra is not None)]


def _drawn(scene: Scene, attribute: str) -> list[int]:
    """(3,): the index of each object's value."""
    placed = [scene.drawn(role) for role in range(len(ROLES))]
    return [UNASKED if one is None else ATTRIBUTES[attribute].index(_value(one, attribute)) for one in placed]


def _value(placed: PlacedObject, attribute: str) -> Any:
    if attribute == "cell":
        return tuple(int(coordinate > 16) for coordinate in placed.centre)
    return getattr(placed, attribute)
