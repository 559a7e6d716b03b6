"""A folder of pictures that a generator drew: PNG files and pictures.jsonl, which says what each one is.

`zreward compare` takes two such folders: the same prompts and seeds, drawn by two generators.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from zreward.common.files import disk_errors, write_json_lines
from zreward.data.manifest import PICTURE_LIST
from zreward.generation.sampling import SamplingPlan, draw
from zreward.models.pixels import to_image


def own_seeds(prompts: int, each: int, first: int) -> list[tuple[int, ...]]:
    """`each` seeds for every prompt, none of them used twice: a seed determines much of a picture, for every prompt."""
    return [tuple(range(first + number * each, first + (number + 1) * each)) for number in range(prompts)]


def draw_all(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[Sequence[int]],
    steps: int,
    batch_size: int,
    what: str = "",
    **options: Any,
) -> Tensor:
    """One picture for every seed of every prompt, (pictures, 3, H, W) on the CPU, a prompt's pictures together."""
    wanted = [(prompt, seed) for prompt, mine in zip(prompts, seeds, strict=True) for seed in mine]
    parts = []
    with torch.no_grad(), tqdm(total=len(wanted), desc=what or "drawing", unit="picture", disable=not what) as bar:
        for start in range(0, len(wanted), batch_size):
            chunk = wanted[start : start + batch_size]
            drawn = draw(pipeline, [p for p, _ in chunk], [s for _, s in chunk], SamplingPlan(steps), **options)
            parts.append(drawn.pixels.float().cpu())
            bar.update(len(chunk))
    return torch.cat(parts)


def save_pictures(folder: Path, pixels: Tensor, prompts: Sequence[str], seeds: Sequence[Sequence[int]]) -> None:
    """Write the pictures of `draw_all` and their manifest, the manifest last."""
    write_pictures(folder, pixels, dict(enumerate(seeds)))
    list_pictures(folder, prompts, seeds)


def write_pictures(folder: Path, pixels: Tensor, seeds: Mapping[int, Sequence[int]]) -> None:
    """Write the pictures of the prompts with these numbers, in their order, each with its seeds."""
    pictures = iter(pixels)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, mine in seeds.items():
            for seed in mine:
                to_image(next(pictures)).save(folder / _file_name(number, seed))


def list_pictures(folder: Path, prompts: Sequence[str], seeds: Sequence[Sequence[int]]) -> None:
    """Write the manifest of all prompts' pictures."""
    rows = [
        {"image": _file_name(number, seed), "prompt": prompt, "seed": seed}
        for number, (prompt, mine) in enumerate(zip(prompts, seeds, strict=True))
        for seed in mine
    ]
    write_json_lines(folder / PICTURE_LIST, rows)


def _file_name(prompt: int, seed: int) -> str:
    return f"{prompt:05d}-{seed}.png"


def distances(pixels: Tensor, seeds: int) -> Tensor:
    """Root mean square pixel distance of every pair of a prompt's pictures, (pairs, prompts), in [0, 1] units."""
    groups_PKC = pixels.unflatten(0, (-1, seeds)).flatten(2)  # P prompts, K seeds, C numbers of a picture
    pairs = list(itertools.combinations(range(seeds), 2))
    return torch.stack([(groups_PKC[:, a] - groups_PKC[:, b]).square().mean(-1).sqrt() for a, b in pairs])


def grid(pixels: Tensor, columns: int, zoom: int = 1) -> Image.Image:
    """Pictures (N, 3, H, W) in rows of `columns`, two pixels apart, each pixel `zoom` wide."""
    count, _, height, width = pixels.shape
    rows = -(-count // columns)
    canvas = Image.new("RGB", (columns * (width * zoom + 2) - 2, rows * (height * zoom + 2) - 2), "white")
    for number, picture in enumerate(pixels):
        tile = to_image(picture).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        canvas.paste(tile, (number % columns * (width * zoom + 2), number // columns * (height * zoom + 2)))
    return canvas
