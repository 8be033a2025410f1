"""Fewer frames inside the tower, as it is defined: frames are lists of tokens, and all pairings are tried."""

import math
from itertools import combinations, pairwise

from tests.reference.clips import cosine


def likeness(a, b):
    return math.fsum(cosine(x, y) for x, y in zip(a, b, strict=True)) / len(a)


def together(a, b, share):
    return [
        [share * x + (1 - share) * y for x, y in zip(*tokens, strict=True)]
        for tokens in zip(a, b, strict=True)
    ]


def matching(weights, count):
    """The first frames of `count` disjoint pairs of neighbours with the highest sum."""
    sets = [
        pairs
        for pairs in combinations(range(len(weights)), count)
        if all(b - a > 1 for a, b in pairwise(pairs))
    ]
    return max(sets, key=lambda pairs: math.fsum(weights[i] for i in pairs))


def in_rounds(frames, left, choose):
    """{anchor: {frame: weight}}; `choose` gives {first of a pair: its weight} of (frames, sizes, count)."""
    groups = [{i: 1.0} for i in range(len(frames))]
    while len(frames) > left:
        pairs = choose(frames, [len(g) for g in groups], min(len(frames) - left, len(frames) // 2))
        merged, merged_groups = [], []
        for i in range(len(frames)):
            if i in pairs:
                share = pairs[i]
                merged.append(together(frames[i], frames[i + 1], share))
                first, second = groups[i], groups[i + 1]
                merged_groups.append(
                    {f: w * share for f, w in first.items()} | {f: w * (1 - share) for f, w in second.items()}
                )
            elif i - 1 not in pairs:
                merged.append(frames[i])
                merged_groups.append(groups[i])
        frames, groups = merged, merged_groups
    return {min(g): g for g in groups}


def alike(frames, left):
    def choose(frames, sizes, count):
        weights = [likeness(a, b) for a, b in pairwise(frames)]
        return {i: sizes[i] / (sizes[i] + sizes[i + 1]) for i in matching(weights, count)}

    return in_rounds(frames, left, choose)


def runs(frames, tau=0.6, window=8, ema=0.9):
    """[(first, last)]"""
    found, start, smooth = [], 0, 1.0
    for i in range(1, len(frames)):
        smooth = ema * likeness(frames[start], frames[i]) + (1 - ema) * smooth
        if smooth < tau or i - start + 1 >= window:
            found.append((start, i - 1))
            start, smooth = i, 1.0
    return [*found, (start, len(frames) - 1)]


def early_tom(frames, left):
    def choose(frames, sizes, count):
        following = [likeness(a, b) for a, b in pairwise(frames)]
        published, between = set(), set()
        for first, last in runs(frames):
            middle = range(first + 1, last)
            between |= {*middle[:-1]}
            i = first + 1
            while i + 1 < last:
                after = following[i + 1] if i + 2 < last else -math.inf
                if following[i] > likeness(frames[first], frames[last]) and following[i] > after:
                    published.add(i)
                    i += 1
                i += 1
        weights = [s if i in published else s - 2 for i, s in enumerate(following)]
        shares = {}
        for i in matching(weights, count):
            after = max(0, following[i + 1]) if i + 1 in between else 0
            own = max(1e-300, following[i])
            shares[i] = own / (own + after)
        return shares

    return in_rounds(frames, left, choose)


def cut_in_runs(frames, left):
    """All cuts are tried: {first: {frame: weight}}."""
    count = len(frames)
    longest = 2 * math.ceil(count / left)
    found = []
    for cuts in combinations(range(1, count), left - 1):
        borders = [0, *cuts, count]
        lengths = [b - a for a, b in pairwise(borders)]
        if max(lengths) <= longest:
            gain = math.fsum(
                likeness(frames[a], frames[i]) for a, b in pairwise(borders) for i in range(a + 1, b)
            )
            found.append((gain, lengths[::-1], borders))
    _, _, borders = max(found, key=lambda one: (round(one[0], 9), one[1]))
    return {a: {i: 1 / (b - a) for i in range(a, b)} for a, b in pairwise(borders)}


METHODS = {"alike": alike, "early-tom": early_tom, "runs": cut_in_runs}
