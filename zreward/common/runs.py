"""The folder of a run: who may write there, what it was started with, its steps and its checkpoints.

recipe.yaml       what was asked for; written last of the first files: without it, the folder counts as empty
inputs.json       digests of what the run reads: data, pictures, weights
versions.json     of the libraries
metrics.jsonl     a line for every step
checkpoints/      the last ones; a half-written one is never taken for a whole one
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.files import append_line, remove_folder, to_json, write_json, write_json_lines, write_text
from zreward.common.temporary import only_writer
from zreward.common.version import __version__
from zreward.common.yaml_text import read_yaml

RECIPE, INPUTS, VERSIONS, METRICS = "recipe.yaml", "inputs.json", "versions.json", "metrics.jsonl"
BASE = "base"  # folder of a model that the run composed of pretrained parts
COMPLETE = "COMPLETE"  # marker of a checkpoint that was written file by file; written last
_SHOWN = 60  # letters of a value in a message

Reader = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class RunDirectory:
    """The folder of a run. `config` is the file in it that says what the run was started with (YAML or JSON)."""

    path: Path
    config: str = RECIPE
    option: str = "out="  # how a user names another folder

    @property
    def is_started(self) -> bool:
        return (self.path / self.config).exists()

    @property
    def is_in_use(self) -> bool:
        """Whether the folder holds more than what a run has before its config: its other first files, empty folders."""
        if not self.path.exists():
            return False
        others = [path for path in self.path.iterdir() if path.name not in (INPUTS, VERSIONS, BASE)]
        return any(not path.is_dir() or any(path.iterdir()) for path in others)

    # Claiming it.

    def hold(self) -> AbstractContextManager[None]:
        """Create the folder, remove files of killed writers, lock it. InputError if another process writes there."""
        return only_writer(self.path)

    @contextmanager
    def claim(
        self, facts: Mapping[str, Any], resume: bool, finished: bool = False, read: Reader = dict, writes: bool = True
    ) -> Iterator[None]:
        """Lock the folder until the block ends, so that no other process writes into it.

        Args:
            facts: what the run is started with; `out` is not compared, since a folder may be moved.
            resume: continue a run that was started before.
            finished: the folder holds a finished run; messages say so.
            read: converts what an older version wrote into the form of `facts`.
            writes: False in processes beside the main one: they check the folder without locking it.

        Raises:
            InputError: a folder in use; with `resume` one that was started with other facts, or not at all.
        """
        with self.hold() if writes else nullcontext():
            if resume or writes:
                self.check(facts, resume, finished, read)
            yield

    def check(self, facts: Mapping[str, Any], resume: bool, finished: bool = False, read: Reader = dict) -> None:
        """What `claim` checks, without holding the folder."""
        if not resume:
            if self.is_in_use:
                state = " (it holds a finished run)" if finished else ""
                raise InputError(
                    f"{self.path} is not empty; add --resume to continue it, or choose another {self.option}{state}"
                )
            return
        if not self.is_started:
            raise InputError(f"{self.path}: nothing to resume, there is no {self.config}; run without --resume first")
        stored, now = (
            {key: value for key, value in each.items() if key != "out"} for each in (read(self.read_config()), facts)
        )
        what = f"{self.path} was started with another {Path(self.config).stem}"
        refuse_differences(what, stored, now, "resume with the same one")

    def read_config(self) -> dict[str, Any]:
        """What the run was started with. InputError for a file that is damaged."""
        file = self.path / self.config
        try:
            stored = read_yaml(file) if file.suffix == ".yaml" else json.loads(file.read_text(encoding="utf-8"))
            return dict(stored)
        except (ValueError, TypeError):
            raise InputError(f"{file} is damaged; start again in another folder") from None

    def start(self, facts: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> None:
        """Write the first files, the config last."""
        if inputs is not None:
            write_json(self.path / VERSIONS, versions())
            write_json(self.path / INPUTS, inputs)
        file = self.path / self.config
        write_text(file, yaml.safe_dump(facts, sort_keys=False)) if file.suffix == ".yaml" else write_json(file, facts)

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """InputError if the run would continue with other data or weights than it began with.

        Runs of older versions did not record theirs: they continue, with a message.
        """
        file = self.path / INPUTS
        if not file.exists():
            say(
                f"{self.path} was started by an older zreward, which did not record its data and weights: they cannot be "
                "checked"
            )
            return
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            _ = differences(stored, {})
        except (ValueError, AttributeError):
            raise InputError(f"{file} is damaged; start again in another folder") from None
        advice = f"bring the old inputs back, or start again with another {self.option}"
        refuse_differences(f"{self.path} was started with other inputs", stored, inputs, advice)

    # Its steps.

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        append_line(self.path / METRICS, to_json(dict(row), indent=None))

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        write_json_lines(self.path / METRICS, rows)

    def cut_metrics(self, step: int) -> None:
        """Drop the metrics after `step`: a run that resumes there writes them again."""
        if (self.path / METRICS).exists():
            self.write_metrics([row for row in read_metrics(self.path) if row["step"] <= step])

    # Its checkpoints.

    @property
    def checkpoint_folder(self) -> Path:
        return self.path / "checkpoints"

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first. `step-N` appears as a whole; `checkpoint-N` is whole with its marker."""
        atomic = list(self.checkpoint_folder.glob("step-*"))
        marked = [folder for folder in self.checkpoint_folder.glob("checkpoint-*") if (folder / COMPLETE).exists()]
        return sorted(filter(_has_step, [*atomic, *marked]), key=step_of)

    def last_checkpoint(self) -> Path | None:
        return max(self.checkpoints(), key=step_of, default=None)

    def keep_checkpoints(self, count: int) -> None:
        """Remove all but the last ones."""
        for old in self.checkpoints()[:-count]:
            remove_checkpoint(old)

    def remove_half_written(self) -> None:
        """Checkpoints without their marker, which a kill cut off."""
        for folder in self.checkpoint_folder.glob("checkpoint-*"):
            if _has_step(folder) and not (folder / COMPLETE).exists():
                remove_checkpoint(folder)


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The steps of a run's metrics.jsonl. A last line that a kill cut off is left out."""
    *whole, last = (Path(run) / METRICS).read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in whole]
    try:
        return [*rows, json.loads(last)]
    except ValueError:  # nothing, or half a line
        return rows


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _has_step(folder: Path) -> bool:
    """False for somebody's own copy, such as checkpoint-100-old."""
    return re.fullmatch(r"(step|checkpoint)-\d{1,18}", folder.name, re.ASCII) is not None


def remove_checkpoint(folder: Path) -> None:
    """The marker goes first: what a kill leaves of the rest is not taken for a checkpoint."""
    (folder / COMPLETE).unlink(missing_ok=True)
    remove_folder(folder)


def versions() -> dict[str, str]:
    """What a result depends on besides the recipe."""
    import peft
    import transformers

    return {
        "zreward": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "platform": platform.platform(),
    }


def refuse_differences(what: str, stored: Mapping[str, Any], now: Mapping[str, Any], advice: str) -> None:
    """InputError where two sets of facts differ: dotted keys, each with its old and its new value, and what to do."""
    different = differences(stored, now)
    if different:
        raise InputError(f"{what} (different: {', '.join(different)}); {advice}")


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Every dotted key whose value is not the same in both, as "KEY: OLD, now NEW"."""
    old, new = _flat(stored), _flat(now)
    return [
        f"{key}: {_shown(old, key)}, now {_shown(new, key)}" for key in {**old, **new} if old.get(key) != new.get(key)
    ]


def say(message: str) -> None:
    """A line for the person at the terminal, beside a progress bar and apart from results."""
    tqdm.write(f"zreward: {message}", sys.stderr)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys, values as JSON has them."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.loads(to_json(value, indent=None))
    return found


def _shown(facts: Mapping[str, Any], key: str) -> str:
    if facts.get(key) is None:
        return "none"
    text = json.dumps(facts[key], ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
