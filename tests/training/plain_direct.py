"""SFT, RISD and RewardDance as plain loops over items and bins, written from the equations of the method.

An item has the bins' log-probabilities `q` (S, with gradient), its `target` (S floats) and, for RewardDance, the
log-probabilities `chain` of the tokens behind its score. The pairwise form is SFT over the two answers.
"""

from math import exp, log


def mean(values):
    return sum(values) / len(values)


def smoothed(ratings, bins, width):
    """The raters' histogram; every rating spread over the bins by a Gaussian of `width` points that sums to one."""
    total = [0.0] * len(bins)
    for rating in ratings:
        near = [exp(-(((b - rating) / width) ** 2) / 2) if width else float(b == rating) for b in bins]
        for s, share in enumerate(near):
            total[s] += share / sum(near) / len(ratings)
    return total


def averaged(trace_probs, traces):
    """The teacher's distribution over its first traces."""
    return [mean([probs[s] for probs in trace_probs[:traces]]) for s in range(len(trace_probs[0]))]


def one_hot(probs):
    return [float(s == probs.index(max(probs))) for s in range(len(probs))]


def cross_entropy(items):  # (8) without a trace: SFT
    return mean([-sum(p * item.q[s] for s, p in enumerate(item.target)) for item in items])


def kl(items):  # (15): RISD
    return mean([sum(p * (log(p) - item.q[s]) for s, p in enumerate(item.target) if p > 0) for item in items])


def rewarddance(items, weight):
    return cross_entropy(items) - weight * mean([mean(item.chain) for item in items])
