"""A folder of Parquet shards that a long run fills one after the other, and goes on with after a kill.

manifest.json says what the shards depend on. shards.jsonl gets a line for every shard once it is whole: its SHA-256, and a
digest of what it was made from. A shard without its line, or that is not what its line says, is made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zreward.common.errors import InputError
from zreward.common.files import append_line, atomic_path, file_digest, to_json, write_json
from zreward.common.runs import refuse_differences, say

MANIFEST, LINES = "manifest.json", "shards.jsonl"
SCHEMA = 2  # 1 named neither the pictures' contents, the resolution nor the prompt forms


class Shards:
    """The shards of `folder`. InputError for a folder of something else, of other `facts`, or of an older version."""

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], notes: Mapping[str, Any], what: str, advice: str
    ) -> None:
        """`facts` must be the same when a run goes on; `notes` are only written down. `advice`: what to do otherwise."""
        self.folder, self.advice = folder, advice
        self.manifest = {"schema": SCHEMA, **notes, **facts}
        stored = stored_manifest(folder, facts, what, advice)
        if stored is None:
            write_json(folder / MANIFEST, self.manifest)
        else:
            self.manifest = stored
        self.lines = read_lines(folder, self.manifest)

    @property
    def is_finished(self) -> bool:
        """Whether all shards were made, once. They may have been damaged since."""
        return "shards" in self.manifest and not (self.folder / LINES).exists()

    def keep(self, name: str, made_from: str) -> bool:
        """Whether a shard is there and whole; a damaged one is named. InputError where it was made from something else."""
        line = self.lines.get(name)
        if line is None:
            return False
        if line["made_from"] != made_from:
            raise InputError(
                f"{self.folder / name} was made from other rows or pictures than are there now "
                f"(different: records: {line['made_from']}, now {made_from}); {self.advice}"
            )
        reason = damage(self.folder / name, line)
        if reason:
            say(f"{self.folder / name} is {reason}: it is made again")
        return reason is None

    def add(self, name: str, table: pa.Table, made_from: str) -> None:
        """Write a shard, whole, and then its line."""
        file = self.folder / name
        with atomic_path(file) as temporary:
            pq.write_table(table, temporary)
        line = {"shard": name, "sha256": file_digest(file), "made_from": made_from}
        self.lines[name] = line
        append_line(self.folder / LINES, to_json(line, indent=None))

    def finish(self) -> None:
        """All shards are there: their lines move into the manifest."""
        shards = {name: self.lines[name] for name in sorted(self.lines)}
        write_json(self.folder / MANIFEST, self.manifest | {"shards": list(shards.values())})
        (self.folder / LINES).unlink(missing_ok=True)


def stored_manifest(folder: Path, facts: Mapping[str, Any], what: str, advice: str) -> dict[str, Any] | None:
    """The manifest of a folder that a run with these `facts` may go on with, None where there is none yet; writes nothing."""
    file = folder / MANIFEST
    if not file.exists():
        if any(folder.glob("*.parquet")):
            raise InputError(f"{folder} is not empty and holds no {MANIFEST}; {advice}")
        return None
    stored = read_manifest(file, advice)
    if stored.get("schema", 1) != SCHEMA:
        raise InputError(
            f"{folder} was written by another version of zreward, which recorded other facts about what it depends on: "
            f"it cannot be gone on with; {advice}"
        )
    kept = {key: stored.get(key) for key in facts}
    refuse_differences(f"{folder} holds {what}", kept, facts, advice)
    return stored


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
    lines = list(manifest.get("shards", []))
    file = folder / LINES
    for text in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return {line["shard"]: line for line in lines if {"shard", "sha256", "made_from"} <= set(line)}


def progress_of(folder: Path, manifest: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A sentence on how far a folder is; `names`: every shard that is wanted, and what it is made from."""
    lines = read_lines(folder, manifest)
    whole: list[str] = []
    broken: list[str] = []
    for name in names:
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
