"""The pickle protocol of flow_grpo and verl-omni, read by an unpickler that can build nothing but plain data.

Allowed: dicts, lists, tuples, numbers, texts, bytes, and numpy arrays of texts. Everything else that a pickle may name is
refused before it is built. Off unless `--allow-pickle`, and then on loopback only.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from zreward.errors import InputError


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """numpy's own, without its power to allocate: pickles always ask for an empty array and fill it after."""
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array that is not empty at first")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(kind: np.dtype, value: bytes) -> str:
    if kind.kind != "U":
        raise pickle.UnpicklingError(f"a numpy scalar of {kind}")
    return str(np.frombuffer(value, kind)[0])


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, "_reconstruct"): _reconstruct for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def read_request(body: bytes) -> tuple[list[bytes], list[str]]:
    """Encoded images and their prompts. InputError for anything else."""
    try:
        request = _PlainUnpickler(io.BytesIO(body)).load()
    except Exception as error:
        raise InputError(
            f"not a pickle of plain data ({error}); expected a dict of images (a list of encoded bytes) and prompts (texts)"
        ) from None
    if not isinstance(request, dict) or "images" not in request or "prompts" not in request:
        raise InputError("the pickle has no images and prompts; expected {'images': [bytes], 'prompts': [text]}")
    images, prompts = list(request["images"]), [_text(prompt) for prompt in request["prompts"]]
    if not images or len(images) != len(prompts) or not all(isinstance(image, bytes) for image in images):
        raise InputError(f"{len(images)} images, {len(prompts)} prompts; expected as many, images as encoded bytes")
    return images, prompts


def _text(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise InputError(f"a prompt is a {type(prompt).__name__}; expected a text")
    return str(prompt)
