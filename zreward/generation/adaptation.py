"""What of a generator is trained, its average over steps, and the frozen generator that it is compared with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from zreward.common.errors import InputError
from zreward.generation.pipeline_files import find_pipeline
from zreward.generation.recipe import GeneratorRecipe, OptimizeRecipe
from zreward.generation.sampling import denoiser_of
from zreward.models.network import told_of
from zreward.models.weight_files import check_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ADAPTER = "zreward"


class Adaptation:
    """The denoiser of a pipeline with its trainable weights, their running average, and the frozen denoiser."""

    def __init__(self, pipeline: Any, recipe: GeneratorRecipe, decay: float) -> None:
        self.pipeline, self.decay, self.format = pipeline, decay, DTYPES[recipe.dtype]
        self.denoiser: Any = denoiser_of(pipeline)
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.lora = recipe.lora_rank is not None
        self._frozen: nn.Module | None = None
        if self.lora:
            self._add_adapter(recipe)
        else:
            self._frozen = copy.deepcopy(self.denoiser)
            self.denoiser.requires_grad_(True)
        self.weights = {name: p for name, p in self.denoiser.named_parameters() if p.requires_grad}
        for weight in self.weights.values():
            weight.data = weight.data.float() if weight.dtype != torch.float64 else weight.data
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def _add_adapter(self, recipe: GeneratorRecipe) -> None:
        from peft import LoraConfig

        config = LoraConfig(
            r=recipe.lora_rank or 0,
            lora_alpha=recipe.lora_alpha,
            target_modules=recipe.lora_targets,
            init_lora_weights="gaussian",
        )
        try:
            self.denoiser.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise InputError(f"generator.lora_targets {recipe.lora_targets}: {error}") from error

    def computing(self) -> torch.autocast:
        """In here a pipeline in half precision may draw with trained weights, which are float32."""
        mixed = not self.lora and self.format is not torch.float32
        return torch.autocast(self.pipeline.device.type, self.format, enabled=mixed)

    def update_average(self) -> None:
        """One step of the exponential moving average."""
        averages = [self.average[name] for name in self.weights]
        get_ema_multi_avg_fn(self.decay)(averages, [weight.detach() for weight in self.weights.values()], None)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The denoiser with its averaged weights."""
        present = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.load(self.average)
        try:
            yield
        finally:
            self.load(present)

    def load(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])

    @contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The denoiser as it was before training."""
        if self._frozen is not None:
            yield self._frozen
            return
        self.denoiser.disable_adapters()
        try:
            yield self.denoiser
        finally:
            self.denoiser.enable_adapters()

    @contextmanager
    def frozen_pipeline(self) -> Iterator[Any]:
        """The pipeline as it was before training."""
        name = next(key for key in ("unet", "transformer") if getattr(self.pipeline, key, None) is self.denoiser)
        with self.frozen() as denoiser:
            setattr(self.pipeline, name, denoiser)
            try:
                yield self.pipeline
            finally:
                setattr(self.pipeline, name, self.denoiser)

    def save(self, folder: Path) -> None:
        """The averaged weights as diffusers loads them: a LoRA file, or a whole pipeline."""
        with self.averaged():
            if not self.lora:
                self.pipeline.save_pretrained(folder, safe_serialization=True)
                return
            from peft import get_peft_model_state_dict

            layers = get_peft_model_state_dict(self.denoiser, adapter_name=ADAPTER)
            kind = "unet" if getattr(self.pipeline, "unet", None) is self.denoiser else "transformer"
            # Without its alpha a LoRA is loaded at another strength.
            facts = self.denoiser.peft_config[ADAPTER].to_dict()
            parts = {f"{kind}_lora_layers": layers, f"{kind}_lora_adapter_metadata": facts}
            type(self.pipeline).save_lora_weights(folder, **parts, safe_serialization=True)


def load_pipeline(recipe: GeneratorRecipe, device: torch.device | str) -> Any:
    """The generator in its dtype, safety checker left out (it has no gradient). Raises InputError where it cannot be had."""
    from diffusers import DiffusionPipeline

    folder = find_pipeline(recipe.name)
    with told_of(folder, "a text-to-image pipeline"):
        pipeline = DiffusionPipeline.from_pretrained(
            str(folder),
            torch_dtype=DTYPES[recipe.dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None
    denoiser_of(pipeline)
    unknown = set(recipe.options) - set(signature(type(pipeline).__call__).parameters)
    if unknown:
        raise InputError(f"generator.{min(unknown)}: {type(pipeline).__name__} takes no such option; leave it out")
    return pipeline.to(device)


def load_optimized(recipe: OptimizeRecipe, device: torch.device | str) -> Any:
    """The generator that a run left in its `model` folder: a whole pipeline, or its LoRA on the generator it began with."""
    folder = Path(recipe.out) / "model"
    if recipe.generator.lora_rank is None:
        return load_pipeline(replace(recipe.generator, name=str(folder)), device)
    pipeline = load_pipeline(recipe.generator, device)
    check_weights(folder)
    with told_of(folder, "a LoRA of its generator"):
        pipeline.load_lora_weights(folder, use_safetensors=True, local_files_only=True)
    return pipeline
