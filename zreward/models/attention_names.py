"""The attention implementations of transformers that a model may be loaded with, checked before anything is loaded."""

from __future__ import annotations

from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from zreward.common.errors import InputError, shown

ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
_FLASH = {
    "flash_attention_2": (is_flash_attn_2_available, "flash-attn"),
    "flash_attention_3": (is_flash_attn_3_available, "flash-attn-3"),
}


def check_attention(name: str | None) -> None:
    """InputError for an unknown implementation, and for one whose package cannot be used on this machine."""
    if name is None:
        return
    if name not in ATTENTIONS:
        raise InputError(f"attn_implementation is {shown(name)}; expected one of {', '.join(ATTENTIONS)}")
    available, package = _FLASH.get(name, (None, ""))
    if available is not None and not available():
        raise InputError(
            f"attn_implementation is {name}, but {package} is not installed, or this machine has no GPU that it supports; "
            "install it, or choose sdpa"
        )
