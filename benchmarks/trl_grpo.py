"""TRL's own GRPOTrainer, unmodified, on the world's large model and pictures: the yardstick of `training_step.py`.

Traces end at our stop marker and may not hold control tokens, as ours, so that both sample texts of the same kind. The
reward is the trace's length: TRL's trainer does not read a score behind the trace, so it has less to do than ours.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import LlavaProcessor, Qwen3VLProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin
from trl import GRPOConfig, GRPOTrainer

from zreward.data import Record
from zreward.models.layouts import takes_grids
from zreward.models.reward_model import RewardModel
from zreward.prompting import messages


class ImageProcessor(Qwen3VLProcessor):
    """Without its video part, which needs torchvision."""

    def __init__(self, image_processor, tokenizer, chat_template=None) -> None:
        for name in ("image_pad", "vision_start", "vision_end"):
            attribute = name.replace("_pad", "")
            setattr(self, f"{attribute}_token", f"<|{name}|>")
            setattr(self, f"{attribute}_token_id", tokenizer.convert_tokens_to_ids(f"<|{name}|>"))
        self.video_token, self.video_token_id = "<|video_pad|>", None
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def trl_trainer(
    model: RewardModel,
    items: Sequence[tuple[Record, str]],
    sequences: int,
    group_size: int,
    steps: int,
    out: Path,
    shortest: int = 0,
) -> GRPOTrainer:
    """A trainer over (record, dimension) items that samples `sequences` traces a step, of `shortest` tokens at least, and
    changes nothing."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.eos_token, tokenizer.padding_side = model.forms.stop_marker, "left"
    rows = [{"prompt": _conversation(model, record, name), "image": record.open_image()} for record, name in items]
    options = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=sequences,
        num_generations=group_size,
        max_completion_length=model.max_trace_tokens,
        generation_kwargs={"suppress_tokens": model.backbone.trace_ban.tolist(), "min_new_tokens": shortest},
        max_steps=steps,
        learning_rate=1e-12,
        beta=0.0,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=model.backbone.model,
        reward_funcs=lambda completions, **columns: [float(len(str(text))) for text in completions],
        args=options,
        train_dataset=Dataset.from_list(rows),
        processing_class=_processor(model, tokenizer),
    )


def _processor(model: RewardModel, tokenizer: Any) -> ProcessorMixin:
    options = model.layout.preprocessor(model.resolution)
    if takes_grids(model.backbone.base.model):
        return ImageProcessor(Qwen2VLImageProcessorPil(**options), tokenizer, tokenizer.chat_template)
    config = model.backbone.base.config
    return LlavaProcessor(
        CLIPImageProcessorPil(**options),
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_token=tokenizer.convert_ids_to_tokens(config.image_token_id),
        num_additional_image_tokens=1,  # the class token, which "default" takes away again
        chat_template=tokenizer.chat_template,
    )


def _conversation(model: RewardModel, record: Record, dimension: str) -> list[dict[str, str]]:
    """Our conversation in plain texts; TRL puts the image into the user's turn."""
    turns = messages(record.prompt, model.rubric.dimension(dimension), model.rubric, model.forms, reasoning=True)
    texts = [(turn["role"], [part["text"] for part in turn["content"] if part["type"] == "text"]) for turn in turns]
    return [{"role": role, "content": "".join(text)} for role, text in texts]
