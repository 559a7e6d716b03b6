"""Learning from votes beside learning from scores, with as many answers of the simulated raters, in the built-in world.

    python benchmarks/world_preferences.py [--seeds 0,1,2] [--answers 400] [--split test] [--out runs/world-preferences]
        [--arms scores,votes,mixed,sum] [--smoothing 0.15] [recipe.key=value ...]

An answer is one rating of one picture, or one choice between two pictures (a tie where the rater would score both alike), each
by one rater on one dimension. The arms:

    scores    SFT on ratings: two pictures of a prompt each
    votes     method preference on choices: one a prompt
    mixed     method preference, half of the answers ratings and half choices, of different prompts
    sum       as many ratings as `scores` has and as many choices as `votes`: twice the answers

A seed is a world of its own: pictures, raters, prompts. All arms start from world:large.
Accuracy is over pairs of pictures that seven raters scored: HPA, strict; calibration: that of P(a better than b) against the
share of the raters who scored a higher. Intervals are over prompts (paired bootstrap, seeds together). What is done already is
kept. Writes OUT/preferences-SPLIT.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zreward import RewardModel
from zreward.common.files import write_json
from zreward.data import Preference, Record, load_records, record_preferences, save_preferences, save_records
from zreward.distribution import GAP_TOLERANCE, ScoreDistribution
from zreward.evaluation.prediction import predict
from zreward.evaluation.preferences import paired_bootstrap, preference_brier, preference_ece
from zreward.training.recipe import load_recipe
from zreward.training.run import train
from zreward.world.dataset import AUDIT_THRESHOLD, WorldSize, make_world
from zreward.world.raters import Rater

RECIPES = Path(__file__).parents[1] / "recipes"
ARMS = ("scores", "votes", "mixed", "sum")
EPOCHS = {"scores": 3.2, "votes": 2.0, "mixed": 2.0, "sum": 2.0}
"""How often an answer is seen: the best of 2, 3.2 and 5.6 on dev prompts of a world that is used for nothing else (seed 77)."""
BATCH = 32  # answers
COMPARED = (("votes", "scores"), ("mixed", "scores"), ("mixed", "votes"), ("sum", "scores"), ("sum", "votes"))


def make_answers(folder: Path, seed: int, answers: int) -> None:
    """Write the world, and each arm's ratings and choices. Votes are of other prompts than ratings."""
    if (folder / "sum-votes.parquet").exists():
        return
    prompts = answers // 2
    make_world(folder, seed, WorldSize(train=(prompts + answers, 2), pool=(1, 2)))
    records = load_records(folder / "train.parquet")
    rated, shown = records[: 2 * prompts], records[2 * prompts :]
    votes = choices(folder, shown, random.Random(f"votes {seed}"))
    half = answers // 2
    arms = {"scores": (rated, []), "votes": ([], votes), "mixed": (rated[:half], votes[:half]), "sum": (rated, votes)}
    for arm, (ratings, chosen) in arms.items():
        if ratings:
            save_records(ratings, folder / f"{arm}-ratings.parquet")
        if chosen:
            save_preferences(chosen, folder / f"{arm}-votes.parquet")


def choices(folder: Path, records: Sequence[Record], rng: random.Random) -> list[Preference]:
    """One trusted rater's choice between the two pictures of every prompt, on the dimension that the prompt is rated on."""
    panel = json.loads((folder / "panel.json").read_text())
    trusted = [Rater(**one) for one in panel["raters"] if panel["audited_accuracy"][one["id"]] >= AUDIT_THRESHOLD]
    truths = {row["id"]: row for row in map(json.loads, (folder / "truth.jsonl").read_text().splitlines())}
    found = []
    for first, second in zip(records[::2], records[1::2], strict=True):
        (dimension,), rater = first.scores, rng.choice(trusted)
        gap = rater.rate(truths[first.id][dimension], rng) - rater.rate(truths[second.id][dimension], rng)
        vote = {rater.id: "tie" if gap == 0 else "a" if gap > 0 else "b"}
        found.append(Preference(first.prompt, (first.image, second.image), {dimension: vote}))
    return found


def trained(folder: Path, arm: str, out: Path, answers: int, smoothing: float, overrides: Sequence[str]) -> RewardModel:
    count = 2 * answers if arm == "sum" else answers
    said = [f"optimizer.steps={round(EPOCHS[arm] * count / BATCH)}", f"optimizer.batch_size={BATCH}", f"out={out}"]
    said += [f"data.dev={folder}/dev.parquet", "eval_every=1000", "save_every=1000"]
    if arm == "scores":
        recipe = load_recipe(
            RECIPES / "world-sft.yaml", [*said, f"data.train={folder}/scores-ratings.parquet", *overrides]
        )
    else:
        said += [f"data.train={folder}/{arm}-votes.parquet", f"data.vote_smoothing={smoothing}"]
        said += [f"data.rated={folder}/{arm}-ratings.parquet"] * (arm != "votes")
        recipe = load_recipe(RECIPES / "world-preference.yaml", [*said, *overrides])
    return RewardModel.from_pretrained(train(recipe, resume=(out / "recipe.yaml").exists()))


def pairs_of(model: RewardModel, folder: Path, split: str) -> dict[str, np.ndarray]:
    """Every pair of a prompt's pictures on every dimension: prompt, gap and votes of people, gap and P(a better) of the model."""
    records = load_records(folder / f"{split}.parquet")
    predicted = predict(model, records)
    scores = ScoreDistribution(predicted.probs, predicted.bins, predicted.dimensions)
    place = {record.image: number for number, record in enumerate(records)}
    rows = []
    for one in record_preferences(records):
        a, b = (place[image] for image in one.images)
        better = scores[[a]].prefers(scores[[b]])[0]
        for number, name in enumerate(scores.dimensions):
            votes = one.counts(name)
            gap = np.mean(list(records[a].scores[name].values())) - np.mean(list(records[b].scores[name].values()))
            said = float(predicted.mean[a, number] - predicted.mean[b, number])
            rows.append((one.prompt, name, gap, said, float(better[number]), votes.a, votes.b, votes.tie))
    prompt, name, gap, said, prob, *votes = map(np.array, zip(*rows, strict=True))
    return {"prompt": prompt, "name": name, "gap": gap, "said": said, "prob": prob, "votes": np.stack(votes, -1)}


def right(pairs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs that people order: whether the model orders them alike (a tie is wrong), and their prompts."""
    clear = np.abs(pairs["gap"]) > GAP_TOLERANCE
    alike = (np.sign(pairs["said"]) == np.sign(pairs["gap"])) & (np.abs(pairs["said"]) > GAP_TOLERANCE)
    return alike[clear].astype(float), pairs["prompt"][clear]


def report(found: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, Any]:
    """{arm: its figures, seed by seed and in all; compared: differences with intervals}."""
    result: dict[str, Any] = {}
    hits = {arm: [right(pairs) for pairs in seeds] for arm, seeds in found.items()}
    for arm, seeds in found.items():
        each = [
            {
                "hpa": float(hit.mean()),
                "ece": preference_ece(pairs["prob"], pairs["votes"]),
                "brier": preference_brier(pairs["prob"], pairs["votes"]),
            }
            for pairs, (hit, _) in zip(seeds, hits[arm], strict=True)
        ]
        result[arm] = {"seeds": each} | {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    for first, second in COMPARED:
        if first in hits and second in hits:
            one, other = (np.concatenate([hit for hit, _ in hits[arm]]) for arm in (first, second))
            group = [(seed, prompt) for seed, (_, prompts) in enumerate(hits[first]) for prompt in prompts]
            difference, low, high = paired_bootstrap(one, other, group)
            result.setdefault("compared", {})[f"{first} - {second}"] = {"hpa": difference, "low": low, "high": high}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="recipe.key=value")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--answers", type=int, default=400)
    parser.add_argument(
        "--smoothing", type=float, default=0.15, help="data.vote_smoothing; chosen on dev prompts of worlds 77 to 80"
    )
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--out", type=Path, default=Path("runs/world-preferences"))
    told = parser.parse_args()
    found: dict[str, list[dict[str, np.ndarray]]] = {arm: [] for arm in told.arms.split(",")}
    for seed in map(int, told.seeds.split(",")):
        folder = told.out / f"{told.answers}-{seed}"
        make_answers(folder, seed, told.answers)
        for arm, seeds in found.items():
            model = trained(folder, arm, folder / arm, told.answers, told.smoothing, told.overrides)
            seeds.append(pairs_of(model, folder, told.split))
    result = report(found)
    write_json(told.out / f"preferences-{told.split}.json", result)
    print("| arm | HPA | ECE | Brier |\n| --- | --- | --- | --- |")
    for arm in found:
        print(f"| {arm} | " + " | ".join(f"{result[arm][name]:.3f}" for name in ("hpa", "ece", "brier")) + " |")
    for name, one in result.get("compared", {}).items():
        print(f"{name}: HPA {one['hpa']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]")


if __name__ == "__main__":
    main()
