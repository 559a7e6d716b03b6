"""`RewardModel`: images, prompts and answers in, score distributions out. The class users hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zreward.common.errors import InputError, check_counts, check_temperature, counted
from zreward.common.texts import match_prompts
from zreward.data.seen import SeenData
from zreward.distribution import ScoreDistribution
from zreward.models.adapters import Base
from zreward.models.backbone import Backbone
from zreward.models.batch_size import DEFAULT
from zreward.models.batches import OomRetry, prefetch_windows
from zreward.models.calibration import Calibration
from zreward.models.checkpoint import load, save
from zreward.models.collation import collate
from zreward.models.feeding import decode, grid_of, prepare
from zreward.models.fingerprint import model_fingerprint
from zreward.models.image_cache import ImageCache
from zreward.models.inputs import ModelInput, to_device
from zreward.models.layouts import ImageLayout, layout_of
from zreward.models.memory import check_memory, differentiably
from zreward.models.modes import evaluation_mode
from zreward.models.pixels import ResolutionPolicy, as_pictures, check_pixels, to_pixels
from zreward.models.reasoning import Judgement, judge_opened, reason
from zreward.models.rollout import Trace
from zreward.models.rows import Row, as_items, check_items, rows_of
from zreward.models.scoring import score_opened
from zreward.models.tokens import ConversationEncoder, check_vocabulary
from zreward.prompting import PromptForms, Texts
from zreward.rubric import Rubric

_WINDOW = 2  # batches whose images are open at a time, to be sorted by length


class RewardModel(nn.Module):
    """A vision-language model with a rubric: scores images as distributions over the rubric's score bins.

    What is scored is an item: a prompt with one image; with several in order, as before and after an edit; or with an answer
    in words, and images or none.

    Load one with `from_pretrained`. `score` is for files and PIL images; calling the model on a float tensor is
    differentiable to the pixels; `judge` reasons first. All three share one preprocessing.

    Threads may share a model: scores, gradients and greedy traces (temperature 0) are those of the same calls one after the
    other. Sampled traces follow the same distribution, but threads draw from one random state in no fixed order. Changing the
    model meanwhile (weights, `train`, `eval`) is not safe.
    """

    any_sequence: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rubric: Rubric,
        forms: PromptForms | None = None,
        resolution: ResolutionPolicy | None = None,
        layout: ImageLayout | None = None,
        max_trace_tokens: int = 512,
    ) -> None:
        super().__init__()
        self.tokenizer, self.rubric = tokenizer, rubric
        self.forms, self.resolution = forms or PromptForms(), resolution or ResolutionPolicy()
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        self.layout = layout or layout_of(base)
        self.max_trace_tokens, self.oom_retry = max_trace_tokens, OomRetry()
        check_vocabulary(tokenizer, base.config.get_text_config().vocab_size)
        self.encoder = ConversationEncoder(tokenizer, rubric, self.forms, base.config.image_token_id)
        self.backbone = Backbone(model, self.encoder.label_ids, self.encoder.trace_ban, base.config.image_token_id)
        self.backbone.to(next(model.parameters()).device)
        self.computed_in: torch.dtype | None = None  # where weights are kept in float32 for training only
        self.empty = False  # an engine will bring the weights
        self.image_cache: ImageCache | None = None  # of a frozen vision tower's features
        self.seen: SeenData | Path | None = None  # what it was trained on, as far as that was noted
        self.calibrations: dict[str, Calibration] = {}  # form of the answer -> how its distributions are recalibrated
        self.base: Base | None = None  # the files that the weights came from, for adapters that are trained on them

    @property
    def context(self) -> int | None:
        """Positions that the language model was made for, image, prompt, trace and answer together; None if it does not say."""
        config = self.backbone.base.config
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        return self.backbone.label_ids.device

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        rubric: Rubric | None = None,
        forms: PromptForms | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        quantization: str | None = None,
        resolution: ResolutionPolicy | None = None,
        max_trace_tokens: int | None = None,
        trainable_adapter: bool = False,
        attn_implementation: str | None = None,
        empty: bool = False,
        calibrated: bool = True,
    ) -> RewardModel:
        """Load a checkpoint or adapter by name: a folder, a hub name, or a name that an installed package offers.

        A model without `zreward.json` is asked with the default rubric, with a warning.

        Args:
            path: such as "runs/sft/model", "Qwen/Qwen3.5-9B" or "acme:strict" (see `zreward.common.registry`).
            rubric: for a model without `zreward.json` (default: the default rubric); for a checkpoint it must be its own.
            forms: prompt forms, for a model without `zreward.json`.
            device: such as "cpu" or "cuda:1"; default CUDA when there is one, else the CPU.
            dtype: "float64", "float32", "bfloat16" or "float16"; default what the checkpoint recorded, else bfloat16 on
                GPUs, float32 on CPUs.
            quantization: "4bit" or "8bit" (bitsandbytes; GPUs only).
            resolution: overrides the recorded limit of image sizes.
            max_trace_tokens: overrides the recorded reasoning budget.
            trainable_adapter: an adapter's weights take gradients, for training that goes on with it.
            attn_implementation: "sdpa", "eager", "flash_attention_2", "flash_attention_3" or "flex_attention"; default
                transformers' choice. What rows share is read in place with sdpa only, and copied with the others.
            calibrated: distributions are recalibrated as `zreward calibrate` recorded; False: as the model gives them.
            empty: on the CPU, without reading the weights: for training under an engine that brings them from the first process.

        Returns:
            The model in evaluation mode.

        Raises:
            InputError: a missing folder, a device that cannot be used, another rubric, a newer schema, labels of several
                tokens, an unsupported model.
        """
        options = (rubric, forms, device, dtype, quantization, resolution, max_trace_tokens, trainable_adapter)
        model = load(cls, path, *options, attn_implementation, empty)
        if not calibrated:
            model.calibrations = {}
        return model

    def save_pretrained(self, path: str | Path) -> None:
        """Write an ordinary Hugging Face folder (or PEFT adapter) plus `zreward.json`.

        Args:
            path: a new folder, or one that holds a checkpoint, which is replaced as a whole.

        Raises:
            InputError: a file, a folder of something else, or a full disk.
        """
        save(self, path)

    @torch.no_grad()
    def score(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        dimensions: Sequence[str] | None = None,
        batch_size: int | None = None,
        references: Any = None,
        token_budget: int | None = None,
        answers: Sequence[str | None] | str | None = None,
    ) -> ScoreDistribution:
        """Score N items on the rubric's scale; without gradients (call the model itself for those).

        Scores do not depend on batch size, order or padding. When memory runs out, batches are halved, with a warning;
        the smaller size is kept for later calls.

        Args:
            images: a list of paths, encoded bytes, PIL images, arrays or tensors (see `models.pixels.to_pixels`); or a
                batch (N, H, W, C) or (N, C, H, W); or one image. An item with several images is a list of them, in order:
                `[[before, after], ...]`; one without is None. None alone: no item shows any.
            prompts: one text per item, or one for all.
            dimensions: names of the rubric's dimensions; default all of them.
            batch_size: items in a batch; default 32, on a GPU as many as fit into its free memory, at most 64.
            token_budget: tokens of images and prompts in a batch, padding counted; default no limit.
            references: one image per image, for models that compare two (method `rewarddance-pairwise`).
            answers: the words to judge: one text per item, None where an item has none; or one for all.

        Returns:
            Distributions with probs (N, D, S), on the CPU.

        Raises:
            InputError: no image, one that cannot be opened, an unknown dimension, too few prompts or too long a prompt, an item
                with neither image nor answer or with more than eight images.
        """
        shown, texts, names = self._items(images, prompts, answers, references, dimensions, "score")
        check_counts(batch_size=batch_size, token_budget=token_budget)
        window = _WINDOW * (batch_size or DEFAULT)
        with counted(0, what=_names(shown)):
            return ScoreDistribution.cat(
                list(self.score_windows(shown, texts, names, window, batch_size, token_budget))
            )

    def _items(
        self, images: Any, prompts: Any, answers: Any, references: Any, dimensions: Sequence[str] | None, what: str
    ) -> tuple[list[tuple[Any, ...]], list[Texts], tuple[str, ...]]:
        """What `score` and `judge` are asked, checked: pictures and texts of each item, and the dimensions."""
        shown, texts = as_items(images, prompts, answers, references)
        names = self.check_dimensions(dimensions)
        if not shown:
            raise InputError(f"no images were given; {what} needs at least one")
        check_items(self.forms, shown, texts, references is not None)
        return shown, texts, names

    def score_windows(
        self,
        shown: Sequence[tuple[Any, ...]],
        prompts: Sequence[str | Texts],
        names: tuple[str, ...],
        window: int,
        batch_size: int | None = None,
        token_budget: int | None = None,
    ) -> Iterator[ScoreDistribution]:
        """`score` in parts of `window` items; the next part's pictures are opened meanwhile.

        Args:
            shown: every item's images in the order of the conversation (a reference first), of any kind that `score` takes.
            prompts: a text per item, or its `Texts` where it has an answer.
            names: dimensions of the rubric.
            window: the items among which a batch is chosen.
            batch_size: as in `score`.
            token_budget: as in `score`.
        """
        check_items(self.forms, shown, prompts)
        windows = prefetch_windows(self._decoded, shown, prompts, window)
        for first, opened, texts in windows:
            with evaluation_mode(self), counted(first):
                part = self.score_opened(opened, texts, names, batch_size, token_budget)
            yield part

    @torch.no_grad()
    def score_opened(
        self,
        shown: Sequence[tuple[Tensor, ...]],
        prompts: Sequence[str | Texts],
        names: tuple[str, ...],
        batch_size: int | None = None,
        token_budget: int | None = None,
    ) -> ScoreDistribution:
        """`score` for what `open` or `decode` returned: every item's images, in the order of the conversation."""
        return score_opened(self, shown, prompts, names, batch_size, token_budget)

    def forward(
        self,
        pixels: Tensor,
        prompts: Sequence[str] | str,
        dimensions: Sequence[str] | None = None,
        references: Any = None,
        memory: str | None = None,
    ) -> ScoreDistribution:
        """Score a batch of pixels, differentiably: gradients flow back to `pixels`.

        Args:
            pixels: float tensor (N, 3, H, W), RGB in [0, 1].
            prompts: one text per image, or one for all.
            dimensions: names of the rubric's dimensions; default all of them.
            references: for models that compare: one image per image, of any kind that `score` takes.
            memory: one of `zreward.models.memory.MEMORY`; default the fastest that fits into half of the free memory.

        Returns:
            Distributions with probs (N, D, S), on the model's device.

        Raises:
            InputError: another shape or dtype, values outside [0, 1], NaN, an unknown dimension.
        """
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            shape = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise InputError(f"pixels: got {shape}, expected a float tensor (N, 3, H, W) in [0, 1]")
        pixels = check_pixels(pixels)
        references = as_pictures(references) if references is not None else None
        texts = match_prompts(prompts, len(pixels))
        if references is not None and len(references) != len(pixels):
            raise InputError(f"{len(pixels)} images but {len(references)} references; give one reference per image")
        shown: list[tuple[Any, ...]] = [(image,) for image in pixels]
        if references is not None:
            shown = list(zip(references, pixels, strict=True))
        check_items(self.forms, shown, texts, references is not None)
        check_memory(memory)
        images = [self.fit(image) for image in to_device(pixels, self.device)]
        opened = [(*map(self.decode, each[:-1]), image) for each, image in zip(shown, images, strict=True)]
        names = self.check_dimensions(dimensions)
        if not (torch.is_grad_enabled() and pixels.requires_grad) or self.training:
            return self.distribution_of(opened, texts, names)
        return differentiably(self, opened, texts, names, memory)

    @torch.no_grad()
    def judge(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        traces: int = 1,
        dimensions: Sequence[str] | None = None,
        temperature: float = 1.0,
        batch_size: int | None = None,
        answers: Sequence[str | None] | str | None = None,
    ) -> list[Judgement]:
        """Reason, then score (Eq. 1). Sampling uses torch's global random state: seed it to repeat a call.

        Args:
            images: as in `score`.
            prompts: one text per item, or one for all.
            traces: reasoning traces per item and dimension; their distributions are averaged.
            dimensions: names of the rubric's dimensions; default all of them.
            temperature: of sampling, 0 (greedy) or more.
            batch_size: items at a time; default 8.
            answers: as in `score`.

        Returns:
            One judgement per item: the averaged distribution, every trace's text and distribution.

        Raises:
            InputError: as `score`; also a negative temperature or no trace.
        """
        shown, prompted, names = self._items(images, prompts, answers, None, dimensions, "judge")
        check_counts(traces=traces, batch_size=batch_size)
        check_temperature(temperature)
        judgements: list[Judgement] = []
        with evaluation_mode(self):
            for first, opened, texts in prefetch_windows(self._decoded, shown, prompted, batch_size or 8):
                with counted(first, what=_names(shown)):
                    judgements += judge_opened(self, opened, texts, traces, names, temperature)
        return judgements

    def fingerprint(self) -> dict[str, Any]:
        """What scores depend on, in short digests: weights, tokenizer, rubric, prompt forms, resolution."""
        return model_fingerprint(self)

    def trace_text(self, trace: Trace) -> str:
        """The words of a trace, without the stop marker."""
        stop = self.encoder.stop_ids
        ids = trace.ids if trace.truncated else trace.ids[: -len(stop)]
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def as_trace(self, text: str) -> Trace:
        """A written trace as tokens, ended by the stop marker."""
        ids = self.tokenizer(f" {text.strip()}", add_special_tokens=False)["input_ids"]
        return Trace((*ids, *self.encoder.stop_ids), truncated=False)

    # What trainers build on: opening images, rows to tensors, sampling.

    def check_dimensions(self, dimensions: Sequence[str] | None) -> tuple[str, ...]:
        """The names asked for (default: all of the rubric's), each known; InputError otherwise."""
        return self.rubric.check_names(dimensions)

    def open(self, image: Any) -> Tensor:
        """Any picture that `to_pixels` takes -> float pixels (3, H, W) at the size the model sees."""
        return self.fit(to_pixels(image))

    def decode(self, image: Any) -> Tensor:
        """As `open`, but kept as bytes (uint8) where these take no more memory; what takes opened images takes these too."""
        if self.image_cache is not None:
            return self.image_cache.features(self, image)
        return decode(image, self.layout, self.resolution, self.device)

    def _decoded(self, shown: tuple[Any, ...]) -> tuple[Tensor, ...]:
        return tuple(map(self.decode, shown))

    def prepare(self, decoded: Tensor) -> Tensor:
        """What `decode` returned -> what `open` returns, on the model's device."""
        return prepare(decoded, self.layout, self.resolution, self.device)

    def fit(self, pixels: Tensor) -> Tensor:
        """Resize (3, H, W) by the resolution policy, to a size that the model's vision tower takes."""
        return self.layout.fit(pixels, self.resolution)

    def collate(self, images: Sequence[Tensor], rows: Sequence[Row], start: bool = False) -> ModelInput:
        """Rows over pictures that `open` or `decode` returned -> right-padded tensors; patches are on the model's device.

        A row with a trace gets it, its stop marker and the answer prefix; a row with an explanation gets its score's
        label and the explanation after the answer prefix. `start`: all rows end where a trace begins.
        """
        return collate(self, images, rows, start)

    def reason(
        self,
        images: Sequence[Tensor],
        rows: Sequence[Row],
        temperature: float = 1.0,
        seeds: Sequence[int] | None = None,
    ) -> list[Trace]:
        """Sample one trace for every row (any trace it has is ignored).

        With `seeds`, one for each row, a row's trace does not depend on the rows beside it.
        """
        with evaluation_mode(self):
            return reason(self, images, rows, temperature, seeds)

    def distribution(self, logits_MS: Tensor, dimensions: Sequence[str]) -> ScoreDistribution:
        """Label logits (M = N * D, S) without reasoning, dimension fastest -> ScoreDistribution (N, D, S), calibrated."""
        logits_NDS = logits_MS.view(-1, len(dimensions), len(self.rubric.scale))
        bins = self.rubric.scale.bins.to(logits_NDS.device)
        scores = ScoreDistribution.from_logits(logits_NDS, bins, tuple(dimensions))
        return self.calibrations["direct"](scores) if "direct" in self.calibrations else scores

    def distribution_of(
        self, shown: Sequence[tuple[Tensor, ...]], prompts: Sequence[str | Texts], names: tuple[str, ...]
    ) -> ScoreDistribution:
        """Score what `open` or `decode` returned: probs (N, D, S) on the model's device, with gradients where they are enabled.

        Args:
            shown: the opened images of N items, in the order of the conversation.
            prompts: a text per item, or its `Texts`.
            names: D dimensions of the rubric.
        """
        images = [image for mine in shown for image in mine]
        inputs = replace(self.collate(images, rows_of(shown, prompts, names)), share=True)
        logits = self.backbone(inputs.to(self.device)).score_logits
        return self.distribution(logits, names)

    def length(self, opened: Sequence[Tensor], prompt: str | Texts, name: str) -> int:
        """Tokens of an item.

        Args:
            opened: its images.
            prompt: its text, or its `Texts`.
            name: the dimension asked about.
        """
        images = sum(self.layout.tokens(grid_of(image, self.layout, self.resolution)) for image in opened)
        ids = self.encoder.encode(prompt, self.rubric.dimension(name), reasoning=False, images=len(opened))
        return images + len(ids)


def _names(shown: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What errors call items: by the last picture, the one that is judged."""
    return [mine[-1] if mine else None for mine in shown]
