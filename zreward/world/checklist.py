"""Help for pretraining the base models: at every place of the checklist in the prompt, know what is found there.

A real backbone knows much that it does not say. At this size a direct answer learns to look only as far as one number per
picture tells it to, which for alignment (which object has which colour, and where) is not far. The prompt therefore
ends with a checklist, and pretraining asks at each of its places, one layer before the last, what is drawn there
and whether the prompt asked for it. A relation needs more: both objects have to be found, then compared, then held against
the prompt. For it the models grow by two layers (see `deepen`), and each finding is asked for in the first layer that can
have it. The heads are thrown away afterwards, as those of `sight` are: what stays is a state from which findings can be
read, and an uncalibrated opinion.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zreward.models.inputs import ModelInput
from zreward.models.reward_model import RewardModel
from zreward.world.explain import ROLES
from zreward.world.grammar import COLOURS, OPPOSITE, RELATIONS, SHAPES, SIZES
from zreward.world.scenes import CELLS, PlacedObject, Scene

ATTRIBUTES: dict[str, tuple[Any, ...]] = {"cell": tuple(CELLS), "size": SIZES, "colour": COLOURS, "shape": SHAPES}
CHECKLIST = " " + " ".join([*(f"{role} colour shape" for role in ROLES), "relation extra"])
# Indices of its words; an object's name stands for its cell and for its size.
PLACES = (0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 10)
UNASKED = -100  # no such object: nothing to learn at this place


OBJECTS, RELATION, EXTRA = slice(0, 12), 12, 13  # of the places


class ChecklistHeads(nn.Module):
    """Linear classifiers at the checklist's places: is something wrong there, and what is drawn there.

    With `relations` the objects are asked for three layers before the end, how the first stands to the second two, and
    whether that is wrong one.
    """

    def __init__(self, model: RewardModel, relations: bool = False) -> None:
        super().__init__()
        self.relations = relations
        base = model.backbone.base
        width = base.config.text_config.hidden_size
        self.wrong = nn.Parameter(torch.zeros(len(PLACES), width))
        self.drawn = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTES.items()})
        self.related_cells = nn.ModuleList(nn.Linear(width, len(CELLS)) for _ in range(2))  # of the two related objects
        self.relation = nn.Linear(width, len(RELATIONS))
        self._start_id: int = model.tokenizer.convert_tokens_to_ids(model.tokenizer.tokenize(f" {ROLES[0]}"))[0]
        self._norm = (base.model.language_model.norm,)  # in a tuple: used here, not owned
        self._states_NTH: dict[int, Tensor] = {}
        for before_end in (1, 2, 3):
            layer = base.model.language_model.layers[-before_end]
            layer.register_forward_pre_hook(partial(self._keep, before_end), with_kwargs=True)

    def _keep(self, before_end: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._states_NTH[before_end] = args[0] if args else kwargs["hidden_states"]

    def loss(self, inputs: ModelInput, scenes: list[Scene]) -> Tensor:
        """Of the forward pass just made, one scene per row: mean over the places that ask something; then the relation's."""
        # Prompts do not hold the word, traces come later.
        start_N = (inputs.input_ids == self._start_id).int().argmax(1)
        rows, places = torch.arange(len(scenes))[:, None], start_N[:, None] + torch.tensor(PLACES)
        depths = (3, 2, 1) if self.relations else (1, 1, 1)
        low, middle, high = (self._norm[0](self._states_NTH[n][rows, places]) for n in depths)  # (N, P, H) each
        states_NPH = torch.cat([low[:, OBJECTS], high[:, RELATION:]], 1)
        wrong_NP = torch.tensor([_wrong(scene) for scene in scenes])
        asked_NP = wrong_NP != UNASKED
        logits_NP = (states_NPH * self.wrong).sum(-1)
        loss = _yes_or_no(logits_NP[asked_NP], wrong_NP[asked_NP])
        drawn = {name: torch.tensor([_drawn(scene, name) for scene in scenes]) for name in ATTRIBUTES}
        for number, (name, head) in enumerate(self.drawn.items()):
            loss = loss + _one_of(head(low[:, OBJECTS][:, number :: len(ATTRIBUTES)]), drawn[name]) / len(ATTRIBUTES)
        related_N = asked_NP[:, RELATION]
        if not self.relations or not related_N.any():
            return loss
        for role, head in enumerate(self.related_cells):
            loss = loss + 0.5 * _one_of(head(middle[related_N, RELATION]), drawn["cell"][related_N, role])
        relation = torch.tensor([RELATIONS.index(_drawn_relation(scene)) for scene in scenes if _related(scene)])
        loss = loss + 0.5 * _one_of(self.relation(middle[related_N, RELATION]), relation)
        return loss + 0.5 * _yes_or_no(logits_NP[related_N, RELATION], wrong_NP[related_N, RELATION])


def _yes_or_no(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels.float())


def _one_of(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=UNASKED)


def _wrong(scene: Scene) -> list[int]:
    """(P,): for every object whether it is missing and which attributes differ; the relation; an extra object."""
    found: list[int] = []
    for role in range(len(ROLES)):
        placed = scene.drawn(role)
        if placed is not None:
            found += [0, *(int(name in placed.wrong) for name in ("size", "colour", "shape"))]
        else:
            found += [1 if role < len(scene.prompt.objects) else UNASKED, UNASKED, UNASKED, UNASKED]
    return [*found, int(scene.relation_wrong) if _related(scene) else UNASKED, int(scene.extra is not None)]


def _related(scene: Scene) -> bool:
    """Whether both objects of the prompt's relation are drawn."""
    return bool(scene.prompt.relation and scene.drawn(0) and scene.drawn(1))


def _drawn_relation(scene: Scene) -> str:
    """How the first object stands to the second: a wrong relation is the opposite one."""
    asked = scene.prompt.relation
    assert asked is not None
    return OPPOSITE[asked] if scene.relation_wrong else asked


def _drawn(scene: Scene, attribute: str) -> list[int]:
    """(3,): the index of each object's value."""
    placed = [scene.drawn(role) for role in range(len(ROLES))]
    return [UNASKED if one is None else ATTRIBUTES[attribute].index(_value(one, attribute)) for one in placed]


def _value(placed: PlacedObject, attribute: str) -> Any:
    if attribute == "cell":
        return tuple(int(coordinate > 16) for coordinate in placed.centre)
    return getattr(placed, attribute)
