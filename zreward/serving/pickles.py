"""The pickle protocol of flow_grpo and verl-omni, read by an unpickler that can build nothing but plain data.

Allowed: dicts, lists, tuples, numbers, texts, bytes, and numpy arrays of texts. Everything else that a pickle may name is
refused before it is built. Off unless `--allow-pickle`, and then on loopback only.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from zreward.errors import InputError

_ARRAY = object()  # stands for numpy.ndarray, which a pickle could call to allocate whatever it likes


def _reconstruct(kind: object, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """numpy's own, without its power to allocate: pickles always ask for an empty array and fill it after."""
    if kind is not _ARRAY or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array that is not empty at first")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(kind: np.dtype, value: bytes) -> str:
    if kind.kind != "U":
        raise pickle.UnpicklingError(f"a numpy scalar of {kind}")
    return str(np.frombuffer(value, kind)[0])


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _reconstruct for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
    ("numpy", "ndarray"): _ARRAY,
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
    images, prompts = request["images"], request["prompts"]
    flat = isinstance(prompts, list | tuple) or (isinstance(prompts, np.ndarray) and prompts.ndim == 1)
    if not isinstance(images, list | tuple) or not flat:
        raise InputError("images and prompts of the pickle must be lists, prompts may be a numpy array of texts")
    # Lengths first: an array of empty texts may claim any length in a few bytes.
    if not images or len(images) != len(prompts) or not all(isinstance(image, bytes) for image in images):
        raise InputError(f"{len(images)} images, {len(prompts)} prompts; expected as many, images as encoded bytes")
    return list(images), [_text(prompt) for prompt in prompts]


def _text(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise InputError(f"a prompt is a {type(prompt).__name__}; expected a text")
    return str(prompt)
