"""How many pictures are scored at a time where the caller does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zreward.models.devices import free_bytes

if TYPE_CHECKING:
    from zreward.models.backbone import Backbone

DEFAULT = 32  # images in a batch on a CPU, and half of the images that are open at a time
MOST_TOKENS = 32 * 1024  # in a batch on a GPU: about what keeps a large one busy
_SHARE = 0.8  # of the free memory, that a batch may take
_WIDTHS = 40  # of the language model, that a token takes at the peak; 30 were measured (H100, a 9 B model, 1,024 px)


def default_batch(backbone: Backbone, longest: int) -> tuple[int, int | None]:
    """The most images in a batch, and the most tokens, padding counted (None: no limit).

    On a GPU the tokens follow from its free memory, and no image is refused for its length. When the estimate was too high,
    memory runs out and the batch is halved (`batches.OomRetry`).

    Args:
        backbone: the model.
        longest: tokens of the longest item.
    """
    device = backbone.label_ids.device
    if device.type != "cuda":
        return DEFAULT, None
    fit = int(_SHARE * free_bytes(device) / bytes_per_token(backbone))
    return 2 * DEFAULT, max(longest, min(MOST_TOKENS, fit))


def bytes_per_token(backbone: Backbone) -> int:
    """Memory that scoring takes for one more token: activations at their peak, and keys and values of all layers."""
    text: Any = backbone.base.config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kept = 2 * heads * width * sum(kind != "linear_attention" for kind in kinds)
    return (_WIDTHS * text.hidden_size + kept) * backbone.base.dtype.itemsize
