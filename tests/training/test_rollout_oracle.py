"""The roll-out trainer's gradients against a plain loop in float64, in two updates on one roll-out and one on the next."""

from __future__ import annotations

import copy
import random
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tests import trace_editor
from tests.plain_model import give_the_adapter_a_say, plain_pass, small_model, token_log_probs
from tests.tiny import WORDS, noise_pictures
from tests.training.oracle import run
from tests.training.plain_loop import advantages, advantages_of_votes, expected, mean, opd_loss, pair_loss
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data import Pair, Preference, Record
from zreward.models.rollout import Trace
from zreward.training.preferred import preferred_items
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.rollout_data import MixedItems, pair_items, unrated_items
from zreward.training.run import prepare

STEPS, UPDATES, GROUP = 3, 2, 3
PICTURES = noise_pictures(4, ((32, 32), (32, 16)), seed=1)
RECORDS = [  # the first pair has a winner, the second equal scores from other ratings
    Record("a red circle", PICTURES[0], {"realism": [4.0, 5.0, 4.0, 3.5]}),
    Record("a red circle", PICTURES[1], {"realism": [2.0, 2.0]}),
    Record("two blue squares", PICTURES[2], {"alignment": [3.0, 3.0]}),
    Record("two blue squares", PICTURES[3], {"alignment": [2.5, 3.5]}),
]
PAIRS = [Pair(0, 1, "realism", 2.0), Pair(2, 3, "alignment", 0.0)]
SHARE = 0.7  # of the votes on the second pair, where there are votes instead of its scores
VOTED = Preference("two blue squares", (PICTURES[2], PICTURES[3]), {"alignment": {"a": 6, "b": 2, "tie": 2}})
ROLLOUT = {
    "seed_by": "batch",  # labels are drawn by torch.multinomial
    **{"group_size": GROUP, "updates_per_rollout": UPDATES, "temperature": 0.8, "clip": 0.05},
    **{"lambda_pt": 0.7, "lambda_pw": 1.3, "alpha_pt": 0.6, "alpha_pw": 0.9, "policy_weight": 0.8},
}

COUPLED = {"coupling_weight": 1.7, "coupling_margin": 0.4, "coupling_editor": trace_editor.NAME}


class Traces:
    """In the place of sampling: given traces of unequal lengths, others in every roll-out; keeps the labels that are sampled.

    A key is (roll-out, record, number in the group).
    """

    def __init__(self, model, recipe, monkeypatch) -> None:
        self.model, self.temperature = model, recipe.rollout.temperature
        self.micro_batches = recipe.optimizer.gradient_accumulation  # each is sampled in a call of its own
        self.opened = [model.decode(picture) for picture in PICTURES]
        self.calls, self.labels, self.label_probs = 0, {}, {}
        monkeypatch.setattr(model, "reason", self.reason)
        self.multinomial = torch.multinomial
        monkeypatch.setattr(torch, "multinomial", self.sample)

    def reason(self, images, rows, temperature, seeds):
        assert temperature == self.temperature and seeds is None
        records = [
            next(n for n, known in enumerate(self.opened) if torch.equal(known, images[r.images[0]])) for r in rows
        ]
        assert [RECORDS[n].prompt for n in records] == [row.prompt for row in rows]
        places = Counter()
        self.keys = []
        for n in records:
            self.keys.append((self.calls // self.micro_batches, n, places[n]))
            places[n] += 1
        self.calls += 1
        return [self.trace(key) for key in self.keys]

    def trace(self, key) -> Trace:
        rng, truncated = random.Random(str(key)), key[2] == 1
        words = [self.model.tokenizer(f" {rng.choice(WORDS)}")["input_ids"][0] for _ in range(rng.randint(1, 5))]
        return Trace((*words, *([] if truncated else self.model.encoder.stop_ids)), truncated)

    def sample(self, probs, count):
        labels = self.multinomial(probs, count)
        for key, label, row in zip(self.keys, labels.flatten().tolist(), probs, strict=True):
            assert key not in self.labels, "a roll-out's labels are sampled once"
            self.labels[key], self.label_probs[key] = label, row
        return labels


class PlainLoop:
    """The loss of a step, read sequence by sequence; remembers what belongs to the time when a roll-out was sampled."""

    def __init__(self, model, recipe, traces, start, teacher=None, votes=False) -> None:
        self.model, self.traces, self.start, self.teacher = model, traces, start, teacher
        self.method, self.updates = recipe.method, recipe.rollout.updates_per_rollout
        self.options = SimpleNamespace(
            method=recipe.method, weight=recipe.data.preferences_weight, **vars(recipe.rollout)
        )
        self.shares = [None, None, SHARE, 1 - SHARE] if votes else [None] * 4
        self.bins = model.rubric.scale.bins.tolist()
        self.kept: dict = {}
        self.most_off_policy = 0.0

    def __call__(self, step: int):
        outputs = {}
        for n in range(len(RECORDS)):
            for place in range(self.options.group_size):
                outputs[n, place] = self.output((step // self.updates, n, place))
        groups = [[outputs[n, place] for place in range(self.options.group_size)] for n in range(len(RECORDS))]
        if self.method == "opd":
            return mean([opd_loss(output) for group in groups for output in group])
        known = zip(ANNOTATED, groups, self.shares, strict=True)
        sides = [SimpleNamespace(score=s, target=t, outputs=o, share=v) for (s, t), o, v in known]
        losses = []
        for number, pair in enumerate((sides[:2], sides[2:])):
            if step % self.updates == 0:
                find = advantages if pair[0].share is None else advantages_of_votes
                self.kept["advantages", number] = find(pair, self.bins, self.options)
            losses.append(pair_loss(pair, self.kept["advantages", number], self.bins, self.options))
        if self.options.coupling_weight:
            terms = [self.coupling_term((step // self.updates, *place), outputs[place]) for place in outputs]
            assert 0 < sum(term is not None for term in terms) < len(terms), (
                "some traces have an edit, others have none"
            )
            losses.append(self.options.coupling_weight * mean([term or 0.0 for term in terms]) * len(losses))
            return sum(losses) / (len(losses) - 1)
        return mean(losses)

    def coupling_term(self, key, output):
        """Of one sequence; None where its trace has no edit."""
        record, model = RECORDS[key[1]], self.model
        edits = trace_editor.edit(model.trace_text(self.traces.trace(key)), record.prompt, "")
        if not edits:
            return None
        (edit,) = edits
        worse, low, high = edit.kind == "added", self.bins[0], self.bins[-1]
        mu = expected(output, self.bins).item()
        _, q = self.read(model, model.backbone.model, key, None, model.as_trace(edit.text))
        after = expected(SimpleNamespace(q=q), self.bins)
        wanted = min(self.options.coupling_margin, (mu - low if worse else high - mu) / 2)
        return max(wanted - (mu - after if worse else after - mu), 0 * after) / (high - low)

    def output(self, key):
        model, label = self.model, self.traces.labels.get(key)
        tokens, q = self.read(model, model.backbone.model, key, label)
        if key not in self.kept:
            with torch.no_grad():
                ref = self.read(model, self.start, key, label)[0] if self.options.beta else None
                judge = self.teacher
                teacher = self.read(judge, judge.backbone.model, key, label)[0] if judge else None
            self.kept[key] = [token.item() for token in tokens], ref, teacher
        old, ref, teacher = self.kept[key]
        ratios = [abs(new.item() - before) for new, before in zip(tokens, old, strict=True)]
        self.most_off_policy = max(self.most_off_policy, *ratios)
        return SimpleNamespace(tokens=tokens, q=q, old=old, ref=ref, teacher=teacher, label=label)

    def read(self, judge, network, key, label, trace=None):
        """Log-probabilities of the sampled tokens, the written label last, and of the bins."""
        record, trace, temperature = RECORDS[key[1]], trace or self.traces.trace(key), self.options.temperature
        encoder = judge.encoder
        tail = [*trace.ids, *(encoder.stop_ids if trace.truncated else []), *encoder.prefix_ids]
        (dimension,) = record.scores
        logits, start = plain_pass(judge, network, [record.image], record.prompt, dimension, tail, reasoning=True)
        tokens = token_log_probs(judge, logits, start, trace.ids, temperature)
        scores = logits[-1, encoder.label_ids]
        if label is not None:
            written = (scores / temperature).log_softmax(-1)
            tokens.append(written[label])
            if network is self.model.backbone.model and key not in self.kept:
                assert torch.allclose(self.traces.label_probs[key], written.exp(), rtol=1e-8)
        return tokens, scores.log_softmax(-1)


def histogram(ratings, bins):
    return [sum(rating == b for rating in ratings) / len(ratings) for b in bins]


BINS = [1 + k / 2 for k in range(9)]
ANNOTATED = [
    (mean(sorted(ratings)[1:-1] or ratings), histogram(ratings, BINS)) for r in RECORDS for ratings in r.scores.values()
]


def make_recipe(
    tmp_path,
    method,
    lora=None,
    batch=2,
    accumulation=1,
    learning_rate=0.3,
    share=False,
    checkpointing=False,
    votes=None,
    **rollout,
) -> Recipe:
    raw = {
        "method": method,
        "out": str(tmp_path),
        "data": {"train": "none"} | ({"preferences": "none", "preferences_weight": votes} if votes else {}),
        "model": {"name": "none", "lora_rank": lora},
        "optimizer": {
            "steps": STEPS,
            "batch_size": batch,
            "gradient_accumulation": accumulation,
            "learning_rate": learning_rate,
            "schedule": "constant",
            "warmup_steps": 0,
            "max_grad_norm": 1e9,
            "share_prefix": share,
            "gradient_checkpointing": checkpointing,
        },
        "rollout": ROLLOUT | rollout,
        "trainer": {"optim": "sgd", "save_strategy": "no"},
    }
    return config_from_dict(Recipe, raw)


CASES = {
    "grpo": {"method": "grpo"},
    "grpo, kl": {"method": "grpo", "beta": 0.4},
    "grpo, kl, adapter": {"method": "grpo", "beta": 0.4, "lora": 2},
    "grpo, micro-batches": {"method": "grpo", "beta": 0.4, "sequences_per_forward": 5},
    "grpo, parsed": {"method": "grpo", "reward_from": "parsed", "divide_by_std": False},
    "gdso": {"method": "gdso"},
    "gdso, one update": {"method": "gdso", "updates_per_rollout": 1},
    "gdso, kl, micro-batches": {"method": "gdso", "beta": 0.4, "sequences_per_forward": 5},
    "gdso, kl, adapter, accumulation": {"method": "gdso", "beta": 0.4, "lora": 2, "batch": 1, "accumulation": 2},
    "gdso, accumulation, micro-batches": {"method": "gdso", "batch": 1, "accumulation": 2, "sequences_per_forward": 4},
    "gdso, parsed, micro-batches": {"method": "gdso", "reward_from": "parsed", "sequences_per_forward": 5},
    "gdso, not divided": {"method": "gdso", "divide_by_std": False},
    "gdso, bradley-terry": {"method": "gdso", "preference_loss": "bradley_terry", "sequences_per_forward": 5},
    "votes": {"method": "gdso", "votes": 1.0},
    "votes, one update, not divided": {
        "method": "gdso",
        "votes": 0.3,
        "updates_per_rollout": 1,
        "divide_by_std": False,
    },
    "votes, kl, micro-batches": {"method": "gdso", "votes": 0.3, "beta": 0.4, "sequences_per_forward": 5},
    "votes, adapter, accumulation": {"method": "gdso", "votes": 2.0, "lora": 2, "batch": 1, "accumulation": 2},
    "votes, parsed, micro-batches": {
        "method": "gdso",
        "votes": 1.0,
        "reward_from": "parsed",
        "sequences_per_forward": 4,
    },
    "votes, bradley-terry": {"method": "gdso", "votes": 0.5, "preference_loss": "bradley_terry"},
    "coupled": {"method": "gdso", **COUPLED},
    "coupled, kl, micro-batches": {"method": "gdso", "beta": 0.4, "sequences_per_forward": 5, **COUPLED},
    "coupled, adapter, accumulation": {"method": "gdso", "lora": 2, "batch": 1, "accumulation": 2, **COUPLED},
    "coupled, votes, micro-batches": {"method": "gdso", "votes": 0.5, "sequences_per_forward": 4, **COUPLED},
    "opd": {"method": "opd", "teacher": "none", "batch": 4},
    "opd, one update": {"method": "opd", "teacher": "none", "batch": 4, "updates_per_rollout": 1},
    "opd, accumulation, micro-batches": {
        "method": "opd",
        "teacher": "none",
        "accumulation": 2,
        "sequences_per_forward": 4,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_plain_loop(case, tmp_path, monkeypatch, float64):
    compare(tmp_path, monkeypatch, **CASES[case])


@pytest.mark.parametrize(("case", "checkpointing"), [(case, number % 2 == 1) for number, case in enumerate(CASES)])
def test_gradients_through_shared_prefixes_are_those_of_the_plain_loop(
    case, checkpointing, tmp_path, monkeypatch, float64, shared_passes
):
    """The opening too is a pass of its own, however short."""
    compare(tmp_path, monkeypatch, share=True, checkpointing=checkpointing, **CASES[case])
    assert any(rows.opening is not None and rows.prefix is not None for rows in shared_passes)


def compare(folder, monkeypatch, **options) -> None:
    trace_editor.install(monkeypatch)
    recipe = make_recipe(folder, **options)
    model = small_model(0)
    start = copy.deepcopy(model.backbone.model)
    prepare(model, recipe).double()
    traces = Traces(model, recipe, monkeypatch)
    if recipe.method == "opd":
        teacher = small_model(1, patch_size=4).requires_grad_(False)  # its pictures are four times as many tokens
        items = [item for r in RECORDS for item in unrated_items([r], list(r.scores))]
        trainer = RolloutTrainer(model, recipe, RunDirectory(folder), items, teacher=teacher)
    else:
        teacher = None
        items = pair_items(RECORDS, PAIRS, model, 0.0)
        if recipe.data.preferences:
            rated = pair_items(RECORDS, PAIRS[:1], model, 0.0)
            items = MixedItems(rated, preferred_items([VOTED], ["realism", "alignment"], False), model.rubric.scale)
        trainer = RolloutTrainer(model, recipe, RunDirectory(folder), items)
    give_the_adapter_a_say(model)
    loop = PlainLoop(model, recipe, traces, start, teacher, votes=bool(recipe.data.preferences))
    check = run(trainer, model.backbone.model, loop, STEPS)
    if recipe.method != "gdso":  # its gap loss is logged in another form, with the same gradient
        logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert logged == pytest.approx(check.losses, rel=1e-6, abs=1e-9)
    rollouts = -(-STEPS // recipe.rollout.updates_per_rollout)
    assert traces.calls == rollouts * recipe.optimizer.gradient_accumulation
    assert bool(traces.labels) == (recipe.method == "opd" or recipe.rollout.reward_from == "parsed")
    if recipe.rollout.updates_per_rollout > 1:
        assert loop.most_off_policy > recipe.rollout.clip, "no ratio was clipped: the case tests nothing of it"
