"""What passes the decoder layers in one of several processes, and how many layers' weights it holds meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zreward.training.recipe import Recipe


@dataclass
class Passes:
    """Of a training run. The weights that are not needed must not be there: that is what splitting them is for."""

    shapes: list[Sequence[int]] = field(default_factory=list)  # rows and places of every pass with gradients
    layers: int = 0
    gathered: int = 0  # the most layers whose weights were whole at a time


def passes_of(recipe: Recipe, rank: int) -> Passes:
    return Passes(**json.loads(_file(recipe, rank).read_text()))


def _file(recipe: Recipe, rank: int) -> Path:
    return Path(f"{recipe.out}.passes-{rank}.json")


class Watch:
    """Hooks on every module of this process: networks are made later."""

    def __init__(self) -> None:
        from torch.nn.modules import module

        self.passes, self.layers = Passes(), {}
        module.register_module_forward_pre_hook(self._before)
        module.register_module_forward_hook(self._after)

    def write(self, recipe: Recipe, rank: int) -> None:
        self.passes.layers = len(self.layers)
        _file(recipe, rank).write_text(json.dumps(asdict(self.passes)))
        self.passes, self.layers = Passes(), {}

    def _before(self, module: Any, args: tuple) -> None:
        import torch

        if not (module.training and torch.is_grad_enabled()):
            return
        if _is_decoder(module):
            self.layers[id(module)] = module
            if next(iter(self.layers.values())) is module and torch._C._current_graph_task_id() == -1:
                self.passes.shapes.append(tuple(args[0].shape[:2]))
        elif self.layers:
            self._count()  # inside of a layer

    def _after(self, module: Any, args: tuple, output: Any) -> None:
        if self.layers and type(module).__name__ == "Linear" and output.requires_grad:
            output.register_hook(lambda gradient: self._count())

    def _count(self) -> None:
        self.passes.gathered = max(self.passes.gathered, sum(_is_whole(layer) for layer in self.layers.values()))


def _is_decoder(layer: Any) -> bool:
    return type(layer).__name__.endswith("DecoderLayer")


def _is_whole(layer: Any) -> bool:
    from torch.distributed.tensor import DTensor

    weight = next(each for name, each in layer.named_parameters() if "up_proj" in name)
    return (
        not isinstance(weight, DTensor) and getattr(getattr(weight, "ds_status", None), "name", "") != "NOT_AVAILABLE"
    )
