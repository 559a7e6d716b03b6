"""`zreward export`: a reward model as a plain transformers folder, which vLLM serves as a one-token scorer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.files import atomic_folder, write_json, write_text
from zreward.models.checkpoint import metadata
from zreward.models.checkpoint_files import META_FILE
from zreward.models.reward_model import RewardModel
from zreward.models.tower import KEY as POOL
from zreward.models.training_data import note_seen
from zreward.publishing.processor import write_processor
from zreward.publishing.readme import README, WRITTEN, usage
from zreward.publishing.request import FILE, requests_of
from zreward.publishing.template import export_template, is_exact


def export(model: RewardModel, out: str | Path, merge: bool = False) -> Path:
    """Write the folder: weights (safetensors), processor, tokenizer, chat template, request.json, zreward.json, README.md.

    Args:
        model: with an adapter on it only where `merge` is true; it is merged in place.
        out: a new or empty folder, or a link to one; not the current one.
        merge: merge LoRA weights into the base's.

    Returns:
        `out`.

    Raises:
        InputError: an adapter without `merge`, quantised weights, a model that compares, an `out` that is in use, a model type
            whose processor is not known.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; choose another folder, or delete it")
    place = Path(os.path.realpath(out))
    if place == Path(os.path.realpath(".")):
        raise InputError(f"{out} is the current folder, which cannot be replaced; name another one")
    if model.forms.reference:
        raise InputError("the model compares with a reference picture; exported are models that score single pictures")
    if getattr(model.backbone.base.config, POOL, 1) > 1:
        raise InputError(
            f"the model pools image tokens ({POOL} in zreward.json), which transformers and vLLM do not know: they would give "
            "other scores. Serve it with `zreward serve`, or train with model.image_pool=1"
        )
    _check_weights(model, merge)
    template = export_template(model)
    exact = is_exact(model, template)
    name = os.path.basename(os.path.normpath(out))
    with atomic_folder(place) as folder:
        _merged(model).save_pretrained(folder)
        _save_tokenizer(model, template, folder)
        write_processor(model, folder)
        write_text(folder / META_FILE, json.dumps(metadata(model) | note_seen(model, folder), indent=2))
        write_json(folder / FILE, requests_of(model, name, exact))
        write_text(folder / README, f"# {name}\n\n{WRITTEN}\n\n{usage(name, model.rubric.dimension_names[0], exact)}")
    return out


def _check_weights(model: RewardModel, merge: bool) -> None:
    network = model.backbone.model
    if getattr(model.backbone.base, "is_quantized", False) or getattr(model, "quantization", None):
        raise InputError("the weights are quantised; load the model without quantization and export that")
    if hasattr(network, "peft_config") and not merge:
        raise InputError("the model is a LoRA adapter; add --merge to write it together with its base's weights")


def _merged(model: RewardModel):
    """The network with its adapter's weights added to the base's; the network itself where it has none."""
    network = model.backbone.model
    return network.merge_and_unload(safe_merge=True) if hasattr(network, "peft_config") else network


def _save_tokenizer(model: RewardModel, template: str, folder: Path) -> None:
    before = model.tokenizer.chat_template
    try:
        model.tokenizer.chat_template = template
        model.tokenizer.save_pretrained(folder)
    finally:
        model.tokenizer.chat_template = before
