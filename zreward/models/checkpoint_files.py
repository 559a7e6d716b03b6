"""The files of a checkpoint, checked before anything reads them: where they are, of which kind and size, and that none is code.

Also for generators, whose folders hold one such folder per part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from zreward.common.bounded import MEGABYTE, check_regular, read_json
from zreward.common.errors import InputError, shorten, shown
from zreward.models.weight_files import check_weights

CONFIG, ADAPTER_CONFIG, META_FILE = "config.json", "adapter_config.json", "zreward.json"
_READ = {
    ".json",
    ".jinja",
    ".txt",
    ".model",
    ".tiktoken",
    ".safetensors",
    ".parquet",
}  # what libraries read of a folder
_LARGE = 256 * MEGABYTE  # a tokenizer, or an index of many weights
_MOST_ENTRIES = 10_000
_MOST_LAYERS = 4_096
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"}
_PATTERNS = [f"*{suffix}" for suffix in sorted(_READ)]


def find_folder(name: str, patterns: list[str] | None = None, ignore: list[str] | None = None) -> Path:
    """The folder of that name, or a hub repository's files in the local cache (fetched where that is possible).

    No Python file of a repository is fetched. InputError for what is neither.
    """
    folder = Path(name)
    try:
        if folder.is_dir():
            return folder
        if folder.exists():
            raise InputError(f"{shorten(name)} is no folder; a checkpoint is a folder")
    except (OSError, ValueError) as error:  # too long, or a NUL in it
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shorten(name)}: no such checkpoint folder") from None
    named = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not named or folder.parent.exists():
        raise InputError(f"{shorten(name)}: no such checkpoint folder")
    return _from_hub(name, patterns or _PATTERNS, ignore)


def _from_hub(name: str, patterns: list[str], ignore: list[str] | None) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=ignore))
    except (OSError, ValueError, HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        reason = shorten(str(error).strip().splitlines()[0], 200)
        raise InputError(
            f"{shorten(name)}: no such checkpoint folder, and it cannot be loaded from the Hugging Face hub ({reason})"
        ) from error


def check_folder(folder: Path) -> None:
    """InputError for what cannot be a checkpoint, or should not be read: pipes, devices, giants, code, pickles, damage."""
    for entry in _entries(folder):
        if entry.is_dir():
            continue
        suffix = Path(entry.name).suffix
        if suffix in _READ:
            check_regular(entry.path, "a file of a checkpoint", None if suffix == ".safetensors" else _LARGE)
        if suffix == ".json" and not _is_data(entry.name):
            check_config(Path(entry.path))
    check_weights(folder)


def read_part(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint; {} where it has none."""
    file = folder / name
    return read_json(file) if os.path.lexists(file) else {}


def check_pickles(folder: Path, expected: str) -> None:
    """InputError naming the pickles of a folder that holds weights in no other form."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(entry.name for entry in _entries(folder) if Path(entry.name).suffix in _PICKLES)
    if pickles:
        raise InputError(
            f"{folder} holds its weights as {shorten(pickles[0])}: a pickle can run code when it is loaded, so zreward reads "
            f"safetensors only. Convert it to {expected} in a place that you trust, or ask its authors"
        )


def check_no_code(folder: Path) -> None:
    """InputError for Python files anywhere in a generator's folder, where libraries look for code to run."""
    for count, (place, _, names) in enumerate(os.walk(folder)):
        if count > _MOST_ENTRIES:
            raise InputError(f"{folder} holds more than {_MOST_ENTRIES:,} folders; expected a model's folder")
        for name in names:
            if name.endswith((".py", ".pyc", ".so")):
                raise InputError(
                    f"{folder} brings code of its own ({Path(place, name).relative_to(folder)}); zreward runs no code of a "
                    "checkpoint. If its class is one of the library's, remove the file"
                )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(islice(entries, _MOST_ENTRIES + 1), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; expected a folder that can be read") from None
    if len(found) > _MOST_ENTRIES:
        raise InputError(f"{folder} holds more than {_MOST_ENTRIES:,} files; expected a checkpoint")
    templates = folder / "additional_chat_templates"
    yield from found
    if templates.is_dir() and folder.name != templates.name:
        yield from _entries(templates)


def _is_data(name: str) -> bool:
    """Vocabularies and indices: large, and read as data alone. What trainers leave beside a model is not read at all."""
    return name in ("tokenizer.json", "vocab.json", "trainer_state.json", "added_tokens.json") or name.endswith(
        ".index.json"
    )


def check_config(file: Path) -> None:
    """InputError for a configuration that names code, leads out of its folder, or describes a giant."""
    content = read_json(file, 16 * MEGABYTE)
    for key, value in _items(content, file):
        if key in ("auto_map", "custom_pipeline", "custom_generate") and value:
            raise InputError(
                f"{file} names code of its own ({key}: {shown(value)}); zreward runs no code of a checkpoint. If the library "
                f"knows the architecture without it, remove {key} from the file"
            )
        if key.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
            raise InputError(f"{file} names code of its own ({key}: {shown(value)}); remove it")
        if key in ("vocab_file", "merges_file", "tokenizer_file", "spm_file") and _leads_away(value):
            raise InputError(
                f"{file}: {key} is {shown(value)}, expected a file of the checkpoint's own folder; remove it"
            )
        if ("layers" in key or key == "depth") and isinstance(value, int) and not 0 <= value <= _MOST_LAYERS:
            raise InputError(f"{file}: {key} is {shown(value)}, expected a number from 0 to {_MOST_LAYERS:,}")


def _items(content: Any, file: Path) -> Iterator[tuple[str, Any]]:
    """All keys and values of nested JSON."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value.items()
            left += value.values()
        elif isinstance(value, list):
            left += value


def _leads_away(value: Any) -> bool:
    return isinstance(value, str) and (os.path.isabs(value) or ".." in Path(value).parts)
