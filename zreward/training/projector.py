"""The projector of a model of pretrained parts is trained first and faster: it starts from random weights, the parts do not.

One run has both stages: while the projector is trained alone, the learning rate of everything else is zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from transformers import get_scheduler

from zreward.common.errors import InputError
from zreward.models.backbone import Backbone
from zreward.models.tower import projector_of
from zreward.training.recipe import OptimizerRecipe

_MARK = "projector"  # key of its groups of an optimizer


def give_own_groups(optimizer: Optimizer, backbone: Backbone, recipe: OptimizerRecipe) -> None:
    """Move the projector's weights into groups of the optimizer with their own learning rate."""
    own = {id(weight) for weight in projector_of(backbone.base).parameters()}
    for group in list(optimizer.param_groups):
        moved = [weight for weight in group["params"] if id(weight) in own]
        if not moved:
            continue
        group["params"] = [weight for weight in group["params"] if id(weight) not in own]
        rate = recipe.projector_learning_rate or group["lr"]
        optimizer.add_param_group({**group, "params": moved, "lr": rate, "initial_lr": rate, _MARK: True})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


def hold_the_rest(scheduler: Any, recipe: OptimizerRecipe, steps: int) -> None:
    """Change a schedule of `steps` steps: all but the projector waits for `projector_steps`, then has its curve in what is left.

    InputError for a run that ends before the rest begins.
    """
    first = recipe.projector_steps
    if first >= steps:
        raise InputError(f"recipe: optimizer.projector_steps is {first}, expected fewer than optimizer.steps ({steps})")
    stand_in = SGD([nn.Parameter(torch.zeros(1))])  # a schedule changes the optimizer that it is made for
    later: Any = get_scheduler(recipe.schedule, stand_in, recipe.warmup_steps, steps - first)
    curve = later.lr_lambdas[0]
    for number, group in enumerate(scheduler.optimizer.param_groups):
        if not group.get(_MARK):
            scheduler.lr_lambdas[number] = lambda step: 0.0 if step < first else curve(step - first)
        group["lr"] = scheduler.base_lrs[number] * scheduler.lr_lambdas[number](0)
