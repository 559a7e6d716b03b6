"""The world: seeded, truthful, disjoint, and drawn as described."""

import random
from dataclasses import replace

import numpy as np
import pytest

from zreward.common.errors import InputError
from zreward.data import check_disjoint, load_records
from zreward.world.dataset import WorldSize, make_world
from zreward.world.explain import explain
from zreward.world.grammar import ObjectSpec, PromptSpec, parse_prompt, sample_prompt, sample_prompts
from zreward.world.raters import Rater, audit, make_panel
from zreward.world.renderer import PALETTE, render_array
from zreward.world.scenes import DIMENSIONS, SEVERITY, PlacedObject, Scene, sample_scene

PROMPT = PromptSpec((ObjectSpec("large", "red", "square"), ObjectSpec("small", "blue", "circle")), "left of")
RED = PlacedObject("large", "red", "square", (8.5, 8.5), 0)
BLUE = PlacedObject("small", "blue", "circle", (23.0, 8.5), 1)


def test_a_prompt_reads_as_a_sentence():
    assert PROMPT.text == "a large red square left of a small blue circle"


def test_prompts_are_read_back():
    rng = random.Random(4)
    for prompt in (sample_prompt(rng) for _ in range(50)):
        assert parse_prompt(prompt.text) == prompt


@pytest.mark.parametrize(
    "text", ["", "a red circle", "a huge red circle", "a small red circle and", "two small red circles"]
)
def test_a_prompt_outside_the_grammar_is_refused(text):
    with pytest.raises(InputError, match="not of the world's grammar"):
        parse_prompt(text)


def test_truth_is_five_minus_the_severities():
    clean = Scene(PROMPT, (RED, BLUE))
    assert [clean.truth(name) for name in DIMENSIONS] == [5, 5, 5, 5]
    wrong = PlacedObject("large", "green", "square", (8.5, 8.5), 0, wrong=("colour",), shadow="opposite", split=True)
    scene = Scene(PROMPT, (wrong,), noise=2, blur=1, harsh=True)
    assert scene.truth("alignment") == 5 - 1.0 - 2.0  # wrong colour, one missing
    assert scene.truth("realism") == 5 - 2.0 - 1.0
    assert scene.truth("aesthetics") == 5 - 2.0
    assert scene.truth("plausibility") == 5 - 1.5 - 2.0


def test_truth_never_falls_below_one():
    scene = Scene(PROMPT, (RED, BLUE), noise=2, blur=2, blocks=2)
    assert scene.truth("realism") == 1  # 5 - 2 - 2.5 - 1.5 would be -1


def test_every_sampled_defect_has_a_severity_and_is_told_in_the_trace():
    rng = random.Random(0)
    seen = {name: set() for name in DIMENSIONS}
    for _ in range(400):
        scene = sample_scene(sample_prompt(rng), rng)
        for name in DIMENSIONS:
            seen[name] |= set(scene.defects(name))
            assert 1 <= scene.truth(name) <= 5
            assert not any(character.isdigit() for character in explain(scene, name))  # no score in a trace
    assert {name: seen[name] for name in DIMENSIONS} == {name: set(SEVERITY[name]) for name in DIMENSIONS}


def test_the_trace_names_what_is_drawn():
    scene = Scene(PROMPT, (PlacedObject("large", "red", "cross", (8.5, 8.5), 0, wrong=("shape",)),), blocks=1)
    assert explain(scene, "alignment") == "first left above large red cross shape ; second missing ; extra none"
    assert explain(scene, "alignment", places=False) == "first large red cross shape ; second missing ; extra none"
    assert explain(scene, "realism") == "noise none ; blur none ; blocks slight"


def test_the_trace_says_how_two_objects_stand_before_it_says_whether_that_is_right():
    right = Scene(PROMPT, (RED, BLUE))
    swapped = (replace(RED, centre=BLUE.centre), replace(BLUE, centre=RED.centre))
    wrong = Scene(PROMPT, swapped, relation_wrong=True)
    assert "; relation left ok ;" in explain(right, "alignment")
    assert explain(wrong, "alignment") == (
        "first right above large red square ok ; second left above small blue circle ok ; relation right wrong ; extra none"
    )
    assert "; relation wrong ;" in explain(wrong, "alignment", places=False)


def test_every_trace_fits_into_the_budget_of_the_base_models():
    rng = random.Random(0)
    scenes = [sample_scene(sample_prompt(rng), rng) for _ in range(1000)]
    longest = max(len(explain(scene, name).split()) for scene in scenes for name in DIMENSIONS)
    assert 30 < longest < 40  # with the stop marker within max_trace_tokens


def test_objects_and_shadows_are_drawn_where_the_scene_says():
    pixels = render_array(Scene(PROMPT, (RED, BLUE)))
    assert pixels.shape == (32, 32, 3)
    np.testing.assert_allclose(pixels[8, 8], PALETTE["red"], atol=1e-6)
    np.testing.assert_allclose(pixels[8, 23], PALETTE["blue"], atol=1e-6)
    background = pixels[30, 2]
    lower_right, upper_left = pixels[15, 15], pixels[2, 2]  # the red square's shadow falls to the lower right
    assert lower_right.mean() < background.mean() - 0.05
    np.testing.assert_allclose(upper_left, background, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"), [("noise", 1), ("blur", 1), ("blocks", 1), ("faded", 1), ("cut", 1), ("harsh", True)]
)
def test_every_picture_defect_changes_pixels_and_the_same_scene_gives_the_same_pixels(field, value):
    clean, broken = Scene(PROMPT, (RED, BLUE)), Scene(PROMPT, (RED, BLUE), **{field: value})
    assert np.abs(render_array(clean) - render_array(broken)).mean() > 0.003
    np.testing.assert_array_equal(render_array(broken), render_array(broken))


def test_raters_follow_bias_stretch_and_the_half_point_grid():
    rng = random.Random(0)
    exact = Rater("r", bias=0.5, stretch=0.5, noise=0.0)
    assert exact.rate(4.0, rng) == 4.0  # 3 + 0.5 (4 - 3) + 0.5
    assert exact.rate(1.0, rng) == 2.5
    ratings = [make_panel(rng)[0].rate(3.2, rng) for _ in range(50)]
    assert all(1 <= rating <= 5 and rating * 2 == int(rating * 2) for rating in ratings)


def test_the_audit_finds_the_careless_rater():
    rng = random.Random(1)
    panel = make_panel(rng)
    accuracy = audit(panel, [1 + 0.5 * rng.randrange(9) for _ in range(500)], rng)
    assert len(panel) == 9 and min(accuracy, key=accuracy.get) == panel[-1].id


def test_the_data_sets_are_disjoint_seeded_and_rated_as_documented(tmp_path):
    size = WorldSize(train=(4, 2), dev=(2, 2), pool=(3, 2), test=(3, 2))
    paths = make_world(tmp_path / "a", 5, size)
    sets = {name: load_records(path) for name, path in paths.items()}
    assert {len(r.ratings(d)) for r in sets["train"] for d in r.scores} == {1}
    assert {len(r.scores) for r in sets["train"]} == {1}
    assert len({(r.prompt, *r.scores) for r in sets["train"]}) == 4, "both pictures of a prompt: pairs need both"
    assert {len(r.ratings(d)) for r in sets["test"] for d in DIMENSIONS} == {7}
    assert all(not record.scores for record in sets["pool"])
    for other in ("train", "dev", "pool"):
        check_disjoint(sets[other], sets["test"])
    again = make_world(tmp_path / "b", 5, size)
    assert paths["test"].read_bytes() == again["test"].read_bytes()
    other_seed = make_world(tmp_path / "c", 6, size)
    assert paths["test"].read_bytes() != other_seed["test"].read_bytes()


def test_sampled_prompts_differ_and_avoid_the_excluded():
    rng = random.Random(0)
    first = sample_prompts(50, rng)
    second = sample_prompts(50, rng, exclude={prompt.text for prompt in first})
    assert len({prompt.text for prompt in [*first, *second]}) == 100
