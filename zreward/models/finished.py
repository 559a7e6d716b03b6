"""Whether the model that a finished run left behind is still whole: a reward model, a generator, or an adapter of one.

Nothing is loaded. What the weights' own tables do not show (a flipped bit) is not noticed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from zreward.common.bounded import MEGABYTE, read_json
from zreward.common.errors import InputError
from zreward.models.checkpoint_files import ADAPTER_CONFIG, CONFIG, META_FILE, check_folder
from zreward.models.network import has_tokenizer
from zreward.models.weight_files import weight_files

PIPELINE = "model_index.json"


def check_left(model: Path, advice: str) -> None:
    """InputError naming the first file that is missing, empty or damaged. `advice`: how the model is made again."""
    reason = next(_damages(model), None)
    if reason:
        raise InputError(f"{reason}; the run is finished, but its model is damaged: {advice}")


def _damages(model: Path) -> Iterator[str]:
    if not model.is_dir():
        yield f"{model} is missing"
        return
    for file in sorted(model.rglob("*")):
        if file.suffix in (".json", ".safetensors") and file.is_file() and file.stat().st_size == 0:
            yield f"{file} is empty"
    tokenizer = model / "tokenizer.json"
    if tokenizer.exists():
        yield from _told(lambda: read_json(tokenizer, 256 * MEGABYTE))
    parts = [model]
    if (model / PIPELINE).exists():
        listed = read_json(model / PIPELINE).items()
        parts += [model / name for name, value in listed if isinstance(value, list) and value[:1] not in ([], [None])]
    elif (model / META_FILE).exists():
        yield from _missing_of_judge(model)
    for part in parts:
        yield from _damages_of_part(part, alone=len(parts) == 1)


def _missing_of_judge(model: Path) -> Iterator[str]:
    if not any((model / name).exists() for name in (CONFIG, ADAPTER_CONFIG)):
        yield f"{model / CONFIG} is missing"
    if not has_tokenizer(model):
        yield f"{model}: its tokenizer is missing"


def _damages_of_part(part: Path, alone: bool) -> Iterator[str]:
    if not part.is_dir():
        yield f"{part} is missing"
        return
    has_weights = alone or (part / CONFIG).exists()
    if has_weights and not weight_files(part):
        yield f"{part}: its weights (a .safetensors file) are missing"
    yield from _told(lambda: check_folder(part))


def _told(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except InputError as error:
        yield str(error).partition("; fetch it again")[0]
