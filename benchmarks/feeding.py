"""What it costs to bring a picture of 1,024 px to a Qwen-type model: pictures per second and core, and bytes to a GPU.

    opening_FORMAT_per_second    a file to floats
    decoding_FORMAT_per_second   a file to bytes, which is all that the CPU does for a model on a GPU
    floats_per_second            bytes to floats
    resizing_per_second          1,536 px to 1,024, floats
    patching_per_second          floats to normalised patches
    bytes_to_gpu                 of one picture
    bytes_of_floats, bytes_of_patches   the same as floats, and as patches

`benchmarks/cost.py` prints them.
"""

from __future__ import annotations

import io

import torch
from small_models import photograph
from timing import interleaved

from zreward.models.feeding import decode
from zreward.models.layouts import PatchLayout
from zreward.models.pixels import ResolutionPolicy, as_floats, to_pixels, to_tensor

FORMATS = ("JPEG", "PNG", "WEBP")
LAYOUT, POLICY = PatchLayout(patch=16, merge=2, frames=2), ResolutionPolicy(longest_side=1024)


def feeding(rounds: int) -> dict[str, float]:
    picture, large = photograph(1024), to_pixels(photograph(1536))
    calls = {}
    for name in FORMATS:
        file = io.BytesIO()
        picture.save(file, name, quality=90)
        content = file.getvalue()
        calls[f"opening_{name.lower()}"] = lambda content=content: to_pixels(content)
        calls[f"decoding_{name.lower()}"] = lambda content=content: to_tensor(content)
    bytes_, floats = to_tensor(picture), to_pixels(picture)
    calls["floats"] = lambda: as_floats(bytes_)
    calls["resizing"] = lambda: LAYOUT.fit(large, POLICY)
    calls["patching"] = lambda: LAYOUT.patchify(floats)
    return {f"{name}_per_second": 1 / seconds for name, seconds in interleaved(calls, rounds).items()} | {
        "bytes_to_gpu": decode(picture, LAYOUT, POLICY, torch.device("cuda")).nbytes,
        "bytes_of_floats": floats.nbytes,
        "bytes_of_patches": LAYOUT.patchify(floats)[0].nbytes,
    }
