"""Merges in tensors, to splice between stock layers."""

import torch
from torch import nn


def merge_with_tensors(x, scores, r):
    """(N, ...) -> (N - r, ...) and the indices that stay."""
    order = scores.argsort(stable=True)[: r + 1]
    weights = torch.arange(r + 1, 0, -1, dtype=torch.float64)
    x = x.clone()
    x[order[-1]] = torch.tensordot(weights / weights.sum(), x[order], 1)
    left = torch.tensor([i for i in range(len(x)) if i not in order[:-1].tolist()])
    return x[left], left


def stock_tile(model, tile, schedule):
    """Projected features, cells and last scores of a tile, with stock layers around the merges."""
    x, cells, scores = model.model.vision_tower.embeddings(tile[None]), torch.arange(36), None
    for index, layer in enumerate(model.model.vision_tower.encoder.layers):
        out, attention = layer.self_attn(layer.layer_norm1(x), None)
        x = x + out
        if index in schedule:
            n = x.shape[1]
            scores = (attention[0].mean(0) * (1 - torch.eye(n))).sum(0) / (n - 1)
            merged, left = merge_with_tensors(x[0], scores, schedule[index])
            x, cells, scores = merged[None], cells[left], scores[left]
        x = x + layer.mlp(layer.layer_norm2(x))
    return model.model.multi_modal_projector(x)[0], cells, scores


def pool_with_tensors(features, yx, scores, m, before, after):
    """The m best with the means of their cells and their coarse (row, column), in the order of those."""
    order = (yx[:, 0] * before[1] + yx[:, 1]).argsort()
    features, yx, scores = features[order], yx[order], scores[order]
    kept = scores.argsort(descending=True, stable=True)[:m].sort().values
    distance = (yx[:, None] - yx[kept]).pow(2).sum(-1)  # (n, m)
    nearest = (distance * m + torch.arange(m)).argmin(1)
    nearest[kept] = torch.arange(m)
    joined = nn.functional.one_hot(nearest, m).double()
    means = (joined / joined.sum(0)).T @ features
    at = ((yx[kept] + 0.5) * torch.tensor(after) / torch.tensor(before)).floor().long()
    order = (at[:, 0] * after[1] + at[:, 1]).argsort(stable=True)
    return means[order], at[order]


def recorded_maps(monkeypatch, modeling) -> list:
    """Grows by what `modeling`'s eager attention sees from now on: maps (N, N), the mean over heads."""
    maps, stock = [], modeling.eager_attention_forward

    def recording(*args, **kwargs):
        out, attention = stock(*args, **kwargs)
        maps.append(attention[0].mean(0))
        return out, attention

    monkeypatch.setattr(modeling, "eager_attention_forward", recording)
    return maps
