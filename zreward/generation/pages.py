"""What a person reads: a page of pairs after `zreward compare`, a page of curves and grids after `zreward optimize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from zreward.common.runs import versions
from zreward.evaluation.report.sections import Figure, Section, write_sections
from zreward.generation.comparison import OUTCOMES, Comparison, Pairs
from zreward.generation.guards import Evaluation

SHOWN = 100  # pairs


def write_comparison_page(
    path: Path, comparison: Comparison, pairs: Pairs, settings: dict[str, Any], shown: int = SHOWN
) -> Path:
    """The verdicts, and the first `shown` pairs side by side with their scores; returns `path`."""
    sections = [verdict_section(comparison), pairs_section(comparison, pairs, shown)]
    facts = settings | {"judge": comparison.judge, "versions": versions()}
    return write_sections(path, "Before and after", facts, sections, written_by="zreward compare")


def verdict_section(comparison: Comparison) -> Section:
    rows = [("overall", comparison.verdict()), *((name, comparison.verdict(name)) for name in comparison.dimensions)]
    before, after = comparison.means()
    chosen = comparison.overall or comparison.dimensions
    before["overall"], after["overall"] = (sum(side[name] for name in chosen) / len(chosen) for side in (before, after))
    lines = [
        [
            name,
            f"{found['gsb']:+.3f}",
            f"{found['low']:+.3f} to {found['high']:+.3f}",
            *(str(found[outcome]) for outcome in OUTCOMES),
            f"{before[name]:.2f}",
            f"{after[name]:.2f}",
        ]
        for name, found in rows
    ]
    note = (
        f"{len(comparison.prompts)} pairs, judged by {comparison.judge}. Overall is the mean of {', '.join(chosen)}; "
        f"a difference under {comparison.same:g} is the same. GSB = (good - bad) / all, with a 95 % bootstrap interval over "
        "prompts."
    )
    head = ["", "GSB", "interval", *OUTCOMES, "before", "after"]
    return Section("Good, same, bad", note, head, lines)


def print_verdicts(comparison: Comparison) -> None:
    """The table of the page, on the terminal."""
    section = verdict_section(comparison)
    table = Table(*section.head, title=section.title, caption=section.note)
    for line in section.lines:
        table.add_row(*line)
    Console().print(table)


def pairs_section(comparison: Comparison, pairs: Pairs, shown: int = SHOWN) -> Section:
    figures = []
    for n, outcome in enumerate(comparison.outcomes()[:shown]):
        scores = ", ".join(
            f"{name} {comparison.before[n, d]:.1f} → {comparison.after[n, d]:.1f}"
            for d, name in enumerate(comparison.dimensions)
        )
        figures.append(Figure([pairs.before[n], pairs.after[n]], f"{pairs.prompts[n]}: {outcome}", scores))
    return Section(
        "Pairs", f"Left before, right after; the first {len(figures)} of {len(pairs.prompts)}.", figures=figures
    )


def describe_ending(kept: int, stopped_at: int, guard: str | None, message: str, judge: str | None) -> str:
    """What stopped a run, when and by which judge (None: the trained reward), and from which step its weights are."""
    weights = f"The weights of step {kept} are kept."
    if guard is None:
        return f"The run went on to its last step, {stopped_at}; no guard stopped it. {weights}"
    if guard in MONITORED:
        return f"The run stopped at step {stopped_at}: the monitor found that {message}. {weights}"
    watched = guard in ("dimension", "holdout", "patience")  # the others measure pictures and predictions themselves
    by = (
        (f", which reads the held-out judge {judge}" if judge else ", which reads the trained reward")
        if watched
        else ""
    )
    return f"The run stopped at step {stopped_at}: the guard {guard!r}{by}, found that {message}. {weights}"


def write_optimization_page(
    path: Path,
    evaluations: Sequence[Evaluation],
    grids: Sequence[Path],
    ending: str,
    settings: dict[str, Any],
    final: tuple[Comparison, Pairs] | None = None,
) -> Path:
    """Held-out curves, guards, sample grids over training and, where there is one, the final comparison."""
    sections = optimization_sections(evaluations, grids, ending, path.parent, final)
    facts = settings | {"versions": versions()}
    return write_sections(path, "A generator that follows a reward", facts, sections, written_by="zreward optimize")


def optimization_sections(
    evaluations: Sequence[Evaluation],
    grids: Sequence[Path],
    ending: str,
    folder: Path,
    final: tuple[Comparison, Pairs] | None = None,
    shown: int = SHOWN,
) -> list[Section]:
    """What the page holds; the curves' pictures go to `folder`, the first `shown` pairs are shown."""
    sections = [Section("How it ended", ending)]
    if final is not None:
        sections.append(verdict_section(final[0]))
    sections += curve_sections(evaluations, folder)
    figures = [Figure([Image.open(grid)], f"step {int(grid.stem.removeprefix('step-'))}") for grid in grids]
    sections.append(Section("The same prompts and seeds over training", figures=figures, wide=True))
    if final is not None:
        sections.append(pairs_section(*final, shown))
    return sections


# What the monitor reads: its name on the page.
MONITORED = {"better": "better: P(better than frozen)", "unlike": "unlike the student's data"}

# A field of an evaluation: the title of its curves, a note, what they show, and the picture's name.
_JUDGES = {
    "student": (
        "Held-out prompts, by the trained reward",
        "Mean expected score by dimension of the reward model that is trained on.",
        "expected score",
        "fig5.png",
    ),
    "holdout": ("Held-out prompts, by a judge that is not trained on", "", "expected score", "holdout.png"),
    "final": (
        "Held-out prompts, by the final judge",
        "For information: it trains, selects and stops nothing.",
        "score",
        "final.png",
    ),
}


def curve_sections(evaluations: Sequence[Evaluation], folder: Path) -> list[Section]:
    """The paper's Figure 5 (held-out scores by dimension), and what the guards watch, relative to its limit or start."""
    sections = []
    for judge, (title, note, value, picture) in _JUDGES.items():
        if names := list(getattr(evaluations[0], judge)):
            curves = {
                name: [(evaluation.step, getattr(evaluation, judge)[name]) for evaluation in evaluations]
                for name in names
            }
            sections.append(Section(title, note, value=value, curves=curves, picture=folder / picture))
    first = evaluations[0]
    watched = {
        "diversity, of the start": [
            (evaluation.step, evaluation.diversity / max(first.diversity, 1e-9)) for evaluation in evaluations
        ],
        "entropy, of the start": [
            (evaluation.step, evaluation.entropy / max(first.entropy, 1e-9)) for evaluation in evaluations
        ],
        "drift": [(evaluation.step, evaluation.drift) for evaluation in evaluations],
        "saturation": [(evaluation.step, evaluation.saturation) for evaluation in evaluations],
    }
    sections.append(Section("What the guards watch", value="share", curves=watched, picture=folder / "guards.png"))
    return sections + monitor_sections(evaluations, folder)


def monitor_sections(evaluations: Sequence[Evaluation], folder: Path) -> list[Section]:
    """What the monitor read at every evaluation, as curves and as a table with intervals; none where there was no monitor."""
    names = [name for name in MONITORED if name in evaluations[0].monitor]
    if not names:
        return []
    curves = {name: [(one.step, one.monitor[name]) for one in evaluations] for name in names}
    lines = [
        [str(evaluation.step), *(_interval(evaluation.monitor, name) for name in names)] for evaluation in evaluations
    ]
    head = ["step", *(MONITORED[name] for name in names)]
    note = "From the student and data alone; shares with their 95 % intervals over prompts."
    if "unlike" not in names:
        note += " Pictures unlike the student's data were not counted: the recipe names none (monitor.data)."
    return [
        Section(
            "What the monitor watches", note, head, lines, 1, "share", curves=curves, picture=folder / "monitor.png"
        )
    ]


def _interval(found: Mapping[str, float], name: str) -> str:
    return f"{found[name]:.2f} ({found[f'{name}_low']:.2f} to {found[f'{name}_high']:.2f})"
