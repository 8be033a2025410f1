"""Every method again, with loops over tokens in float64, for one row: (keys, scores, sizes, r) -> members.

The result says which tokens each survivor stands for, {survivor: {token: weight}}; the others are dropped.
"""

import math

import torch


def cosines(keys):
    """All of them, [i][j]."""
    units = torch.stack([key / key.norm() for key in keys])
    return (units @ units.T).tolist()


def ascending(values):
    return sorted(range(len(values)), key=lambda i: (values[i], i))


def by_size(clusters, sizes):
    """{survivor: [members]} -> weights in proportion to size."""
    return {
        survivor: {i: sizes[i] / sum(sizes[j] for j in members) for i in members}
        for survivor, members in clusters.items()
    }


def dropping(leaving, n):
    return {i: {i: 1.0} for i in range(n) if i not in leaving}


def joining(leaving, keys, weights):
    clusters = {i: [i] for i in range(len(keys)) if i not in leaving}
    cosine, survivors = cosines(keys), sorted(clusters)
    for i in sorted(leaving):
        clusters[max(survivors, key=lambda s: (cosine[i][s], -s))].append(i)
    return by_size(clusters, weights)


def illava(keys, scores, sizes, r):
    if r == 0:
        return dropping((), len(scores))
    *leaving, anchor = ascending(scores)[: r + 1]
    total = sum(range(1, r + 2))
    merged = {token: (r + 1 - rank) / total for rank, token in enumerate([*leaving, anchor])}
    return {**dropping({*leaving, anchor}, len(scores)), anchor: merged}


def attention_prune(keys, scores, sizes, r):
    return dropping(set(ascending(scores)[:r]), len(scores))


def between_means(clusters, keys, sizes):
    """Cosines of the clusters' mean keys, in order."""
    return cosines([sum(sizes[i] * keys[i] for i in clusters[s]) for s in sorted(clusters)])


def greedy(keys, scores, sizes, r):
    clusters = {i: [i] for i in range(len(keys))}
    for _ in range(r):
        alive, cosine = sorted(clusters), between_means(clusters, keys, sizes)
        pairs = [(a, b) for b in range(len(alive)) for a in range(b)]
        a, b = max(pairs, key=lambda pair: cosine[pair[0]][pair[1]])
        clusters[alive[a]] += clusters.pop(alive[b])
    return by_size(clusters, sizes)


def bipartite(keys, scores, sizes, r, before=0):
    """ToMe counts its halves with the class token, which stands `before` the patches and never merges."""
    clusters = {i: [i] for i in range(len(keys))}
    while r:
        alive, cosine = sorted(clusters), between_means(clusters, keys, sizes)
        proposing = [i for i in range(len(alive)) if (before + i) % 2 == 0]
        proposed = [i for i in range(len(alive)) if (before + i) % 2 == 1]
        edges = []
        for a in proposing:
            b = max(proposed, key=lambda s: (cosine[a][s], -s))
            edges.append((-cosine[a][b], alive[a], alive[b]))
        step = min(r, len(alive) // 2)
        for _, a, b in sorted(edges)[:step]:
            clusters[b] += clusters.pop(a)
        r -= step
    return by_size(clusters, sizes)


def kmeans(keys, scores, sizes, r):
    n, k = len(keys), len(keys) - r
    centres = [keys[(2 * j + 1) * n // (2 * k)] for j in range(k)]

    def nearest():
        squares = [[float((x - c) @ (x - c)) for c in centres] for x in keys]
        return [min(range(k), key=row.__getitem__) for row in squares], [min(row) for row in squares]

    for _ in range(5):
        cluster, _ = nearest()
        for j in range(k):
            members = [i for i in range(n) if cluster[i] == j]
            if members:
                centres[j] = sum(sizes[i] * keys[i] for i in members) / sum(sizes[i] for i in members)
    cluster, distance = nearest()
    clusters = {}
    for j in set(cluster):
        members = [i for i in range(n) if cluster[i] == j]
        clusters[max(members, key=lambda i: (scores[i], -i))] = members
    others = sorted((i for i in range(n) if i not in clusters), key=lambda i: (-distance[i], i))
    for i in others[: k - len(clusters)]:
        next(members for members in clusters.values() if i in members).remove(i)
        clusters[i] = [i]
    return by_size(clusters, sizes)


def assign(keys, scores, sizes, r):
    return joining(set(ascending(scores)[:r]), keys, sizes)


def familiar(keys, scores, r):
    mean = sum(key / key.norm() for key in keys) / len(keys)
    strange = [1 - row[-1] for row in cosines([*keys, mean])[:-1]]
    ranks = [{i: rank for rank, i in enumerate(ascending(values))} for values in (scores, strange)]
    return set(ascending([ranks[0][i] + ranks[1][i] for i in range(len(keys))])[:r])


def crowded(keys, scores, r):
    chosen = [max(range(len(keys)), key=lambda i: (scores[i], -i))]
    cosine = cosines(keys)
    while len(chosen) < len(keys) - r:
        rest = [i for i in range(len(keys)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: (max(cosine[i][c] for c in chosen), i)))
    return set(range(len(keys))) - set(chosen)


def prumerge(keys, scores, sizes, r):
    return joining(set(ascending(scores)[:r]), keys, scores)


def outliers(scores):
    """How many lie above the third quartile by more than 1.5 times the quartiles' distance."""
    values = sorted(scores)

    def quantile(q):
        place = q * (len(values) - 1)
        below = int(place)
        above = min(below + 1, len(values) - 1)
        return values[below] + (place - below) * (values[above] - values[below])

    first, third = quantile(0.25), quantile(0.75)
    return sum(score > third + 1.5 * (third - first) for score in scores)


METHODS = {
    "prumerge": prumerge,
    "illava": illava,
    "attention-prune": attention_prune,
    "fastv": attention_prune,
    "greedy": greedy,
    "bipartite": bipartite,
    "kmeans": kmeans,
    "assign": assign,
    "novelty": lambda keys, scores, sizes, r: dropping(familiar(keys, scores, r), len(keys)),
    "novelty-assign": lambda keys, scores, sizes, r: joining(familiar(keys, scores, r), keys, sizes),
    "diversity": lambda keys, scores, sizes, r: dropping(crowded(keys, scores, r), len(keys)),
    "diversity-assign": lambda keys, scores, sizes, r: joining(crowded(keys, scores, r), keys, sizes),
}


def members(method, keys, scores, sizes, r, padding=None, before=0):
    """As above, for a row of tensors; `padding` leaves first, in its order, and is dropped.

    `before` tokens stand before these and never merge.
    """
    scores, sizes = scores.tolist(), sizes.tolist()
    padded = [i for i in range(len(scores)) if padding is not None and padding[i]]
    stay = [i for i in range(len(scores)) if i not in padded[:r]]
    r -= len(padded[:r])
    places = {"before": before} if method == "bipartite" else {}
    found = METHODS[method](
        [keys[i] for i in stay], [scores[i] for i in stay], [sizes[i] for i in stay], r, **places
    )
    return {stay[s]: {stay[i]: weight for i, weight in parts.items()} for s, parts in found.items()}


def reduced(x, found):
    """(N, C) -> (M, C), in the order of the survivors."""
    return torch.stack([sum(w * x[i] for i, w in found[s].items()) for s in sorted(found)])


def densest_window(relevance, keep):
    """All windows of the share, one by one."""
    h, w = relevance.shape
    rows, columns = max(1, round(h * math.sqrt(keep))), max(1, round(w * math.sqrt(keep)))
    best, corner = -math.inf, (0, 0)
    for top in range(h - rows + 1):
        for left in range(w - columns + 1):
            total = float(relevance[top : top + rows, left : left + columns].sum())
            if total > best + 1e-12:
                best, corner = total, (top, left)
    return (corner[0] + rows / 2) / h, (corner[1] + columns / 2) / w


def middle_of_cells(relevance, keep):
    """Cells sorted one by one."""
    h, w = relevance.shape
    cells = sorted((-float(relevance[i, j]), i * w + j) for i in range(h) for j in range(w))
    top = [divmod(index, w) for _, index in cells[: max(1, int(h * w * keep))]]
    return sum(i + 0.5 for i, _ in top) / len(top) / h, sum(j + 0.5 for _, j in top) / len(top) / w


def full_map(query, key, scaling, causal_offset=None, key_valid=None):
    heads = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(heads, 1).transpose(-1, -2) * scaling
    if causal_offset is not None:
        own = torch.arange(query.shape[2])[:, None] + causal_offset
        logits = logits.masked_fill(torch.arange(key.shape[2]) > own, -torch.inf)
    if key_valid is not None:
        logits = logits.masked_fill(~key_valid[:, None, None], -torch.inf)
    return logits.softmax(-1).mean(1)  # (B, Q, K)
