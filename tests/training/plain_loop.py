"""GRPO, GDSO and OPD as plain loops, written from the equations of the method. Shares no code with the package.

A pair is two sides; a side has `score`, `target` (S) and `outputs`, or the `share` of the votes for it instead of score and
target (then `weight` is the pair's in the options); an output has the log-probabilities of its sampled tokens
under the policy (`tokens`), the policy that sampled (`old`), the reference (`ref`) or the teacher (`teacher`), the bins'
log-probabilities `q` (S), and the bin `label` that it wrote, if it wrote one. `tokens` and `q` carry gradients.
"""

from torch import exp, log


def mean(values):
    return sum(values) / len(values)


def expected(output, bins):  # (2)
    return sum(bins[s] * exp(output.q[s]) for s in range(len(bins)))


def wins(p, q):
    """P(p > q), a tie being half a win."""
    return sum(p[s] * q[t] * (1 if s > t else 0.5) for s in range(len(p)) for t in range(s + 1))


def distribution(output, S):
    return [float(s == output.label) for s in range(S)] if output.label is not None else exp(output.q).tolist()


def advantages_of_votes(pair, bins, o):
    found, S = [], len(bins)
    for j, side in enumerate(pair):
        rewards = []
        for x in side.outputs:
            rate = mean([wins(distribution(x, S), distribution(y, S)) for y in pair[1 - j].outputs])
            rewards.append((o.lambda_pt + o.lambda_pw) * (1 - abs(rate - side.share)))
        spread = (sum((r - mean(rewards)) ** 2 for r in rewards) / (len(rewards) - 1)) ** 0.5
        found.append([o.weight * (r - mean(rewards)) / (spread + 1e-4 if o.divide_by_std else 1) for r in rewards])
    return found


def vote_loss(a, b, bins, o):
    terms = []
    for x in a.outputs:
        for y in b.outputs:
            if o.preference_loss == "bradley_terry":
                margin = expected(x, bins) - expected(y, bins)
                terms.append(a.share * log(1 + exp(-margin)) + b.share * log(1 + exp(margin)))
            else:
                terms.append(-a.share * log(wins(exp(x.q), exp(y.q))) - b.share * log(wins(exp(y.q), exp(x.q))))
    return o.weight * mean(terms)


def advantages(pair, bins, o):  # (3) of (13), from (7), (9), (10)
    R, found = bins[-1] - bins[0], []
    said = [[bins[x.label] if x.label is not None else expected(x, bins).item() for x in side.outputs] for side in pair]
    for j, side in enumerate(pair):
        gap, rewards = side.score - pair[1 - j].score, []
        for mu in said[j]:
            rewards.append(o.lambda_pt * (1 - abs(mu - side.score) / R))
            if o.method == "gdso":
                rewards[-1] += o.lambda_pw * (1 - mean([abs(mu - other - gap) for other in said[1 - j]]) / R)
        spread = (sum((r - mean(rewards)) ** 2 for r in rewards) / (len(rewards) - 1)) ** 0.5
        found.append([(r - mean(rewards)) / (spread + 1e-4 if o.divide_by_std else 1) for r in rewards])
    return found


def policy_loss(output, advantage, o):  # (4), one sequence
    losses = []
    for t, new in enumerate(output.tokens):
        ratio = exp(new - output.old[t])
        losses.append(-min(ratio * advantage, max(1 - o.clip, min(1 + o.clip, ratio)) * advantage))
        if o.beta:
            losses[-1] = losses[-1] + o.beta * (exp(output.ref[t] - new) - (output.ref[t] - new) - 1)
    return mean(losses)


def gap_loss(winner, loser, bins, o):  # (11), or (12) in its place, where a tie prefers neither
    terms, gap = [], winner.score - loser.score
    for margin in [expected(x, bins) - expected(y, bins) for x in winner.outputs for y in loser.outputs]:
        preference = log(1 + exp(-margin)) if gap > 0 else 0 * margin
        terms.append(preference if o.preference_loss == "bradley_terry" else abs(margin - gap) / (bins[-1] - bins[0]))
    return mean(terms)


def pair_loss(pair, kept, bins, o):  # (14); `kept`: the advantages that were taken when the roll-out was sampled
    sequences = [(j, i, x) for j, side in enumerate(pair) for i, x in enumerate(side.outputs)]
    policy = mean([policy_loss(x, kept[j][i], o) for j, i, x in sequences])
    if pair[0].share is not None:
        return o.policy_weight * policy + o.alpha_pw * vote_loss(*pair, bins, o)
    pointwise = mean([-sum(p * x.q[s] for s, p in enumerate(pair[j].target)) for j, _, x in sequences])  # (8)
    direct = o.alpha_pt * pointwise + o.alpha_pw * gap_loss(*pair, bins, o)
    return policy if o.method == "grpo" else o.policy_weight * policy + direct


def opd_loss(output):  # one sequence
    return -mean([(output.teacher[t] - output.old[t]) * new for t, new in enumerate(output.tokens)])
