"""The pixel oracle against scenes whose truth is known."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from zreward.common.errors import InputError
from zreward.world.grammar import parse_prompt, sample_prompt
from zreward.world.oracle import read_picture
from zreward.world.renderer import render, render_array
from zreward.world.scenes import DIMENSIONS, PlacedObject, Scene, sample_scene

PROMPT = parse_prompt("a large red circle left of a small blue cross")


def scene(**changes) -> Scene:
    """The prompt drawn as asked for, with `changes`."""
    circle = PlacedObject("large", "red", "circle", (8.5, 8.5), 0)
    cross = PlacedObject("small", "blue", "cross", (23.0, 9.0), 1)
    return replace(Scene(PROMPT, (circle, cross)), **changes)


def changed(index: int, **changes) -> Callable[[], Scene]:
    """One of the two objects drawn differently."""

    def build() -> Scene:
        objects = list(scene().objects)
        objects[index] = replace(objects[index], **changes)
        return scene(objects=tuple(objects))

    return build


def test_a_faultless_picture_is_read_as_drawn():
    reading = read_picture(render(scene()), PROMPT.text)
    found = {(thing.kind.size, thing.colour, thing.kind.shape): (thing.x, thing.y) for thing in reading.objects}
    assert found[("large", "red", "circle")] == pytest.approx((8.5, 8.5), abs=0.5)
    assert found[("small", "blue", "cross")] == pytest.approx((23.0, 9.0), abs=0.5)
    assert [reading.score(dimension) for dimension in DIMENSIONS] == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("build", "dimension", "defects"),
    [
        (changed(0, shape="square"), "alignment", ("shape",)),
        (changed(1, colour="green"), "alignment", ("colour",)),
        (changed(0, size="small"), "alignment", ("size",)),
        (changed(0, shadow="missing"), "plausibility", ("shadow missing",)),
        (changed(1, shadow="opposite"), "plausibility", ("shadow opposite",)),
        (changed(0, shadow="distant"), "plausibility", ("shadow distant",)),
        (changed(0, split=True), "plausibility", ("split",)),
        (lambda: scene(noise=2), "realism", ("noise strong",)),
        (lambda: scene(blur=1), "realism", ("blur slight",)),
        (lambda: scene(blocks=2), "realism", ("blocks strong",)),
        (lambda: scene(faded=2), "aesthetics", ("faded strong",)),
        (lambda: scene(harsh=True), "aesthetics", ("harsh",)),
        (lambda: scene(cut=1, cut_side=2), "aesthetics", ("cut slight",)),
    ],
)
def test_a_single_defect_is_found_and_nothing_else(build, dimension, defects):
    reading = read_picture(render(build()), PROMPT)
    assert reading.defects == dict.fromkeys(DIMENSIONS, ()) | {dimension: defects}


def test_what_is_missing_swapped_or_too_much_is_told_apart():
    circle, cross = scene().objects
    assert read_picture(render(scene(objects=(circle,))), PROMPT).defects["alignment"] == ("missing",)
    swapped = scene(objects=(replace(circle, centre=cross.centre), replace(cross, centre=circle.centre)))
    assert read_picture(render(swapped), PROMPT).defects["alignment"] == ("relation",)
    third = PlacedObject("large", "yellow", "square", (8.5, 23.0), None)
    assert read_picture(render(scene(objects=(circle, cross, third))), PROMPT).defects["alignment"] == ("extra",)


@pytest.mark.parametrize("seed", [5, 6])
def test_scores_agree_with_the_truth_of_rendered_scenes(seed):
    rng = random.Random(seed)
    scenes = [sample_scene(sample_prompt(rng), rng) for _ in range(150)]
    readings = [read_picture(render(drawn), drawn.prompt) for drawn in scenes]
    for dimension in DIMENSIONS:
        truth, read = [s.truth(dimension) for s in scenes], [r.score(dimension) for r in readings]
        assert spearmanr(truth, read).statistic > 0.9, dimension


@pytest.mark.parametrize("pixels", [np.zeros((32, 32, 3)), np.ones((32, 32, 3)), np.full((32, 32, 3), 0.5)])
def test_an_empty_picture_misses_everything(pixels):
    assert read_picture(pixels, PROMPT).defects["alignment"] == ("missing", "missing")


def test_noise_alone_holds_no_objects():
    noise = np.random.default_rng(0).normal(0.9, 0.1, (32, 32, 3)).clip(0, 1)
    reading = read_picture(noise, PROMPT)
    assert reading.objects == ()
    assert "noise strong" in reading.defects["realism"]


def test_it_reads_files_pictures_and_arrays_alike(tmp_path):
    drawn = scene(noise=1)
    path = tmp_path / "picture.png"
    render(drawn).save(path)
    readings = [read_picture(given, PROMPT) for given in (path, Image.open(path), np.asarray(Image.open(path)) / 255)]
    assert (
        readings[0].defects
        == readings[1].defects
        == readings[2].defects
        == read_picture(render_array(drawn), PROMPT).defects
    )


@pytest.mark.parametrize("picture", [np.zeros((16, 16, 3)), np.full((32, 32, 3), np.nan), Image.new("RGB", (64, 64))])
def test_what_is_not_a_picture_of_the_world_is_refused(picture):
    with pytest.raises(InputError, match="expected finite"):
        read_picture(picture, PROMPT)
