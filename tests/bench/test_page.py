"""The page: the pairs on which a model is most wrong, in order, people's winner on the left."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.bench.inputs import preferences, write_preferences, write_records
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking

pytest.importorskip("matplotlib")


def page_of(tmp_path, suite, rows: dict[str, float]) -> str:
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["id,score", *(f"{name},{value}" for name, value in rows.items())]))
    request = Request({}, {"mine": suite}, {"theirs": str(table)}, asking=Asking(resamples=2))
    report = run_bench(request, lambda name: None, print)
    return report.write(tmp_path / "out")[2].read_text()


def figures(page: str) -> list[tuple[str, list[Image.Image], str]]:
    found = []
    for part in re.findall(r"<figure>.*?</figure>", page, re.S):
        images = [Image.open(io.BytesIO(base64.b64decode(b))) for b in re.findall(r"base64,([^\"]+)", part)]
        found.append(
            (
                re.search(r"<figcaption>(.*?)</figcaption>", part)[1],
                images,
                re.search(r"<small.*?>(.*?)</small>", part)[1],
            )
        )
    return found


def test_the_worst_pair_of_each_prompt_the_surest_mistake_first(tmp_path):
    suite, pairs = write_preferences(tmp_path), preferences(tmp_path)
    decided = [one for one in pairs if one.counts().winner != "tie"]
    # The table prefers the loser of every pair, of each by a larger gap than of the pair before.
    gaps = {one.id: (n + 1) * (-1 if one.counts().winner == "a" else 1) for n, one in enumerate(decided)}
    gaps |= {one.id: 0.0 for one in pairs if one not in decided}
    worst = list({one.prompt: one for one in decided}.values())[::-1]
    shown = figures(page_of(tmp_path, suite, gaps))
    for (caption, images, text), one in zip(shown, worst, strict=True):
        counts = one.counts()
        first = 0 if counts.winner == "a" else 1
        assert caption == one.prompt
        assert np.array_equal(np.asarray(images[0]), np.asarray(Image.open(one.images[first]).convert("RGB")))
        more, fewer = max(counts.a, counts.b), min(counts.a, counts.b)
        assert text.startswith(f"people {more:g} to {fewer:g}, 1 ties; model: P(left better) 0.")


def test_rated_pictures_and_nothing_wrong(tmp_path):
    suite = write_records(tmp_path)
    from tests.bench.inputs import records

    right = {one.id: float(np.mean(one.scores["alignment"])) for one in records(tmp_path)}
    page = page_of(tmp_path, suite, right)
    assert "theirs on mine, alignment: most wrong" not in page and "theirs on mine, realism: most wrong" in page
    assert "Official figures" in page and "1.0000" in page
    for _, images, text in figures(page):
        people, model = (re.findall(r"[\d.]+", part) for part in text.split(";"))
        assert float(people[0]) > float(people[1]) and float(model[0]) <= float(model[1]) and len(images) == 2


def test_without_pictures_the_pairs_are_named(tmp_path):
    file = tmp_path / "human_annotations_with_scores.json"
    file.write_text(
        '{"a_1": {"text_id": "a", "image_path": "a_1.jpg", "text": "<b>A tree</b>", "human_scores": [5, 5], "m": 0.1},'
        ' "a_2": {"text_id": "a", "image_path": "a_2.jpg", "text": "<b>A tree</b>", "human_scores": [1, 2], "m": 0.7}}'
    )
    request = Request({}, {"tifa160": file}, {"m": f"{file}#m"}, asking=Asking(resamples=2))
    page = run_bench(request, lambda name: None, print).write(tmp_path / "out")[2].read_text()
    (shown,) = figures(page)
    assert shown == ("&lt;b&gt;A tree&lt;/b&gt;", [], "people 5.00 and 1.50; model 0.10 and 0.70")
