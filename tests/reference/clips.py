"""The reduction of a whole clip, as it is defined, one token at a time in float64.

A clip is {(frame, place): vector} with scores of the same keys, in order. A method says which tokens each
survivor stands for, {survivor: {token: weight}}; the others are dropped.
"""

import math
from fractions import Fraction
from functools import cache

ALPHAS = (1 / 8, 1 / 4, 1 / 2, 1, 2)


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def unit(a):
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def cosine(a, b):
    return dot(unit(a), unit(b))


def squared(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(vectors):
    vectors = list(vectors)
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def best(tokens, key, count):
    """The `count` highest; of equals the earlier."""
    return sorted(tokens, key=lambda t: (-key(t), t))[:count]


def by_frame(tokens):
    frames = {}
    for token in tokens:
        frames.setdefault(token[0], []).append(token)
    return frames


def shares(weights, room, total):
    """Whole parts of `total` in proportion: who would get too much is full, one after the other."""
    weights, full = {k: Fraction(w) for k, w in weights.items() if room[k]}, {}
    while True:
        open_ones = {k: w for k, w in weights.items() if k not in full}
        missing = total - sum(full.values())
        exact = {k: w * missing / sum(open_ones.values()) for k, w in open_ones.items()}
        too_much = [k for k, share in exact.items() if share >= room[k]]
        if not too_much:
            break
        full |= {k: room[k] for k in too_much}
    whole = full | {k: math.floor(share) for k, share in exact.items()}
    rest = {k: round(float(share % 1) * 1024) for k, share in exact.items()}
    for k in best(rest, rest.get, total - sum(whole.values())):
        whole[k] += 1
    return {k: whole.get(k, 0) for k in room}


def alone(tokens):
    return {token: {token: 1.0} for token in tokens}


def plain(clusters):
    return {s: {token: 1 / len(members) for token in members} for s, members in clusters.items()}


def evs(clip, scores, left):
    def novelty(token):
        frame, place = token
        earlier = [f for f in range(frame) if (f, place) in clip]
        if not earlier:
            return (1, scores[token])
        return (0, 1 - cosine(clip[token], clip[max(earlier), place]))

    ranked = sorted(clip, key=lambda t: (*(-x for x in novelty(t)), t))
    return alone(ranked[:left])


def _distinct(clip, scores, left):
    """{survivor: members} where nobody has been dropped, and who of the survivors remains."""
    units = {token: unit(vector) for token, vector in clip.items()}
    frames = {f: mean(units[t] for t in tokens) for f, tokens in by_frame(clip).items()}
    whole = mean(units.values())
    first, start = {}, {}
    for token in clip:
        frame, place = token
        anchor = start.get(place)
        if anchor and squared(units[token], units[anchor]) < squared(units[token], frames[frame]):
            first[token] = anchor
        else:
            first[token] = start[place] = token
    runs = {}
    for token, anchor in first.items():
        runs.setdefault(anchor, []).append(token)

    attention = {a: math.fsum(scores[t] for t in run) / len(run) for a, run in runs.items()}
    apart = {a: squared(units[a], frames[a[0]]) + squared(units[a], whole) for a in runs}
    places = [{a: i for i, a in enumerate(best(runs, value.get, len(runs)))} for value in (attention, apart)]
    likeness = {t: dot(units[t], units[a]) for t, a in first.items()}
    undone = best((t for t in clip if t not in runs), lambda t: -likeness[t], max(0, left - len(runs)))
    for token in undone:
        runs[first[token]].remove(token)
        runs[token] = [token]
    begins = [a for a in runs if a not in undone]
    remain = {*best(begins, lambda a: -(places[0][a] + places[1][a]), left), *undone}
    return runs, remain


def distinct(clip, scores, left):
    runs, remain = _distinct(clip, scores, left)
    return plain({a: run for a, run in runs.items() if a in remain})


def distinct_assign(clip, scores, left):
    runs, remain = _distinct(clip, scores, left)
    clusters = {a: list(runs[a]) for a in sorted(remain)}
    for anchor, run in runs.items():
        if anchor not in remain:
            clusters[best(clusters, lambda s, a=anchor: cosine(clip[a], clip[s]), 1)[0]] += run
    return plain(clusters)


def vidcom2(clip, scores, left):
    columns = list(zip(*clip.values(), strict=True))
    centres = [math.fsum(column) / len(clip) for column in columns]
    variance = [math.fsum((x - c) ** 2 for x in column) for column, c in zip(columns, centres, strict=True)]
    quiet = best(range(len(columns)), lambda c: -variance[c], len(columns) // 2)
    units = {token: unit([vector[c] for c in sorted(quiet)]) for token, vector in clip.items()}

    def like(token, centre):
        return math.fsum(math.exp(-squared(units[token], centre) / (2 * alpha)) for alpha in ALPHAS)

    frames, whole = by_frame(clip), mean(units.values())
    unlike = {f: -math.fsum(like(t, whole) for t in ts) / len(ts) for f, ts in frames.items()}
    powers = {f: math.exp((x - max(unlike.values())) / 0.01) for f, x in unlike.items()}
    p = {f: x / sum(powers.values()) for f, x in powers.items()}
    weights = {f: len(ts) * (1 + p[f] - 1 / len(frames)) for f, ts in frames.items()}
    budget = shares(weights, {f: len(ts) for f, ts in frames.items()}, left)
    kept = []
    for f, ts in frames.items():
        own = mean(units[t] for t in ts)
        kept += best(ts, lambda t, own=own: -like(t, whole) - like(t, own), budget[f])
    return alone(kept)


def peaks(vectors, neighbours):
    """{token: how much of a centre it is}, by density peaks."""
    order = sorted(vectors)
    far = {a: {b: math.sqrt(squared(vectors[a], vectors[b]) / len(vectors[a])) for b in order} for a in order}
    density = {}
    for a in order:
        nearest = sorted(far[a].values())[:neighbours]
        density[a] = math.exp(-math.fsum(d * d for d in nearest) / max(1, len(nearest)))
    largest = max((max(row.values()) for row in far.values()), default=0)
    found = {}
    for i, a in enumerate(order):
        denser = [b for j, b in enumerate(order) if (density[b], -j) > (density[a], -i)]
        found[a] = density[a] * min((far[a][b] for b in denser), default=largest)
    return found


def fused(centre, others):
    """Who joins a centre shares 0.4 with the others that do."""
    return {centre: 0.6 if others else 1.0} | {token: 0.4 / len(others) for token in others}


def side_by_side(count):
    """All ways to part frames 0 to count - 1 into windows [(first, last)]."""
    if count == 0:
        yield []
    for first in range(count - 1, -1, -1):
        for before in side_by_side(first):
            yield [*before, (first, count - 1)]


def holitom(clip, scores, left, tau=0.8):
    frames, places = max(f for f, _ in clip) + 1, sorted({p for _, p in clip})
    still = {
        (f, p): (f - 1, p) in clip and cosine(clip[f, p], clip[f - 1, p]) > tau for f, p in clip if f > 0
    }

    @cache
    def lasting(window):
        first, last = window
        if first == last:
            return []
        return [p for p in places if all(still.get((f, p)) for f in range(first + 1, last + 1))]

    def saved(windows):
        return sum(len(lasting(w)) * (w[1] - w[0]) for w in windows)

    windows = max(side_by_side(frames), key=saved)
    joins = {}
    for first, last in windows:
        joins |= {(f, p): (first, p) for p in lasting((first, last)) for f in range(first + 1, last + 1)}
    heads = {first: [(first, p) for p in lasting((first, last))] for first, last in windows}
    alike = {token: cosine(clip[token], clip[token[0] - 1, token[1]]) for token in joins}
    joins = {token: joins[token] for token in best(joins, alike.get, len(clip) - left)}
    groups = {token: [token] for token in clip if token not in joins}
    for token, first in joins.items():
        groups[first].append(token)

    rest = by_frame(t for t in groups if t not in heads.get(t[0], ()))
    room = {(0, f): len(heads.get(f, ())) for f in range(frames)}
    room |= {(1, f): len(rest.get(f, ())) for f in range(frames)}
    budget = shares(room, room, left)
    found = {}
    for f in range(frames):
        for token in best(rest.get(f, ()), scores.get, budget[1, f]):
            found |= alone([token])
        middle = {t: mean(clip[m] for m in groups[t]) for t in heads.get(f, ())}
        count = budget[0, f]
        centres = best(middle, peaks(middle, min(7, count)).get, count) if count else []
        clusters = {c: [] for c in sorted(centres)}
        for token in middle if count else ():
            if token not in clusters:
                nearest = min(clusters, key=lambda c, t=token: (squared(middle[t], middle[c]), c))
                clusters[nearest].append(token)
        for centre, others in clusters.items():
            found[centre] = {
                member: weight / len(groups[token])
                for token, weight in fused(centre, others).items()
                for member in groups[token]
            }
    return found


def fastvid(clip, scores, left):
    frames = by_frame(clip)
    last = max(f for f, _ in clip)
    usual = {f: mean(clip[t] for t in ts) for f, ts in frames.items()}
    alike = {f: cosine(usual[f], usual[f + 1]) if f in usual and f + 1 in usual else 0.0 for f in range(last)}
    cuts = {*best(alike, lambda f: -alike[f], 7), *(f for f in alike if alike[f] < 0.9)}
    segments, start = [], 0
    for f in range(last + 1):
        if f in cuts or f == last:
            segments.append(range(start, f + 1))
            start = f + 1

    size = {f: len(frames.get(f, ())) for f in range(last + 1)}
    context = int(left * 0.4)
    salient = shares(size, size, left - context)
    weights = dict.fromkeys(size, 0)
    for segment in segments:
        holders = [f for f in segment if (segment[-1] - f) % 4 == 0]
        weights |= {f: Fraction(sum(size[g] for g in segment), len(holders)) for f in holders}
    room = {f: size[f] - salient[f] if weights[f] else 0 for f in size}
    central = shares(weights, room, min(context, sum(room.values())))
    room = {f: size[f] - salient[f] - central[f] for f in size}
    more = shares(room, room, left - sum(salient.values()) - sum(central.values()))

    found, centres, others = {}, {}, {}
    for f, ts in frames.items():
        attended = best(ts, scores.get, salient[f] + more[f])
        found |= alone(attended)
        others[f] = [t for t in ts if t not in attended]
        score = peaks({t: clip[t] for t in others[f]}, 4)
        centres[f] = best(others[f], score.get, central[f])
    for segment in segments:
        clusters = {c: [] for f in segment for c in sorted(centres.get(f, ()))}
        for token in (t for f in segment for t in others.get(f, ())):
            if clusters and token not in clusters:
                clusters[max(clusters, key=lambda c, t=token: cosine(clip[t], clip[c]))].append(token)
        found |= {c: fused(c, joining) for c, joining in clusters.items()}
    return found


METHODS = {
    "distinct": distinct,
    "distinct-assign": distinct_assign,
    "evs": evs,
    "fastvid": fastvid,
    "holitom": holitom,
    "vidcom2": vidcom2,
}
