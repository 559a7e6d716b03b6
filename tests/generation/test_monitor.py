"""The monitor's figures against plain loops in float64; what it stops, without the guards and beside them."""

import json
import math
from dataclasses import replace

import pytest
import torch

from tests.generation.test_guards import START, after
from tests.generation.test_optimize import folder, make_recipe  # noqa: F401
from tests.tiny import sharpen, tiny_model
from zreward.common.errors import InputError
from zreward.data import Record, save_records
from zreward.distribution import ScoreDistribution
from zreward.generation import optimize as module
from zreward.generation.checks import check_inputs
from zreward.generation.familiar import Familiar
from zreward.generation.guards import Guards
from zreward.generation.monitor import Monitor, known_records, objection
from zreward.generation.optimize import optimize
from zreward.generation.recipe import GuardsRecipe, MonitorRecipe
from zreward.models.pixels import to_image
from zreward.models.score_states import score_states


def test_distances_are_those_of_a_plain_loop():
    """Catches neighbours among the pictures that give the limit, another neighbour, features of their own length."""
    known = torch.randn(80, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Familiar.fit(known, 0.9)
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in known.tolist()]

    def distance(row):
        return sorted(math.dist(row, other) for other in unit[::2])[4]

    assert found.distance(known).tolist() == pytest.approx([distance(row) for row in unit], abs=1e-5)
    left = sorted(distance(row) for row in unit[1::2])
    assert found.limit == pytest.approx(left[35] + 0.1 * (left[36] - left[35]), abs=1e-5)  # nine tenths of 0 ... 39
    assert found.unlike(known[1::2]).sum().item() == 4  # a tenth of 40
    assert found.distance(7 * known[1::2]).tolist() == pytest.approx(found.distance(known[1::2]).tolist(), abs=1e-5)
    with pytest.raises(InputError, match="63 pictures, expected at least 64"):
        Familiar.fit(known[:63], 0.9)


def test_states_are_what_the_head_reads_of_each_picture():
    """Catches pictures, prompts or dimensions mixed up in a batch, and a state at another position."""
    model = sharpen(tiny_model())
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts, names = ["a red circle", "a blue cross", "a small red cross and a circle"], ("realism", "alignment")
    found = score_states(model, [model.fit(picture) for picture in pictures], prompts, names, 2)
    assert found.shape[:2] == (3, 2)
    for n in range(3):
        alone = score_states(model, [model.fit(pictures[n])], [prompts[n]], names, 1)[0]
        assert torch.allclose(found[n], alone, atol=1e-4)
    logits = model.backbone.label_logits(found.flatten(0, 1)).view(3, 2, -1)
    assert torch.allclose(logits.softmax(-1), model(pictures, prompts, names).probs, atol=1e-4)


def test_what_is_read_is_that_of_a_plain_loop():
    """Catches wins against another picture's reference, ties counted whole, an interval over pictures."""
    bins, generator = torch.tensor([1.0, 3.0, 5.0]), torch.Generator().manual_seed(0)
    probs = [torch.randn(6, 2, 3, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2)]
    scores, reference = (ScoreDistribution(each, bins, ("a", "b")) for each in probs)
    unlike = torch.tensor([1.0, 1, 0, 0, 0, 0], dtype=torch.float64)
    found = Monitor(None, {"a": 3.0, "b": 1.0}).read(scores, reference, unlike, 2)
    total = 0.0
    for n in range(6):
        for d, weight in enumerate((0.75, 0.25)):
            p, q = probs[0][n, d].tolist(), probs[1][n, d].tolist()
            total += weight * sum(p[s] * (sum(q[:s]) + q[s] / 2) for s in range(3)) / 6
    assert found["better"] == pytest.approx(total, rel=1e-9)
    assert found["better_low"] < found["better"] < found["better_high"]
    # One prompt of three is unlike: of three drawn prompts none is with (2/3)^3 = .30, all are with 1/27 = .037 > .025
    assert (found["unlike"], found["unlike_low"], found["unlike_high"]) == (pytest.approx(1 / 3), 0.0, 1.0)
    assert "unlike" not in Monitor(None, {}).read(scores, reference, None, 2)


def reading(better=0.7, unlike=0.2, width=0.1) -> dict[str, float]:
    return {
        f"{name}{end}": value + by
        for name, value in (("better", better), ("unlike", unlike))
        for end, by in (("", 0), ("_low", -width), ("_high", width))
    }


def test_it_stops_when_the_whole_interval_is_beyond_a_limit():
    limits, first = MonitorRecipe(enabled=True, max_unlike=0.5), reading(better=0.5)
    assert objection(limits, [reading(better=0.45, width=0.0)]) is None  # the frozen generator itself
    assert objection(limits, [first, reading(unlike=0.6)]) is None
    assert objection(limits, [first, reading(unlike=0.65)])[0] == "unlike"
    assert objection(limits, [first, reading(better=0.45)]) is None
    name, words = objection(limits, [first, reading(better=0.35)])
    assert name == "better" and "P(better) 0.35 (0.25 to 0.45)" in words
    blind = {key: value for key, value in reading(unlike=0.9).items() if key.startswith("better")}
    assert objection(limits, [first, blind]) is None


def test_it_stops_a_run_without_guards_and_one_with_them():
    looks = [replace(START, monitor=reading(better=0.5)), after(25, 3.5, monitor=reading(), drift=9.0)]
    looks.append(after(50, 4.0, monitor=reading(unlike=0.9)))
    watched, guarded = MonitorRecipe(enabled=True), GuardsRecipe(max_drift=10.0)
    for recipe in (GuardsRecipe(enabled=False), guarded):
        guards = Guards(recipe, watched)
        answers = [guards.see(look) for look in looks]
        assert answers == [True, True, False] and guards.tripped[0] == "unlike" and guards.best.step == 25
        again = Guards.from_dict(recipe, json.loads(json.dumps(guards.to_dict())), watched)
        assert (again.best, again.tripped) == (guards.best, guards.tripped)
    off = Guards(guarded)
    for look in looks:
        off.see(look)
    assert off.tripped is None and off.best.step == 50


def test_a_run_is_watched_stopped_and_resumed(folder, monkeypatch, capsys):  # noqa: F811
    """Catches a reference that is drawn anew, limits that are not asked, other data that is taken over in silence."""
    pictures = [torch.full((3, 32, 32), n / 100) for n in range(72)]
    records = [Record("a red circle", to_image(p), {}) for p in pictures]
    save_records(records, folder / "known.parquet")
    how = {"final__judge": "none", "guards__enabled": False, "guards__every": 1}
    watch = {"enabled": True, "data": str(folder / "known.parquet")}
    recipe = make_recipe(folder, monitor=watch, **how)
    loss = module._Optimization._loss

    class Cut(Exception):
        pass

    def cut(self, rng):
        if self.step == 3:
            raise Cut
        return loss(self, rng)

    def read() -> list[dict]:
        return json.loads((folder / "run" / "looks.json").read_text())["looks"]

    with monkeypatch.context() as going_on:  # whatever the monitor says
        going_on.setattr(module._Optimization, "_loss", cut)
        going_on.setattr(module.Guards, "see", lambda self, one: self.evaluations.append(one))
        with pytest.raises(Cut):
            optimize(recipe)
        looks = read()
        assert [look["step"] for look in looks] == [0, 1, 2, 3]
        assert looks[0]["monitor"]["better"] == pytest.approx(0.5, abs=1e-6) and looks[0]["monitor"]["unlike"] == 1.0
        monkeypatch.setattr(module.Adaptation, "frozen_pipeline", None)  # nothing is drawn again
        kept = folder / "run" / "frozen.safetensors"
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-8])
        with pytest.raises(InputError, match=r"frozen\.safetensors is damaged .*; delete it"):
            optimize(recipe, resume=True)
        kept.write_bytes(whole)
        with pytest.raises(Cut):
            optimize(recipe, resume=True)
        assert read()[3]["monitor"] == pytest.approx(
            looks[3]["monitor"], abs=1e-6
        )  # read again, after step 2's checkpoint
    save_records(records[:66], folder / "known.parquet")
    with pytest.raises(InputError, match="other inputs .*monitor"):
        optimize(recipe, resume=True)
    save_records(records, folder / "known.parquet")
    outcome = optimize(recipe, resume=True)
    assert outcome.guard == "unlike" and "1.00 (1.00 to 1.00) of the pictures are unlike" in outcome.message
    page = (folder / "run" / "report.html").read_text()
    assert "the monitor found that 1.00" in page and "What the monitor watches" in page
    with pytest.raises(InputError, match=r"monitor\.enabled is not"):
        make_recipe(folder, monitor={"data": "x"})
    with pytest.raises(InputError, match=r"monitor\.pictures is 63, expected at least 64"):
        make_recipe(folder, monitor={"enabled": True, "pictures": 63})


def test_states_that_are_not_finite_are_refused():
    """Without the check NaN is farther than no limit, and every picture counts as known."""
    features = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    found = Familiar.fit(features, 0.9)
    for place in (4, 5):  # a neighbour, and one that gives the limit
        broken = features.clone()
        broken[place, 1] = float("nan")
        with pytest.raises(InputError, match=f"picture {place} are not finite"):
            Familiar.fit(broken, 0.9)
        with pytest.raises(InputError, match=f"picture {place} are not finite"):
            found.unlike(broken)


def test_known_records_are_checked_before_the_student_sees_one(folder, tmp_path):  # noqa: F811
    picture = to_image(torch.zeros(3, 8, 8))
    few = save_records([Record("a", picture) for _ in range(63)], tmp_path / "few.parquet")
    with pytest.raises(InputError, match="63 records, expected at least 64"):
        known_records(str(few), MonitorRecipe())
    mixed = [Record("a", picture) if n != 40 else Record("a", answer="red", id="wrong") for n in range(80)]
    with pytest.raises(InputError, match="record wrong: an answer; monitor.data takes records of one picture"):
        known_records(str(save_records(mixed, tmp_path / "mixed.parquet")), MonitorRecipe())
    shorter = replace(make_recipe(folder), monitor=MonitorRecipe(enabled=True, data=str(few)))
    with pytest.raises(InputError, match="63 records, expected at least 64"):
        check_inputs(shorter)  # `zreward optimize --dry-run`
    many = save_records([Record(str(n), picture) for n in range(200)], tmp_path / "many.parquet")
    records, chosen = known_records(str(many), MonitorRecipe(pictures=100))
    assert chosen == list(range(0, 200, 2)) and records[chosen[3]].prompt == "6"
