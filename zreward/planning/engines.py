"""Which engine trains on how many GPUs: from the recipe, from accelerate's configuration, or by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.common.yaml_text import read_yaml
from zreward.training.recipe import Recipe

ENGINES = ("none", "ddp", "fsdp", "zero1", "zero2", "zero3")


@dataclass(frozen=True)
class Engine:
    """`none` is one process. `reshards`: FSDP frees a block's gathered weights after its forward pass."""

    name: str = "none"
    gpus: int = 1
    reshards: bool = True
    mixed: bool = False  # accelerate's configuration asks for bfloat16 or float16
    offloads: bool = False  # to the machine's memory, which is not planned

    @property
    def shards(self) -> bool:
        """Whether each GPU holds a part of the weights only."""
        return self.name in ("fsdp", "zero3")

    @property
    def is_deepspeed(self) -> bool:
        return self.name.startswith("zero")

    @property
    def parts(self) -> dict[str, int]:
        """Into how many parts each kind is cut."""
        cut = {"none": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp": 3}[self.name]
        kinds = ("optimizer", "gradients", "weights")
        return {kind: self.gpus if place < cut else 1 for place, kind in enumerate(kinds)}


def engine_of(recipe: Recipe, accelerate: Path | None, name: str | None, gpus: int | None) -> Engine:
    """`name` and `gpus` come first, then the recipe's `trainer`, then accelerate's file.

    Raises InputError for files that cannot be read, engines that are unknown, and engines of several GPUs on one.
    """
    engine = _of_accelerate(accelerate) if accelerate else Engine()
    engine = _of_trainer(recipe.trainer, engine)
    if name is not None:
        if name not in ENGINES:
            raise InputError(f"--engine {name} is unknown; expected one of {', '.join(ENGINES)}")
        engine = replace(engine, name=name, reshards=True, offloads=False)
    engine = replace(engine, gpus=gpus or engine.gpus)
    if engine.name == "none" and engine.gpus > 1:
        if name is not None:
            raise InputError(f"--engine none is one process, --gpus is {engine.gpus}; expected --engine ddp or another")
        engine = replace(engine, name="ddp")
    return engine


def _of_accelerate(file: Path) -> Engine:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected an accelerate configuration (recipes/accelerate has examples)")
    gpus = content.get("num_processes", 1)
    if not isinstance(gpus, int) or isinstance(gpus, bool) or gpus < 1:
        raise InputError(f"{file}: num_processes is {shown(gpus)}, expected a number of GPUs")
    kind = str(content.get("distributed_type", "NO")).upper()
    start = Engine(gpus=gpus, mixed=content.get("mixed_precision") in ("bf16", "fp16"))
    if kind == "FSDP":
        return _fsdp(_part(content.get("fsdp_config"), file), start, "fsdp_")
    if kind == "DEEPSPEED":
        part = _part(content.get("deepspeed_config"), file)
        if "deepspeed_config_file" in part:
            return _deepspeed(_read(part["deepspeed_config_file"], file.parent), start, file)
        offloads = any(str(part.get(f"offload_{what}_device", "none")) != "none" for what in ("optimizer", "param"))
        return _stage(part.get("zero_stage", 2), replace(start, offloads=offloads), file)
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise InputError(f"{file}: distributed_type {kind} is not planned; expected NO, MULTI_GPU, FSDP or DEEPSPEED")
    return replace(start, name="ddp" if gpus > 1 else "none")


def _of_trainer(trainer: dict[str, Any], engine: Engine) -> Engine:
    """What `trainer` of a recipe says; it has the last word where it names an engine."""
    where = Path("trainer.deepspeed")
    deepspeed, fsdp = trainer.get("deepspeed"), trainer.get("fsdp")
    if deepspeed:
        content = deepspeed if isinstance(deepspeed, dict) else _read(deepspeed, Path())
        return _deepspeed(content, engine, where)
    if fsdp:
        words = fsdp if isinstance(fsdp, list) else str(fsdp).split()
        if "no_shard" in words:
            return replace(engine, name="ddp")
        options = dict(trainer.get("fsdp_config") or {}) if isinstance(trainer.get("fsdp_config"), dict) else {}
        if "shard_grad_op" in words:
            options["reshard_after_forward"] = False
        if "offload" in words:
            options["offload_params"] = True
        return _fsdp(options, engine, "")
    return engine


def _fsdp(options: dict[str, Any], engine: Engine, prefix: str) -> Engine:
    def get(key: str) -> Any:
        return options.get(prefix + key, options.get(key))

    strategy = str(get("sharding_strategy") or get("reshard_after_forward")).upper()
    if strategy == "NO_SHARD":
        return replace(engine, name="ddp")
    reshards = strategy not in ("FALSE", "SHARD_GRAD_OP")
    return replace(engine, name="fsdp", reshards=reshards, offloads=bool(get("offload_params")))


def _deepspeed(content: dict[str, Any], engine: Engine, where: Path) -> Engine:
    zero = _part(content.get("zero_optimization"), where)
    offloads = any(zero.get(f"offload_{what}") for what in ("optimizer", "param"))
    return _stage(zero.get("stage", 0), replace(engine, offloads=offloads), where)


def _stage(stage: Any, engine: Engine, where: Path) -> Engine:
    if isinstance(stage, bool) or stage not in (0, 1, 2, 3):
        raise InputError(f"{where}: ZeRO's stage is {shown(stage)}, expected 0, 1, 2 or 3")
    return replace(engine, name=f"zero{stage}" if stage else "ddp")


def _part(content: Any, where: Path) -> dict[str, Any]:
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{where}: {shown(content)}, expected keys and values")
    return content or {}


def _read(name: Any, folder: Path) -> dict[str, Any]:
    """DeepSpeed's JSON: where it is named from, or beside the file that names it."""
    place = Path(str(name))
    return read_json(place if place.exists() else folder / place)
