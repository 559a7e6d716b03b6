"""A model card: rubric, data, metrics with the command that measured them, use, limits, licence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward.common.bounded import read_json
from zreward.common.errors import InputError, shown
from zreward.common.files import write_text
from zreward.common.text_files import read_text
from zreward.models.checkpoint import Meta, read_meta
from zreward.models.checkpoint_files import META_FILE
from zreward.publishing.readme import README, WRITTEN, usage
from zreward.publishing.request import FILE
from zreward.rubric import Rubric

MADE = "<!-- written by zreward push: written again at the next push, unless this line is removed -->"
_SHOWN = ("plcc", "srcc", "hpa", "margin_hpa", "nll", "crps", "ece", "output_tokens", "n_items", "n_pairs")
_LIMITS = (
    "Scores follow this rubric and these raters' taste; they are no measure of quality in general.",
    "On pictures and prompts unlike the data above, scores are not reliable; measure there first.",
    "A generator that is trained against a reward model learns to exploit it; use guards and look at the pictures.",
)


@dataclass(frozen=True)
class CardFacts:
    """What only its authors know about a model."""

    license: str  # as the hub names it: apache-2.0, cc-by-4.0, other, ...
    data: str  # sentences: what it was trained on, by whom the data was rated
    base: str = ""  # hub name of the model that it was trained from
    metrics: Path | None = None  # what `zreward evaluate --json` wrote
    command: str = ""  # the command that wrote it
    limits: tuple[str, ...] = ()  # further sentences

    def __post_init__(self) -> None:
        for key in ("license", "data"):
            if not getattr(self, key).strip():
                raise InputError(f"--{key} is empty; a model card states it")
        if (self.metrics is None) != (not self.command.strip()):
            raise InputError("--metrics and --command belong together: figures, and the command that measured them")


def write_card(folder: Path, repo: str, facts: CardFacts) -> bool:
    """Write README.md into a checkpoint's folder; False where somebody's own stands there, which is kept.

    Args:
        folder: of the checkpoint.
        repo: its name on the hub.
        facts: what is stated.
    """
    file = folder / README
    text = card(folder, repo, facts)
    if file.exists():
        there = read_text(file)
        if MADE not in there and WRITTEN not in there:
            return False
    write_text(file, text)
    return True


def card(folder: Path, repo: str, facts: CardFacts) -> str:
    """The card's text. InputError for a folder without zreward.json, and for a damaged file of metrics."""
    meta = read_meta(folder)
    if meta is None:
        raise InputError(f"{folder} has no {META_FILE}; expected a model of zreward")
    parts = [
        _header(facts),
        f"{MADE}\n\n# {repo.rpartition('/')[2]}\n\nA reward model: a distribution over the scores of a rubric, for a generated "
        "picture and its prompt.",
        _rubric(meta.rubric),
        f"## Data\n\n{facts.data.strip()}",
        _results(facts),
        _use(folder, repo, meta),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in (*_LIMITS, *facts.limits)),
        f"## Licence\n\n{facts.license}",
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=facts.license,
        base_model=facts.base or None,
        library_name="zreward",
        pipeline_tag="image-text-to-text",
        tags=["zreward", "reward-model", "image-quality"],
    )
    return f"---\n{data.to_yaml()}\n---"


def _rubric(rubric: Rubric) -> str:
    scale = rubric.scale
    lines = [
        f"## Rubric\n\n`{rubric.name}`, version {rubric.version} (`{rubric.fingerprint()}`): scores from {scale.min:g} to "
        f"{scale.max:g} in steps of {scale.step:g}, labels {', '.join(rubric.labels)}."
    ]
    for each in rubric.dimensions:
        anchors = "\n".join(f"- {score:g}: {text}" for score, text in sorted(each.anchors.items(), reverse=True))
        lines.append(f"**{each.title}** (`{each.name}`): {each.question}\n\n{anchors}")
    return "\n\n".join(lines)


def _results(facts: CardFacts) -> str:
    if facts.metrics is None:
        return "## Results\n\nNone were stated. Measure before use: `zreward evaluate MODEL --data RATED --json metrics.json`"
    rows = _metrics(facts.metrics)
    columns = [name for name in _SHOWN if any(name in row for row in rows)]
    table = [f"| dimension | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    table += [f"| {row['dimension']} | {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in rows]
    return f"## Results\n\n```sh\n{facts.command.strip()}\n```\n\n" + "\n".join(table)


def _metrics(file: Path) -> Sequence[dict[str, Any]]:
    text = read_text(file)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{file} is no JSON ({error}); expected what `zreward evaluate --json {file}` writes"
        ) from None
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and "dimension" in r for r in rows):
        raise InputError(f"{file} holds {shown(rows)}; expected what `zreward evaluate --json {file}` writes")
    return rows


def _cell(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _use(folder: Path, repo: str, meta: Meta) -> str:
    name = repo.rpartition("/")[2]
    fetch = f"## Use\n\n```sh\nhf download {repo} --local-dir {name}\n```"
    if not os.path.lexists(folder / FILE):
        return f'{fetch}\n\n```python\nfrom zreward import RewardModel\n\nmodel = RewardModel.from_pretrained("{name}")\n```'
    exact = read_json(folder / FILE).get("chat_is_exact") is True
    deeper = f"\n{usage(name, meta.rubric.dimension_names[0], exact)}".replace("\n## ", "\n### ")
    return f"{fetch}\n{deeper.rstrip()}"
