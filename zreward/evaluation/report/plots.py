"""The report's plots, each a small figure of its own, so that the page can lay them out for any width.

Every function returns a PNG as a data URI. Figures are made without pyplot: no global state, no display.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from zreward.distribution import ScoreScale
from zreward.evaluation.calibration import in_groups, rank_distribution

Array = NDArray[np.float64]

COLOURS = ("#2f6690", "#c8773c", "#4f8a5b", "#8a5a9c", "#b2484d", "#5d6d7e", "#a08a2e", "#3a8f92")
METHOD_COLOURS = {
    "zero-shot": "#9aa5ad",
    "zero-shot-reasoning": "#6c7a85",
    "sft": "#c8773c",
    "rewarddance": "#a08a2e",
    "grpo": "#8a5a9c",
    "gdso": "#2f6690",
    "opd": "#b2484d",
    "risd": "#4f8a5b",
}
HUMAN, INK, FAINT = "#6b6257", "#2b2f33", "#d9d6cf"
DPI = 190
SQUARE = (2.7, 2.6)  # inches
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": "#b9b5ab",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#ebe8e2",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#5c6166",
    "ytick.color": "#5c6166",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.unicode_minus": True,
}


def method_colour(name: str, index: int = 0) -> str:
    """A method's colour, the same in all plots. `name` may start with the model's: "large gdso".

    A method whose rewards are parsed has the colour of the method.
    """
    words = name.lower().replace("/", " ").replace("-parsed", "").split()
    known = next((METHOD_COLOURS[word] for word in reversed(words) if word in METHOD_COLOURS), None)
    return known or COLOURS[index % len(COLOURS)]


def score_scatter(name: str, human: Any, predicted: Any, scale: ScoreScale, index: int = 0, seed: int = 0) -> str:
    """Human score against expected score, [N] both. Human scores are jittered sideways: many items share a score."""
    x, y = _vector(human), _vector(predicted)
    if x.shape != y.shape:
        raise ValueError(f"scatter {name!r}: {len(x)} human and {len(y)} predicted scores; expected one for each")
    jitter = np.random.default_rng(seed).uniform(-0.35, 0.35, len(x)) * scale.step / 2

    def draw(ax: Axes) -> None:
        _diagonal(ax, scale)
        size, alpha = (9, 0.45) if len(x) < 600 else (5, 0.4)
        ax.scatter(x + jitter, y, s=size, alpha=alpha, color=method_colour(name, index), linewidths=0)
        ax.set_xlabel("human score")
        ax.set_ylabel("expected score")

    return _figure(SQUARE, draw)


def accuracy_bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """HPA (dark) and margin HPA (light) of one model's methods, best first; rows of the metrics table."""

    def draw(ax: Axes) -> None:
        position = np.arange(len(rows))
        for k, (key, shade) in enumerate((("hpa", 1.0), ("margin_hpa", 0.45))):
            values = [row.get(key) for row in rows]
            for y, (row, value) in enumerate(zip(rows, values, strict=True)):
                if value is None or not np.isfinite(value):
                    continue
                at = y + (k - 0.5) * 0.36
                colour = method_colour(str(row.get("method", "")), y)
                ax.barh(at, value, height=0.33, color=colour, alpha=shade, linewidth=0)
                ax.text(
                    value + 0.012, at, f"{value:.3f}", va="center", fontsize=7.5, fontweight="normal" if k else "bold"
                )
        ax.axvline(0.5, color="#8f8a80", linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
        ax.set_yticks(position, [_plain(row.get("method", "")) for row in rows], fontsize=8.5)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlim(0, 1.09)
        ax.set_xticks(np.linspace(0, 1, 6))

    return _figure((4.1, 0.5 + 0.46 * len(rows)), draw, grid="x")


def learning_curves(
    series: Mapping[str, Sequence[tuple[float, float]]], label: str = "", axis: str = "step"
) -> str | None:
    """Values over steps (or another axis), one line each; a long noisy line also gets its running mean.

    None without a finite value.

    A second line of the same colour (one method, two models) is dashed and lighter.
    """
    lines = {name: _points(points) for name, points in series.items()}
    lines = {name: data for name, data in lines.items() if len(data)}
    if not lines:
        return None

    def draw(ax: Axes) -> None:
        drawn, used = [], Counter[str]()
        for index, (name, data) in enumerate(lines.items()):
            colour = method_colour(name, index)
            dash, share = (("-", 1.0), ((0, (3, 1.5)), 0.6), ((0, (1, 1)), 0.45))[min(used[colour], 2)]
            used[colour] += 1
            shade = _lighter(colour, share)
            if len(data) >= 40:
                ax.plot(*data.T, color=shade, alpha=0.25, linewidth=0.8)
                data = _smooth(data, max(3, len(data) // 20))
            marker = "o" if len(data) < 12 else None
            drawn += ax.plot(*data.T, color=shade, linewidth=1.6, linestyle=dash, marker=marker, markersize=3)
        if len(series) > 1:
            names = [_plain(name) for name in lines]
            # Above the axes: lines may be anywhere below. Long handles show which line is dashed.
            ax.legend(drawn, names, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handlelength=3.4)
        ax.set_xlabel(axis)
        ax.set_ylabel(label)
        ax.margins(x=0.02)

    return _figure((3.6, 2.7), draw, grid="both")


def reliability(name: str, probs: Any, counts: Any, scale: ScoreScale, index: int = 0, groups: int = 8) -> str:
    """Mean human rating of items that were predicted alike, over the mean prediction; [N, S] both.

    Groups hold equally many items, in the order of their expected score; bars are two standard errors.
    """
    bins = scale.bins.double().numpy()
    p, c = _matrices(name, probs, counts, len(bins))
    predicted, human = p @ bins, c @ bins / c.sum(1)

    def draw(ax: Axes) -> None:
        _diagonal(ax, scale)
        parts = _equal_groups(predicted, groups)
        x = [predicted[part].mean() for part in parts]
        y = [human[part].mean() for part in parts]
        error = [2 * human[part].std(ddof=1) / np.sqrt(len(part)) if len(part) > 1 else 0.0 for part in parts]
        colour = method_colour(name, index)
        ax.errorbar(x, y, error, color=colour, marker="o", markersize=4.5, linewidth=1.4, elinewidth=1, capsize=0)
        ax.set_xlabel("expected score")
        ax.set_ylabel("mean human rating")

    return _figure(SQUARE, draw)


def spread(name: str, probs: Any, counts: Any, scale: ScoreScale, index: int = 0, groups: int = 8) -> str | None:
    """The raters' standard deviation over the predicted one, [N, S] both; None when no item has two ratings.

    A group's spread is the root of its mean variance; raters' variances are unbiased (n / (n - 1)).
    """
    bins = scale.bins.double().numpy()
    p, c = _matrices(name, probs, counts, len(bins))
    several = c.sum(1) > 1.5
    if not several.any():
        return None
    p, c = p[several], c[several]
    raters = c.sum(1)
    predicted = _variance(p, bins)
    human = _variance(c / raters[:, None], bins) * raters / (raters - 1)

    def draw(ax: Axes) -> None:
        parts = _equal_groups(predicted, groups)
        x = [float(np.sqrt(predicted[part].mean())) for part in parts]
        y = [float(np.sqrt(human[part].mean())) for part in parts]
        end = max(*x, *y, scale.step) * 1.12
        ax.plot([0, end], [0, end], color=FAINT, linewidth=1.2, zorder=0)
        ax.plot(x, y, color=method_colour(name, index), marker="o", markersize=4.5, linewidth=1.4)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.set(xlim=(0, end), ylim=(0, end), xlabel="predicted spread (std)", ylabel="raters' spread (std)")
        ax.set_aspect("equal")

    return _figure(SQUARE, draw, grid="both")


def coverage(name: str, probs: Any, counts: Any, scale: ScoreScale, index: int = 0) -> str:
    """Share of the raters' scores inside the central interval of every level, [N, S] both: below the line, too sure."""
    p, c = _matrices(name, probs, counts, len(scale))
    half = np.linspace(0, 0.5, 26)
    ranks = rank_distribution(p, c, np.concatenate([0.5 - half, 0.5 + half]))
    inside = ranks[len(half) :] - ranks[: len(half)]

    def draw(ax: Axes) -> None:
        ax.plot(2 * half, inside, color=method_colour(name, index), linewidth=1.6)
        _shares(ax, "central interval", "ratings inside")

    return _figure(SQUARE, draw)


def pair_reliability(name: str, prob: Any, votes: Any, index: int = 0, groups: int = 10) -> str:
    """The raters' share for a picture over the predicted probability that it is better: [P] and votes [P, 3], a tie half.

    Every pair counts both ways round; groups hold equally many.
    """
    chance, counts = _vector(prob), np.asarray(votes, dtype=np.float64)
    share = (counts[:, 0] + counts[:, 2] / 2) / counts.sum(1)
    parts = in_groups(np.r_[chance, 1 - chance], np.r_[share, 1 - share], groups)

    def draw(ax: Axes) -> None:
        x, y, _ = zip(*parts, strict=True)
        ax.plot(x, y, color=method_colour(name, index), marker="o", markersize=4.5, linewidth=1.4)
        _shares(ax, "P(better)", "raters' share")

    return _figure(SQUARE, draw)


def _shares(ax: Axes, x: str, y: str) -> None:
    """Square axes from 0 to 1 with the line of perfect agreement."""
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel=x, ylabel=y)
    ax.grid(True)
    ax.set_aspect("equal")


def _figure(size: tuple[float, float], draw: Callable[[Axes], None], grid: str | None = None) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        ax = figure.add_subplot()
        if grid:
            ax.grid(True, axis=grid)  # type: ignore[arg-type]
        draw(ax)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _diagonal(ax: Axes, scale: ScoreScale) -> None:
    """Square axes over the scale, with the line of perfect agreement."""
    ends = (scale.min - scale.step / 2, scale.max + scale.step / 2)
    ax.plot(ends, ends, color=FAINT, linewidth=1.2, zorder=0)
    ticks = np.linspace(scale.min, scale.max, 5)
    ax.set(xlim=ends, ylim=ends, xticks=ticks, yticks=ticks)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(True)
    ax.set_aspect("equal")


def _lighter(colour: str, share: float) -> tuple[float, float, float]:
    """A share of the colour, the rest white."""
    red, green, blue = (share * part + 1 - share for part in to_rgb(colour))
    return red, green, blue


def _points(points: Sequence[tuple[float, float | None]]) -> Array:
    """[n, 2] steps and values, without those that are missing or not finite."""
    data = np.array([point for point in points if point[1] is not None], dtype=float).reshape(-1, 2)
    return data[np.isfinite(data).all(1)]


def _equal_groups(values: Array, groups: int) -> list[NDArray[np.intp]]:
    order = np.argsort(values, kind="stable")
    return [part for part in np.array_split(order, groups) if len(part)]


def _smooth(data: Array, width: int) -> Array:
    """Centred running mean of the second column; at the ends over what there is."""
    ones = np.convolve(np.ones(len(data)), np.ones(width), "same")
    return np.column_stack([data[:, 0], np.convolve(data[:, 1], np.ones(width), "same") / ones])


def _variance(probs: Array, bins: Array) -> Array:
    return np.maximum(probs @ bins**2 - (probs @ bins) ** 2, 0)


def _plain(text: Any) -> str:
    """Matplotlib reads text between dollar signs as mathematics; this is nobody's mathematics."""
    return str(text).replace("$", r"\$")


def _vector(values: Any) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"scores of shape {list(array.shape)}: expected [N] finite numbers, N at least 1")
    return array


def _matrices(name: str, probs: Any, counts: Any, bins: int) -> tuple[Array, Array]:
    p, c = np.asarray(probs, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if p.shape != c.shape or p.ndim != 2 or p.shape[1] != bins or not len(p):
        raise ValueError(f"calibration {name!r}: probs {p.shape}, counts {c.shape}; expected [N, {bins}] for both")
    if not np.isfinite(p).all() or not (c.sum(1) > 0).all():
        raise ValueError(f"calibration {name!r}: a prediction is not finite, or an item has no ratings")
    return p, c
