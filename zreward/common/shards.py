"""A folder of Parquet shards that a long run fills in order, and continues after an interruption.

manifest.json says what the shards depend on. shards.jsonl gets a line for every shard once it is whole: its SHA-256, and a
digest of what it was made from. A shard without its line, or that is not what its line says, is made again.

Version 0.1 wrote manifests of schema 1 and no lines. Such a folder is gone on with: what its manifest says is compared, its
shards are kept, and both get their present form.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zreward.common.errors import InputError, shown
from zreward.common.files import append_line, atomic_path, file_digest, to_json, write_json
from zreward.common.runs import refuse_differences, say

MANIFEST, LINES = "manifest.json", "shards.jsonl"
SCHEMA = 2  # 1 named neither the pictures' contents, the resolution nor the prompt forms
BEFORE = "schema_before"  # key of a manifest that was written in an older schema: shards without a line are kept
Facts = Mapping[str, Any]
Older = Callable[[], Facts]
"""The facts as a manifest of schema 1 has them; asked for only where there is one."""


class Shards:
    """The shards of `folder`. InputError for a folder of something else, of other `facts`, or of a newer version."""

    def __init__(self, folder: Path, facts: Facts, notes: Facts, older: Older, what: str, advice: str) -> None:
        """`facts` must be the same when a run continues; `notes` are only recorded. `advice`: what to do otherwise."""
        self.folder, self.advice = folder, advice
        stored = stored_manifest(folder, facts, older, what, advice)
        self.manifest = {"schema": SCHEMA, **notes, **(facts if stored is None else stored)}
        if BEFORE in self.manifest:
            say(
                f"{folder} was started by an older zreward, which did not record the contents of its pictures, the resolution "
                "and the prompt forms: they cannot be checked"
            )
        if stored is None or BEFORE in stored:
            write_json(folder / MANIFEST, self.manifest)
        self.lines = read_lines(folder, self.manifest)

    @property
    def is_finished(self) -> bool:
        """Whether all shards were made, once. They may have been damaged since."""
        return "shards" in self.manifest and not (self.folder / LINES).exists()

    def keep(self, name: str, made_from: str) -> bool:
        """Whether a shard is there and whole; a damaged one is named. InputError where it was made from something else."""
        line = self.lines.get(name)
        if line is None:
            return BEFORE in self.manifest and self._take_over(name, made_from)
        if line["made_from"] != made_from:
            raise InputError(
                f"{self.folder / name} was made from other rows or pictures than are there now "
                f"(different: records: {line['made_from']}, now {made_from}); {self.advice}"
            )
        reason = damage(self.folder / name, line)
        if reason:
            say(f"{self.folder / name} is {reason}: it is written again")
        return reason is None

    def add(self, name: str, table: pa.Table, made_from: str) -> None:
        """Write a shard, whole, and then its line."""
        file = self.folder / name
        with atomic_path(file) as temporary:
            pq.write_table(table, temporary)
        self._add_line(name, made_from)

    def take(self, file: Path, made_from: str) -> None:
        """Copy a whole shard from elsewhere, and write its line."""
        with atomic_path(self.folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
        self._add_line(file.name, made_from)

    def note(self, key: str, value: Any) -> None:
        """Record something in the manifest that later runs are not compared with."""
        self.manifest[key] = value
        write_json(self.folder / MANIFEST, self.manifest)

    def _take_over(self, name: str, made_from: str) -> bool:
        """Give a shard of an older version its line, where there is one that can be read."""
        file = self.folder / name
        if not file.exists():
            return False
        if not _is_readable(file):
            say(f"{file} is damaged: it is written again")
            return False
        self._add_line(name, made_from)
        return True

    def _add_line(self, name: str, made_from: str) -> None:
        line = {"shard": name, "sha256": file_digest(self.folder / name), "made_from": made_from}
        self.lines[name] = line
        append_line(self.folder / LINES, to_json(line, indent=None))

    def finish(self) -> None:
        """All shards are there: their lines move into the manifest."""
        shards = {name: self.lines[name] for name in sorted(self.lines)}
        self.manifest.pop(BEFORE, None)  # every shard has its line now
        write_json(self.folder / MANIFEST, self.manifest | {"shards": list(shards.values())})
        (self.folder / LINES).unlink(missing_ok=True)


def stored_manifest(folder: Path, facts: Facts, older: Older, what: str, advice: str) -> dict[str, Any] | None:
    """The manifest of a folder that a run with these `facts` may continue, None if there is none yet; writes nothing.

    One of schema 1 is compared with `older`, and returned in its present form.
    """
    file = folder / MANIFEST
    if not file.exists():
        if any(folder.glob("*.parquet")):
            raise InputError(f"{folder} is not empty and holds no {MANIFEST}; {advice}")
        return None
    stored = read_manifest(file, advice)
    schema = stored.get("schema", 1)
    if schema not in (1, SCHEMA):
        raise InputError(
            f"{folder} was written by another version of zreward (its manifest has schema {shown(schema)}, this one reads up to "
            f"{SCHEMA}): it cannot be gone on with; {advice}"
        )
    now = facts if schema == SCHEMA else older()
    refuse_differences(f"{folder} holds {what}", {key: stored.get(key) for key in now}, now, advice)
    return stored if schema == SCHEMA else {"schema": SCHEMA, BEFORE: schema, **facts}


def read_manifest(file: Path, advice: str) -> dict[str, Any]:
    """InputError for one that is damaged."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        stored.get("schema")
    except (OSError, ValueError, AttributeError):
        raise InputError(f"{file} is damaged; {advice}") from None
    return stored


def read_lines(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The line of every shard that was whole once, by the shard's name. Half a line, which a kill left, is no line."""
    known = manifest.get("shards", [])
    lines = list(known) if isinstance(known, list) else []
    file = folder / LINES
    for text in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    whole = [line for line in lines if isinstance(line, dict) and {"shard", "sha256", "made_from"} <= set(line)]
    return {str(line["shard"]): line for line in whole}


def progress_of(folder: Path, manifest: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A sentence on how far a folder is; `names`: every shard that is wanted, and what it is made from."""
    lines = read_lines(folder, manifest)
    whole: list[str] = []
    broken: list[str] = []
    for name in names:
        if name not in lines and BEFORE in manifest and (folder / name).exists():
            (whole if _is_readable(folder / name) else broken).append(name)
        if name in lines and lines[name]["made_from"] == names[name]:
            (broken if damage(folder / name, lines[name]) else whole).append(name)
    if len(whole) == len(names):
        return f"{folder}: all {len(names):,} shards are there and whole: nothing to do"
    again = f", {len(broken):,} of them again because they are damaged ({broken[0]})" if broken else ""
    return f"{folder}: {len(whole):,} of {len(names):,} shards are there and whole; the rest is to be made{again}"


def damage(file: Path, line: Mapping[str, str]) -> str | None:
    """What is wrong with a shard: missing, or damaged; None for one that is as it was written."""
    if not file.exists():
        return "missing"
    return None if file_digest(file) == line["sha256"] else "damaged (its checksum is not that of its manifest)"


def _is_readable(shard: Path) -> bool:
    try:
        pq.read_table(shard)
    except (pa.ArrowException, OSError):
        return False
    return True
