"""The checklist of the small model: its places stand for the right words, its answers for what a hand-made scene shows."""

from __future__ import annotations

from dataclasses import replace

import torch

from zreward.models.pixels import to_pixels
from zreward.models.rows import Row
from zreward.world.base_models import CHECKLIST_FORMS, as_judge, make_base
from zreward.world.checklist import CHECKLIST, PLACES, UNASKED, ChecklistHeads, _drawn, _drawn_relation, _wrong
from zreward.world.grammar import ObjectSpec, PromptSpec
from zreward.world.renderer import render
from zreward.world.scenes import PlacedObject, Scene

CIRCLE, CROSS = ObjectSpec("small", "red", "circle"), ObjectSpec("large", "blue", "cross")
PROMPT = PromptSpec((CIRCLE, CROSS), "left of")
DRAWN_CIRCLE = PlacedObject("small", "green", "circle", (8.5, 8.5), 0, wrong=("colour",))
DRAWN_CROSS = PlacedObject("large", "blue", "cross", (23.0, 8.5), 1)
NOBODY = [UNASKED] * 4


def test_every_place_is_the_word_that_asks():
    words = CHECKLIST.split()
    asked = [words[place] for place in PLACES]
    objects = [word for role in ("first", "second", "third") for word in (role, role, "colour", "shape")]
    assert asked == [*objects, "relation", "extra"]


def test_verdicts_name_what_is_wrong_and_skip_what_was_not_asked_for():
    scene = Scene(PROMPT, (DRAWN_CIRCLE, DRAWN_CROSS))
    assert _wrong(scene) == [0, 0, 1, 0, *[0, 0, 0, 0], *NOBODY, 0, 0]
    without_circle = replace(scene, objects=(DRAWN_CROSS, replace(DRAWN_CROSS, shape="circle", role=None)))
    assert _wrong(without_circle) == [1, UNASKED, UNASKED, UNASKED, 0, 0, 0, 0, *NOBODY, UNASKED, 1]
    assert _wrong(replace(scene, relation_wrong=True))[12:] == [1, 0]


def test_drawn_values_are_indices_of_what_the_picture_shows():
    scene = Scene(PROMPT, (DRAWN_CIRCLE, DRAWN_CROSS))
    assert _drawn(scene, "cell") == [0, 1, UNASKED]
    assert _drawn(scene, "size") == [0, 1, UNASKED]
    assert _drawn(scene, "colour") == [1, 2, UNASKED]
    assert _drawn(scene, "shape") == [0, 3, UNASKED]


def test_a_wrong_relation_is_drawn_the_other_way_round():
    scene = Scene(PROMPT, (DRAWN_CIRCLE, DRAWN_CROSS))
    assert _drawn_relation(scene) == "left of"
    assert _drawn_relation(replace(scene, relation_wrong=True)) == "right of"


def test_the_heads_read_the_checklist_wherever_it_stands_in_the_row():
    untrained = make_base("small")
    model = as_judge(untrained.backbone.model, untrained.tokenizer, CHECKLIST_FORMS)
    heads = ChecklistHeads(model)
    torch.nn.init.normal_(heads.wrong)
    short = Scene(PromptSpec((CIRCLE,)), (DRAWN_CIRCLE,))
    long = Scene(PROMPT, (DRAWN_CIRCLE, DRAWN_CROSS))

    def loss(*scenes: Scene) -> float:
        rows = [Row((n,), scene.prompt.text, "alignment") for n, scene in enumerate(scenes)]
        inputs = model.collate([to_pixels(render(scene)) for scene in scenes], rows)
        with torch.no_grad():
            model.backbone(inputs)
        return heads.loss(inputs, list(scenes)).item()

    assert loss(short) != loss(long)
    assert abs(loss(short, short) - loss(short)) < 1e-5
    assert abs(loss(long, short) - loss(short, long)) < 1e-5, "padding does not move the places"
