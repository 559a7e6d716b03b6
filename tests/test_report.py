"""The report: one self-contained page that escapes what it is given and marks what is best."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.distribution import ScoreScale
from zreward.evaluation.report import ExampleDimension, ReportExample, plots, write_report
from zreward.evaluation.report.sections import Figure, Section, prepare

SCALE = ScoreScale()
NASTY = "<script>alert('x')</script> & $\\frac$"


def row(model: str, method: str, dimension: str, hpa: float | None, **more) -> dict:
    made = {"dimension": dimension, "model": model, "method": method, "plcc": 0.5, "srcc": 0.4, "hpa": hpa}
    return made | {"margin_hpa": 0.9, "tie_rate": 0.0, "output_tokens": 1.0, "n_pairs": 12} | more


ROWS = [
    row("small", "sft", "all", 0.7, nll=1.5),
    row("small", "risd", "all", 0.8, nll=1.2),
    row("large", "gdso", "all", 0.9),
    row("large", NASTY, "all", None, plcc=float("nan")),
    *[
        row("small", m, d, h)
        for m, d, h in [("sft", "a", 0.6), ("risd", "a", 0.75), ("sft", "b", 0.8), ("risd", "b", 0.85)]
    ],
]


def make(path: Path, **changes) -> str:
    rng = np.random.default_rng(0)
    probs = torch.softmax(torch.from_numpy(rng.normal(size=(40, 9))), -1)
    counts = np.stack([rng.multinomial(7, p) for p in probs.numpy()])
    human, mean = rng.uniform(1, 5, 40), probs @ SCALE.bins.double()
    dimension = ExampleDimension([3.0, 3.5, 4.0], {"risd": probs[0], NASTY: probs[1].tolist()}, NASTY)
    options = {
        "title": NASTY,
        "rows": ROWS,
        "scatter": {"small risd": (human, mean), NASTY: (human, mean)},
        "curves": {NASTY: {NASTY: [(1, 2.0), (2, 1.0)], "b": [(1, float("nan")), (2, 1.0)]}},
        "calibration": {NASTY: (probs, counts)},
        "examples": [ReportExample(Image.new("RGB", (32, 32), "red"), NASTY, {"a": dimension})],
        "rubric_scale": SCALE,
        "notes": [NASTY],
        "meta": {"command": NASTY, "seed": 3, "versions": {"torch": "2"}, "seconds": 125.4},
    }
    return write_report(path, **(options | changes)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return make(tmp_path_factory.mktemp("report") / "new" / "report.html")


def plain_rows(page: str, section: str) -> list[list[str]]:
    """The cells of every table line behind a heading, tags taken out; a best value is written *value*."""
    table = page[page.index(section) :]
    table = table[table.index("<table>") : table.index("</table>")].replace("<b>", "*").replace("</b>", "*")
    return [
        [re.sub("<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)]
        for line in re.findall("<tr.*?</tr>", table, re.S)
    ]


def test_nothing_is_fetched_and_everything_closed(page):
    class Check(HTMLParser):
        stack: list[str] = []
        outside: list[str] = []

        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                if name in ("src", "href", "srcset", "data", "action") and not value.startswith(("data:", "#")):
                    self.outside.append(value)
            if tag not in ("meta", "link", "img", "br"):
                self.stack.append(tag)

        def handle_startendtag(self, tag, attributes):
            pass

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    check = Check()
    check.feed(page)
    assert check.stack == [] and check.outside == []
    assert not re.search(r"url\(|@import|https?://", page)


def test_user_text_is_escaped_and_not_mathematics(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_header_states_scale_and_run(page):
    for text in ("1 to 5 in steps of 0.5", "2 min 5 s", "<dt>seed</dt><dd>3</dd>", "torch 2"):
        assert text in page


def test_results_sorted_and_best_marked_within_a_model(page):
    rows = plain_rows(page, 'id="results"')
    assert rows[0] == ["method", "PLCC", "SRCC", "HPA", "margin HPA", "ties", "NLL", "tokens", "pairs"]
    assert [line[0] for line in rows[1:]] == [
        "large model",
        "gdso",
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; $\\frac$",
        "small model",
        "risd",
        "sft",
    ]
    # PLCC and SRCC are equal within the small model: nothing is best. Lower NLL is better.
    assert rows[5] == ["risd", "0.500", "0.400", "*0.800*", "0.900", "0.000", "*1.200*", "1.0", "12"]
    assert rows[6][3] == "0.700" and rows[3][1] == rows[3][3] == "–"


def test_hpa_by_dimension(page):
    rows = plain_rows(page, "HPA by dimension")
    assert rows[0] == ["method", "a", "b"]
    assert rows[-2:] == [["risd", "*0.750*", "*0.850*"], ["sft", "0.600", "0.800"]]


def test_images_are_pngs_and_small_ones_are_pixelated(page):
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in images]
    assert len(sizes) == 2 + 2 + 3 + 1 + 1  # bars per model, scatter, calibration, spread and coverage, curves, example
    assert sizes[-1] == (32, 32) and min(sizes[:-1])[0] > 400
    assert 'class="pixelated"' in page


def test_large_example_is_reduced(tmp_path):
    part = ExampleDimension([], {"m": SCALE.soft_target(3)})
    page = make(tmp_path / "r.html", examples=[ReportExample(Image.new("RGB", (2000, 1000)), "p", {"a": part})])
    image = Image.open(io.BytesIO(base64.b64decode(re.findall(r'base64,([^"]+)"', page)[-1])))
    assert image.size == (512, 256) and 'class="pixelated"' not in page
    assert "3.00 ± 0.00" in page


def test_empty_sections_are_left_out(tmp_path):
    page = make(
        tmp_path / "r.html", rows=ROWS[:1], scatter={}, curves={}, calibration={}, examples=[], notes=[], meta=None
    )
    for gone in ('id="scatter"', 'id="calibration"', 'id="curves"', 'id="examples"', "HPA by dimension", "<details>"):
        assert gone not in page


def test_failure_leaves_the_old_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(InputError, match="no rows"):
        make(path, rows=[])
    with pytest.raises(ValueError, match="'m': 2 human and 3 predicted"):
        make(path, scatter={"m": ([1, 2], [1, 2, 3])})
    with pytest.raises(ValueError, match=r"calibration 'm': probs \(2, 3\)"):
        make(path, calibration={"m": (np.ones((2, 3)) / 3, np.ones((2, 3)))})
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"] and path.read_text() == "old"


def test_spread_needs_two_ratings():
    probs = np.full((4, 9), 1 / 9)
    one = np.eye(9)[:4]
    assert plots.spread("m", probs, one, SCALE) is None
    assert plots.spread("m", probs, one + np.eye(9)[4], SCALE).startswith("data:image/png")


def test_method_colours_do_not_depend_on_the_model():
    assert plots.method_colour("large gdso") == plots.method_colour("gdso", 5)
    assert plots.method_colour("zero-shot-reasoning") != plots.method_colour("zero-shot")


def test_learning_curves_without_values_are_left_out(tmp_path):
    assert plots.learning_curves({"a": [], "b": [(1, float("nan")), (2, None)]}) is None
    page = make(
        tmp_path / "r.html", curves={"empty": {"a": []}, "full": {"large sft": [(1, 2.0)], "small sft": [(1, 3.0)]}}
    )
    assert "Learning curve: full" in page and "Learning curve: empty" not in page


def test_a_second_line_of_a_method_is_lighter():
    assert plots._lighter("#000000", 0.6) == pytest.approx((0.4, 0.4, 0.4))
    alike, apart = (
        {"large sft": [(1, 2.0), (2, 2.0)], name: [(1, 2.0), (2, 2.0)]} for name in ("small sft", "small gdso")
    )
    assert plots.learning_curves(alike) != plots.learning_curves(apart)


def test_a_strip_of_pictures_keeps_its_size(tmp_path):
    strip = Image.new("RGB", (1200, 96), "red")
    for wide, size in ((True, (1200, 96)), (False, (512, 41))):
        ((_, _, [([(uri, _)], _)]),) = prepare([Section("s", figures=[Figure([strip])], wide=wide)])
        assert Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size == size
