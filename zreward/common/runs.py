"""What every run directory holds besides its recipe: versions, metrics, and the inputs that it depends on."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from zreward.common.config import config_from_dict
from zreward.common.errors import InputError
from zreward.common.files import append_line, to_json, write_json, write_json_lines, write_text
from zreward.common.version import __version__
from zreward.common.yaml_text import read_yaml

METRICS = "metrics.jsonl"
RECIPE, INPUTS, VERSIONS = "recipe.yaml", "inputs.json", "versions.json"
_SHOWN = 60  # letters of a value in a message


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


def read_metrics(run: str | Path) -> list[dict[str, Any]]:
    """The steps of a run's metrics.jsonl. A last line that a kill cut off is left out."""
    *whole, last = (Path(run) / METRICS).read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in whole]
    try:
        return [*rows, json.loads(last)]
    except ValueError:  # nothing, or half a line
        return rows


def append_metrics(run: str | Path, row: dict[str, Any]) -> None:
    append_line(Path(run) / METRICS, to_json(row, indent=None))


def cut_metrics(run: str | Path, step: int) -> None:
    """Forget the steps after `step`: a run that goes on from there takes them again."""
    if (Path(run) / METRICS).exists():
        write_json_lines(Path(run) / METRICS, [row for row in read_metrics(run) if row["step"] <= step])


def check_folder(run: Path, recipe: Any, resume: bool, finished: bool) -> None:
    """InputError for a run directory in use, or with `resume` for one that was started with another recipe or not at all."""
    if not resume:
        if is_in_use(run):
            state = " (it holds a finished run)" if finished else ""
            raise InputError(f"{run} is not empty; add --resume to go on with it, or choose another out={state}")
        return
    config = run / RECIPE
    if not config.exists():
        raise InputError(f"{run}: nothing to resume, there is no {RECIPE}; run without --resume first")
    stored, now = config_from_dict(type(recipe), read_yaml(config), str(config)).to_dict(), recipe.to_dict()
    for facts in (stored, now):
        del facts["out"]  # a folder may be moved
    refuse_differences(f"{run} was started with another recipe", stored, now, "resume with the same one")


def is_in_use(run: Path) -> bool:
    """Whether a folder holds more than what a run has before its recipe: its other first files, and empty folders."""
    if not run.exists():
        return False
    others = [path for path in run.iterdir() if path.name not in (INPUTS, VERSIONS)]
    return any(not path.is_dir() or any(path.iterdir()) for path in others)


def start_run(run: Path, recipe: Any, inputs: Mapping[str, Any]) -> None:
    """The first files of a run, the recipe last: without it, the folder counts as empty."""
    write_json(run / VERSIONS, versions())
    write_json(run / INPUTS, inputs)
    write_text(run / RECIPE, yaml.safe_dump(recipe.to_dict(), sort_keys=False))


def check_inputs(run: Path, inputs: Mapping[str, Any]) -> None:
    """InputError where a run would go on with other data or weights than it began with.

    Runs of older versions did not write theirs down: they go on, and say so.
    """
    file = run / INPUTS
    if not file.exists():
        say(f"{run} was started by an older zreward, which did not record its data and weights: they cannot be checked")
        return
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        _ = differences(stored, {})
    except (ValueError, AttributeError):
        raise InputError(f"{file} is damaged; start again in another folder") from None
    advice = "bring the old inputs back, or start again with another out="
    refuse_differences(f"{run} was started with other inputs", stored, inputs, advice)


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
