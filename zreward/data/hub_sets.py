"""Hugging Face data sets by name: a folder that `save_to_disk` wrote, hf:OWNER/NAME on the hub, hf:FOLDER of files.

hf: names are streamed by `load_dataset(..., streaming=True)`: nothing is kept but what `open_records` keeps of each row.
hf:OWNER/NAME/CONFIG names a configuration, @REVISION at the end a branch, tag or commit. A row without a split of its own has
that of the set.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zreward.common.bounded import read_bytes
from zreward.common.errors import InputError, shorten
from zreward.common.hub_errors import hub_errors
from zreward.data.row_files import dataset_rows
from zreward.data.rows import Fields, Layout, SourceRow

PREFIX = "hf:"
_SAVED = ("state.json", "dataset_dict.json")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class _HubName(NamedTuple):
    repository: str
    config: str | None
    revision: str | None


def is_saved(folder: Path) -> bool:
    """Whether it is what `save_to_disk` wrote."""
    return any((folder / name).is_file() for name in _SAVED)


def local_folder(name: str) -> Path | None:
    """The folder behind hf:FOLDER, None for a name on the hub."""
    folder = Path(name.removeprefix(PREFIX))
    return folder if folder.is_dir() else None


def revision(name: str) -> str | None:
    """The commit of a set on the hub, None for a local folder. InputError where the hub cannot be asked."""
    if local_folder(name) is not None:
        return None
    named = _parse(name)
    if named.revision is not None and _COMMIT.fullmatch(named.revision):
        return named.revision
    return _asked(named.repository, named.revision)


def rows(name: str, layout: Layout, fields: Fields) -> Iterator[SourceRow]:
    """Rows of all splits, one split after the other. InputError for a set that cannot be loaded or read."""
    datasets = _library(name)
    numbers = itertools.count()
    try:
        for split, part in _splits(name, datasets):
            for row in dataset_rows(part, layout, fields, name, numbers):
                known = row.data is None or split is None or row.data.get("split") is not None
                yield row if known else row._replace(data={**(row.data or {}), "split": split})
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the library's own errors about a damaged set have every type
        reason = str(error).strip() or type(error).__name__
        raise InputError(f"{name}: cannot be read: {shorten(reason, 300)}") from error


def _splits(name: str, datasets: Any) -> list[tuple[str | None, Any]]:
    if not name.startswith(PREFIX):
        found = datasets.load_from_disk(name)
    elif (folder := local_folder(name)) is not None:
        _refuse_files_elsewhere(folder, name)
        found = datasets.load_dataset(str(folder.absolute()), streaming=True)
    else:
        named = _parse(name)
        found = datasets.load_dataset(named.repository, named.config, revision=revision(name), streaming=True)
    return list(found.items()) if isinstance(found, dict) else [(None, found)]


def _refuse_files_elsewhere(folder: Path, name: str) -> None:
    """InputError where a folder's card names files outside of the folder: the library would fetch addresses without asking."""
    card = folder / "README.md"
    if not card.exists():
        return
    _, _, rest = read_bytes(card, "a card (README.md)").decode(errors="replace").lstrip("\ufeff").partition("---")
    try:
        facts = yaml.safe_load(rest.partition("\n---")[0])
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # the library refuses it in its own words
    configs = facts.get("configs") if isinstance(facts, dict) else None
    for one in configs if isinstance(configs, list) else []:
        for file in _texts([one.get("data_files"), one.get("data_dir")] if isinstance(one, dict) else [], set()):
            if ":" in file or file.startswith(("/", "~")) or ".." in re.split(r"[/\\]", file):
                raise InputError(
                    f"{name}: its README.md names {shorten(file, 100)!r}; expected files inside the folder. Take configs out of "
                    "the card, or put the files there"
                )


def _texts(value: Any, seen: set[int]) -> Iterator[str]:
    """Every text in nested lists and dictionaries, each container once."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)) and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part, seen)


def _parse(name: str) -> _HubName:
    path, _, revision = name.removeprefix(PREFIX).partition("@")
    parts = path.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise InputError(
            f"{name}: no such folder, and no name on the hub; expected hf:OWNER/NAME, hf:OWNER/NAME/CONFIG or hf:FOLDER"
        )
    return _HubName("/".join(parts[:2]), parts[2] if len(parts) == 3 else None, revision or None)


@lru_cache
def _asked(repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(repository, revision=revision).sha)
    except hub_errors() as error:
        raise InputError(
            f"hf:{repository}: the hub cannot be asked for it ({shorten(str(error), 200)}); check the name and the network, or "
            "give a folder with its files: hf:FOLDER"
        ) from error


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{name}: a Hugging Face data set needs another library; pip install 'zreward[datasets]'"
        ) from None
    return datasets
