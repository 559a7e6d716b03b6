"""Pictures with what lies beside them under the same name, as WebDataset has it: a picture, a .txt, a .json.

    000012.png  000012.txt  000012.json

They are members of a tar shard, or files of a folder. The name up to the first dot of its last part is the key, what follows is
the extension; the members of one key follow each other. Names that begin with a dot or have none, and other extensions, are
passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from zreward.common.bounded import read_bytes
from zreward.common.errors import InputError
from zreward.common.text_files import decode_text
from zreward.common.texts import check_unicode
from zreward.data.images import suffixes
from zreward.data.packed import PackedImage
from zreward.data.places import FirstPlaces
from zreward.data.rows import Fields, SourceRow, parse_json
from zreward.data.tar_files import DamagedTarError, members

TEXT, JSON = "txt", "json"
_MOST_PARTS = 64  # members of one key
_MOST_TEXT = 1 << 22  # bytes of a .txt or .json
Part = PackedImage | Path
Sample = tuple[str, list[tuple[str, Part]]]
"""A key, and the members with their extensions."""


def tar_rows(path: str, base: str, numbers: Iterator[int], fields: Fields) -> Iterator[SourceRow]:
    """Rows of a shard, their ids BASE/KEY, their numbers the next of `numbers`. A tar that is cut off ends with a bad row.

    InputError for a file that is no tar from its beginning.
    """
    found = ((one.name, PackedImage(path, one.name, one.offset, one.size)) for one in members(path))
    with closing(FirstPlaces()) as places:
        try:
            for key, parts in _samples(found):
                place = f"{path}:{_printable(key)}"
                yield _row(next(numbers), place, f"{base}/{key}", key, parts, fields, places)
        except DamagedTarError as error:
            yield SourceRow(next(numbers), path, {}, None, str(error))


def folder_rows(folder: Path, fields: Fields) -> Iterator[SourceRow]:
    """Rows of a folder and the folders in it, by their names. Paths of pictures start where the folder lies."""
    found = (
        (str(below), Path(folder.name, below)) for below in (path.relative_to(folder) for path in files_in(folder))
    )
    for number, (key, parts) in enumerate(_samples(found)):
        yield _row(number, f"{folder}/{_printable(key)}", key, key, parts, fields, root=folder.parent)


def files_in(folder: Path) -> Iterator[Path]:
    """All files of a folder and the folders in it, those of one key together; hidden ones are passed over."""
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names, key=lambda name: name.partition(".")[::2]):
            if not name.startswith("."):
                yield Path(place, name)


def _samples(found: Iterable[tuple[str, Part]]) -> Iterator[Sample]:
    """Members of one key that follow each other."""
    key, parts = "", list[tuple[str, Part]]()
    for name, part in found:
        folder, slash, last = name.removeprefix("./").rpartition("/")
        stem, _, extension = last.partition(".")
        if not stem or not extension:
            continue
        if folder + slash + stem != key:
            if parts:
                yield key, parts
            key, parts = folder + slash + stem, []
        if len(parts) <= _MOST_PARTS:
            parts.append((extension.lower(), part))
    if parts:
        yield key, parts


def _row(
    number: int,
    place: str,
    name: str,
    key: str,
    parts: list[tuple[str, Part]],
    fields: Fields,
    places: FirstPlaces | None = None,
    root: Path = Path(),
) -> SourceRow:
    raw = {_utf8(extension): _utf8(str(part)) for extension, part in parts}
    try:
        check_unicode(key, "the name of its members")
        if len(parts) > _MOST_PARTS:
            raise InputError(f"more than {_MOST_PARTS} members; expected a picture, a .txt and a .json")
        if places is not None and places.first(key, str(number)) != str(number):
            raise InputError(
                "its key stands earlier in the shard already; the members of one key must follow each other"
            )
        if len(raw) < len(parts):
            raise InputError(f"two members of one extension: {', '.join(sorted(extension for extension, _ in parts))}")
        return SourceRow(number, place, raw, {"id": name} | _fields(dict(parts), fields, root))
    except InputError as error:
        return SourceRow(number, place, raw, None, _utf8(str(error)))


def _fields(parts: Mapping[str, Part], fields: Fields, root: Path) -> dict[str, Any]:
    about = _json(parts[JSON], root) if JSON in parts else {}
    found = Fields(fields.prompt).known({**about, "image": None})
    image = parts[_picture(parts, fields)]
    prompt = _prompt(found.get("prompt"), parts, fields, about, root)
    return found | {"prompt": prompt, "image": image if isinstance(image, PackedImage) else str(image)}


def _picture(parts: Mapping[str, Part], fields: Fields) -> str:
    """The extension of the picture."""
    known = [fields.image] if fields.image is not None else [suffix[1:] for suffix in suffixes()]
    there = [extension for extension in parts if extension in known]
    if len(there) == 1:
        return there[0]
    if there:
        raise InputError(f"{len(there)} pictures ({', '.join(there)}); name the extension of one with --image-field")
    expected = f".{fields.image} (--image-field)" if fields.image is not None else "one of .png, .jpg, .webp, ..."
    raise InputError(f"no picture: its members are {', '.join(parts)}; expected {expected}")


def _prompt(named: Any, parts: Mapping[str, Part], fields: Fields, about: Mapping[str, Any], root: Path) -> Any:
    """What the .json says, or the .txt."""
    if fields.prompt == TEXT or (fields.prompt is None and TEXT in parts):
        if TEXT not in parts:
            raise InputError(f"no prompt: no .txt beside it; its members are {', '.join(parts)}")
        text = decode_text(_content(parts[TEXT], root), ".txt").strip()
        if fields.prompt is None and named is not None and named != text:
            raise InputError("two prompts: the .txt and `prompt` in the .json differ; choose with --prompt-field")
        return text
    if named is not None:
        return named
    if fields.prompt is not None:
        raise InputError(f"no prompt: no field {fields.prompt!r} in a .json; {_what_is_there(parts, about)}")
    raise InputError(
        f"no prompt: neither a .txt nor a field 'prompt' in a .json; {_what_is_there(parts, about)}; name a field with "
        "--prompt-field. The members of one key must follow each other (tar --sort=name)"
    )


def _what_is_there(parts: Mapping[str, Part], about: Mapping[str, Any]) -> str:
    fields = f", the fields of its .json {', '.join(map(str, list(about)[:20]))}" if about else ""
    return f"its members are {', '.join(parts)}{fields}"


def _json(part: Part, root: Path) -> dict[str, Any]:
    """NaN is let through: it may be in a field that nobody reads, and a score refuses it."""
    value = parse_json(decode_text(_content(part, root), ".json"), ".json: ", strict=False)
    if not isinstance(value, dict):
        raise InputError(f".json: a {type(value).__name__}, expected an object with fields")
    return value


def _content(part: Part, root: Path) -> bytes:
    if isinstance(part, Path):
        return read_bytes(root / part, most=_MOST_TEXT)
    if part.size > _MOST_TEXT:
        raise InputError(f"{part.name}: {part.size:,} bytes; expected a text of at most {_MOST_TEXT:,}")
    return part.read()


def _utf8(text: str) -> str:
    """Without halves of surrogate pairs, which names of other encodings become."""
    return text.encode(errors="backslashreplace").decode()


def _printable(key: str) -> str:
    return key if key.isprintable() else ascii(key)[1:-1]
