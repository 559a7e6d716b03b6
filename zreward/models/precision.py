"""Whether NVIDIA cards may round float32 products to TF32 (10 bits of mantissa): settings of the whole process."""

from __future__ import annotations

import os

import torch


def set_tf32(allowed: bool) -> None:
    """Allow TF32, or not, in matrix products, in cuDNN's convolutions and in Triton's kernels; the latter two default to it.

    PyTorch 2.9 added a second setting, which transformers uses; convolutions follow whichever was set last. Triton reads
    the variable when it compiles a kernel.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "tf32" if allowed else "ieee"
    os.environ["TRITON_F32_DEFAULT"] = "tf32" if allowed else "ieee"


def tf32_allowed() -> dict[str, bool]:
    """By kind of product: matrix products, convolutions."""
    if not hasattr(torch.backends, "fp32_precision"):
        return {"matmul": torch.backends.cuda.matmul.allow_tf32, "convolution": torch.backends.cudnn.allow_tf32}
    return {
        "matmul": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "convolution": torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
    }
