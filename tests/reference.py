"""A slow second implementation of iLLaVA, written from the definitions alone, to test the package against.

It shares no code with `illava_cli`; methods other than the paper's are those of `tests/reduction/slow.py`.
Everything is the plainest way to say it: one prompt at a time (no batch, padding or cache), one tile or frame
at a time, full attention maps with the softmax in the model's own dtype, Python loops over tokens, and the
submodules (projections, norms, MLPs) of the stock `transformers` model.

    reference(model, pieces, schedule)                after a prompt: logits, counts, kept sets
    reference_conversation(model, turns, schedule)    the same after several turns, earlier merges fixed
    reference_greedy(model, pieces, schedule, steps)  greedy tokens, with a recompute for every one

`pieces` is the prompt in order: lists of token ids, and a `Medium` in the place of each placeholder. A later
turn begins with the answer that was given (its tokens head that turn's first list); turns end with text.
Generated tokens are a turn without media: they never re-score anything, layers below K see the unreduced
sequence and them, layers from K on the survivors and them. Attention is causal, so a recompute is exact.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
import transformers.models.llava_onevision.modeling_llava_onevision as llava_onevision
from torch import Tensor, nn
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from tests.reduction import slow

QWEN = ("qwen2_vl", "qwen2_5_vl")  # model types


@dataclass
class Medium:
    kind: str  # LLaVA: "anyres" | "square" | "video"; Qwen: "image" | "video"
    pixel_values: Tensor  # LLaVA: (tiles or frames, 3, S, S), anyres: base tile first; Qwen: (t*h*w, dim)
    size: tuple[int, int] | None = None  # anyres, square: the original image's (height, width)
    grid_thw: tuple[int, int, int] | None = None  # Qwen
    seconds: float | None = None  # Qwen2.5-VL's videos: from one t to the next
    pinpoints: list | None = None  # anyres: the allowed (height, width)s; None: the model's own


@dataclass
class Schedule:
    variant: str = "paper"  # or "authors": diagonal in the tower's scores, row newlines rank in the LLM
    layout: str = "grid"  # or "faithful" (not read for Qwen, which has one layout)
    positions: str = "packed"  # or "original" (not read for Qwen, which has one way)
    vision: dict[int, float] = field(default_factory=dict)  # layer -> r (Qwen: part of the groups dropped)
    llm: dict[int, float] = field(default_factory=dict)  # layer K >= 1 -> fraction kept
    queries: str = "last"  # or "visual", "visual-literal"
    scope: str = "medium"  # or "all"
    method: str = "illava"  # or another of `slow.METHODS`; LLM only where it has no meaning for the tower
    behind: tuple[str, float | None] | None = None  # method and share kept between projector and decoder
    proportional: bool = False  # the tower's attention counts a token by its size


@dataclass
class Counts:
    patches: int  # enter the tower
    vision_kept: int  # leave it (Qwen: before the 2x2 merger)
    llm_in: int = 0  # image tokens that enter the decoder
    llm_kept: int = 0  # image tokens after its last merge
    newlines_in: int = 0
    newlines_kept: int = 0


@dataclass
class Token:
    embedding: Tensor
    kind: str  # "text", "image", "row" (newline at the end of an anyres row), "final" (any other newline)
    place: int  # index in its unmerged piece
    position: tuple[int, ...] = ()  # one number, or (t, h, w)
    turn: int = 0
    medium: int | None = None


@dataclass
class Encoded:
    """A medium behind tower, projector and layout."""

    medium: Medium
    tokens: list[Token]
    length: int  # of the unmerged medium, newlines included
    counts: Counts
    kept: list[dict[int, list[int]]]


@dataclass
class Result:
    logits: Tensor  # (vocabulary,) after the last token
    counts: list[Counts]  # per medium
    prompt_tokens: int  # the decoder's input length
    next_position: int  # of the token that would be generated
    positions: list[tuple[int, ...]]  # of each token of the decoder's input
    vision_kept: list[list[dict[int, list[int]]]]  # [medium][tile][layer] -> cells (Qwen: groups) left
    llm_kept: dict[int, list[int]]  # K -> indices into the decoder's input of all that layers from K on see


# ---- the merge (DESIGN 3) ----


def merge_plan(scores: list[float], r: int, padding: Collection[int] = ()):
    """The r+1 lowest, ascending (ties: lower index first), are pooled into the last of them: r+1, r, ... 1.

    Padding comes before all else, by index; what is padding among the r that leave is dropped, not pooled,
    and the weights of the others go on from there. Returns the indices that stay (in order), the one of them
    that is replaced, and what by: (index, weight) with weights that sum to 1.
    """
    if not 0 <= r < len(scores):
        raise ValueError(f"cannot remove {r} of {len(scores)} tokens: at least one must stay")
    order = sorted(range(len(scores)), key=lambda i: (0, i) if i in padding else (1, scores[i], i))
    leaving, anchor = order[:r], order[r]
    pooled = [i for i in leaving if i not in padding] + [anchor]
    weights = range(len(pooled), 0, -1)
    parts = [(i, weight / sum(weights)) for i, weight in zip(pooled, weights, strict=True)]
    return [i for i in range(len(scores)) if i not in leaving], anchor, parts


def members(method: str, keys: Tensor, scores: list[float], sizes: list[float], r: int, padding=(), before=0):
    """{survivor: {token: weight}} under a method; `illava` by the definition above.

    `before`: class tokens that stand before these.
    """
    if method != "illava":
        marks = [i in padding for i in range(len(scores))]
        wide = torch.tensor(scores, dtype=torch.float64)
        return slow.members(method, keys, wide, torch.tensor(sizes), r, marks, before)
    kept, anchor, parts = merge_plan(scores, r, padding)
    return {i: dict(parts) if i == anchor else {i: 1.0} for i in kept}


def weighted_sum(x: Tensor, parts: list[tuple[int, float]]) -> Tensor:
    """sum of weight * x[index], accumulated in float32 (float64 for float64), in x's dtype."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return sum(weight * x[i].to(wide) for i, weight in parts).to(x.dtype)


def merge(
    x: Tensor,
    keys: Tensor,
    scores: list[float],
    sizes: list[float],
    r: int,
    method: str,
    padding=(),
    before=0,
):
    """N -> N - r along the first dimension: x, the index of each survivor's anchor, and its size."""
    found = members(method, keys, scores, sizes, r, padding, before)
    kept = sorted(found)
    parts = [list(found[i].items()) for i in kept]
    x = torch.stack([x[i] if len(p) == 1 else weighted_sum(x, p) for i, p in zip(kept, parts, strict=True)])
    return x, kept, [sum(sizes[i] for i, _ in p) for p in parts]


def received(attention: Tensor, variant: str) -> list[float]:
    """Eq. 1 on a map (H, queries, keys): mean over heads and the other tokens ("authors": over all)."""
    rows = attention.double().mean(0).tolist()
    n = len(rows)
    if variant == "authors":
        return [sum(rows[k][i] for k in range(n)) / n for i in range(n)]
    return [sum(rows[k][i] for k in range(n) if k != i) / (n - 1) for i in range(n)]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool = False, sizes=None):
    """softmax(q k^T + log sizes) v of (H, N, D), in their own dtype -> (N, H*D) and the map (H, N, N)."""
    logits = q @ k.transpose(1, 2) * scale
    if sizes is not None:
        logits = logits + torch.tensor(sizes, dtype=logits.dtype).log()
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[1:], dtype=torch.bool).triu(1), -math.inf)
    attention = torch.softmax(logits, dim=-1)
    return (attention @ v).transpose(0, 1).flatten(1), attention


# ---- LLaVA: tower ----


@dataclass
class Cell:
    """A survivor of one tile, at its anchor's row and column."""

    y: int
    x: int
    feature: Tensor
    score: float  # of its anchor, at the last layer that merged


def encode_llava(model, medium: Medium, schedule: Schedule) -> Encoded:
    """Tower, projector on the survivors, layout."""
    core, config = model.model, model.config
    side = config.vision_config.image_size // config.vision_config.patch_size
    faithful = schedule.layout == "faithful"
    if schedule.positions == "original" and not faithful:
        raise ValueError("original positions are not defined in the grid layout")
    padding = padding_cells(medium, config) if faithful else [set() for _ in medium.pixel_values]
    tiles, kept, seen = [], [], []
    for pixels, padded in zip(medium.pixel_values.to(model.dtype), padding, strict=True):
        x, cells, scores, kept_by_layer, last = tower_tile(
            core.vision_tower, pixels, schedule, config, padded
        )
        features = core.multi_modal_projector(x)
        tiles.append([Cell(*divmod(c, side), f, s) for c, f, s in zip(cells, features, scores, strict=True)])
        kept.append(kept_by_layer)
        seen.append(last)
    counts = Counts(patches=len(tiles) * side * side, vision_kept=sum(len(tile) for tile in tiles))
    if schedule.behind:
        marks = [
            {i for i, cell in enumerate(tile) if cell.y * side + cell.x in padded}
            for tile, padded in zip(tiles, padding, strict=True)
        ]
        tiles = thin_out(tiles, seen, marks, *schedule.behind)
    fewer = sum(len(tile) for tile in tiles) < counts.patches
    if faithful and fewer:
        tokens, length = faithful_layout(medium, tiles, core.image_newline, config)
    else:
        tokens = grid_layout(medium, tiles, core.image_newline, config)
        length = len(tokens)
    return Encoded(medium, tokens, length, counts, kept)


def thin_out(tiles: list[list[Cell]], seen: list, padding: list[set[int]], method: str, keep: float | None):
    """As many cells of each tile: a share of them, or as many as stand out where most do."""
    if keep is None:
        bare = zip(seen, padding, strict=True)
        left = max(
            slow.outliers([s for i, s in enumerate(scores) if i not in p]) for (scores, _, _), p in bare
        )
    else:
        left = round(len(tiles[0]) * keep)
    thinner = []
    for cells, (scores, keys, sizes), padded in zip(tiles, seen, padding, strict=True):
        x = torch.stack([cell.feature for cell in cells])
        r = len(cells) - max(1, left)
        x, kept, _ = merge(x, keys, scores, sizes, r, method, padded)
        thinner.append([replace(cells[i], feature=f, score=scores[i]) for i, f in zip(kept, x, strict=True)])
    return thinner


def tower_tile(tower, pixels: Tensor, schedule: Schedule, config, padding: set[int]):
    """One tile (3, S, S) through the layers that make the features, merging between attention and MLP.

    CLIP's class token stands before the patches: it looks at them and is not one of those that merge.
    Returns features (n, C), the cell and last score of each survivor's anchor, and the cells kept by layer.
    """
    wanted = config.vision_feature_layer  # an index into HF's hidden_states, whose first is the embedding
    layers = tower.encoder.layers[: wanted if wanted >= 0 else len(tower.encoder.layers) + 1 + wanted]
    if any(not 0 <= index < len(layers) for index in schedule.vision):
        raise ValueError(f"vision layers {sorted(schedule.vision)}, but the features need {len(layers)}")
    x = tower.embeddings(pixels[None])[0]  # (N, C)
    clip = config.vision_config.model_type == "clip_vision_model"
    first, x = (1, tower.pre_layrnorm(x)) if clip else (0, x)
    n = len(x) - first
    cells, scores, sizes, kept_by_layer = list(range(n)), [0.0] * n, [1.0] * n, {}
    for index, layer in enumerate(layers):
        attn, normed = layer.self_attn, layer.layer_norm1(x)
        qkv = [project(normed) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
        qkv = [x.unflatten(1, (attn.num_heads, -1)).transpose(0, 1) for x in qkv]  # (H, N, D)
        out, attention = attend(
            *qkv, attn.scale, sizes=[1.0] * first + sizes if schedule.proportional else None
        )
        x = x + attn.out_proj(out)
        if r := schedule.vision.get(index, 0):
            scores = received(attention, schedule.variant)[first:]
            padded = {i for i, cell in enumerate(cells) if cell in padding}
            keys = qkv[1].mean(0)[first:]
            left, kept, sizes = merge(x[first:], keys, scores, sizes, r, schedule.method, padded, first)
            x = torch.cat([x[:first], left])
            cells, scores = [cells[i] for i in kept], [scores[i] for i in kept]
            kept_by_layer[index] = cells
        # CLIP's class token judges what is left of the tower, unless the last layer merges
        judged = attention.double().mean(0)[0].tolist() if clip else received(attention, schedule.variant)
        last = judged[first:], qkv[1].mean(0)[first:], sizes
        x = x + layer.mlp(layer.layer_norm2(x))
    return x[first:], cells, scores, kept_by_layer, last


# ---- LLaVA: geometry and layouts ----


def anyres_grid(medium: Medium, config) -> tuple[int, int, Tensor]:
    """Tile rows and columns, and the (R, C) cells (indices into the full grid) that HF's unpad leaves."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    pinpoints, tile = medium.pinpoints or config.image_grid_pinpoints, config.vision_config.image_size
    rows, cols = llava_onevision.get_anyres_image_grid_shape(medium.size, pinpoints, tile)
    index = torch.arange(rows * side * cols * side).view(1, rows * side, cols * side)
    return rows, cols, llava_onevision.unpad_image(index, medium.size)[0]


def padding_cells(medium: Medium, config) -> list[set[int]]:
    """Per tile, the cells known to be padding: none in base tiles and video frames."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    padding = [set() for _ in medium.pixel_values]
    if medium.kind == "anyres":
        _, cols, unpadded = anyres_grid(medium, config)
        inside = set(unpadded.flatten().tolist())
        for tile in range(1, len(padding)):
            top, left = (tile - 1) // cols * side, (tile - 1) % cols * side
            for cell in range(side * side):
                if (top + cell // side) * cols * side + left + cell % side not in inside:
                    padding[tile].add(cell)
    elif medium.kind == "square":
        longest = max(medium.size)
        for cell in range(side * side):
            for k, length in zip(divmod(cell, side), medium.size, strict=True):
                # Of `longest` pixels image: [before, before + length), cells k: [k, k + 1) * longest / side.
                before = (longest - length) // 2
                if (k + 1) * longest <= before * side or k * longest >= (before + length) * side:
                    padding[0].add(cell)
    return padding


def interpolated(height: int, width: int, side: int, config) -> tuple[int, int]:
    """The size HF interpolates an unpadded grid to (its own size where HF does not)."""
    if config.model_type == "llava_next":
        return height, width
    most_tiles = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    ratio = math.sqrt(height * width / (most_tiles * side**2))
    return (int(height // ratio), int(width // ratio)) if ratio > 1.1 else (height, width)


def bilinear(grid: Tensor, height: int, width: int) -> Tensor:
    """(H, W, C) -> (height, width, C), as HF does it."""
    grid = nn.functional.interpolate(grid.permute(2, 0, 1)[None], size=(height, width), mode="bilinear")
    return grid[0].permute(1, 2, 0)


def rows_end(config) -> bool:
    """Whether each row of each frame of a video ends with a newline (LLaVA-Video), not the whole of it."""
    return getattr(config, "mm_newline_position", None) == "grid"


def grid_layout(medium: Medium, tiles: list[list[Cell]], newline: Tensor, config) -> list[Token]:
    """HF's pack_image_features and apply_pooling, with a tile's survivors in order as a g x g grid."""
    g = math.isqrt(len(tiles[0]))
    if g * g != len(tiles[0]):
        raise ValueError(f"{len(tiles[0])} survivors per tile are no square")
    grids = [torch.stack([cell.feature for cell in tile]).unflatten(0, (g, g)) for tile in tiles]
    out = []
    if medium.kind == "anyres":
        rows, cols, _ = anyres_grid(medium, config)
        strips = [torch.cat(grids[1 + row * cols : 1 + (row + 1) * cols], dim=1) for row in range(rows)]
        big = torch.cat(strips).permute(2, 0, 1)  # (C, rows*g, cols*g)
        big = llava_onevision.unpad_image(big, medium.size).permute(1, 2, 0)
        target = interpolated(big.shape[0], big.shape[1], g, config)
        if target != big.shape[:2]:
            big = bilinear(big, *target)
        out += [(x, "image") for x in grids[0].flatten(0, 1)]
        for row in big:
            out += [(x, "image") for x in row] + [(newline, "row")]
    else:
        half = math.ceil(g / 2)
        for grid in grids:
            grid = bilinear(grid, half, half) if medium.kind == "video" else grid
            for row in grid:
                out += [(x, "image") for x in row]
                if medium.kind == "video" and rows_end(config):
                    out.append((newline, "final"))
        if not (medium.kind == "video" and rows_end(config)):
            out.append((newline, "final"))
    return [Token(x, kind, place) for place, (x, kind) in enumerate(out)]


def join_nearest(cells: list[Cell], m: int) -> list[Cell]:
    """Of cells in raster order the m highest-scored stay; every other joins the nearest of them.

    Kept cells' features are plain means of themselves and those that joined. Ties: lower raster index first.
    """
    if m < 1:
        raise ValueError(f"{len(cells)} survivors leave no cell after pooling")
    kept = sorted(sorted(range(len(cells)), key=lambda i: (-cells[i].score, i))[:m])
    members = {k: [k] for k in kept}
    for i, cell in enumerate(cells):
        if i not in kept:
            _, nearest = min(((cells[k].y - cell.y) ** 2 + (cells[k].x - cell.x) ** 2, k) for k in kept)
            members[nearest].append(i)
    x = torch.stack([cell.feature for cell in cells])
    means = {k: weighted_sum(x, [(i, 1 / len(group)) for i in group]) for k, group in members.items()}
    return [replace(cells[k], feature=means[k]) for k in kept]


def coarse(k: int, before: int, after: int) -> int:
    """floor((k + 0.5) * after / before): the coarse row or column in which a fine one lies."""
    return (2 * k + 1) * after // (2 * before)


def faithful_layout(medium: Medium, tiles: list[list[Cell]], newline: Tensor, config):
    """Survivors keep their own row and column, in the order of their places (one place: raster order).

    Returns the tokens and the unmerged length.
    """
    side = config.vision_config.image_size // config.vision_config.patch_size
    full = side * side
    if medium.kind == "video":
        half, tokens = math.ceil(side / 2), []
        width = half + rows_end(config)
        for frame, cells in enumerate(tiles):
            for cell in join_nearest(cells, round(half * half * len(cells) / full)):
                row, col = coarse(cell.y, side, half), coarse(cell.x, side, half)
                tokens.append(Token(cell.feature, "image", (frame * half + row) * width + col))
        if rows_end(config):
            tokens += [Token(newline, "final", row * width + half) for row in range(len(tiles) * half)]
        tokens.sort(key=lambda token: token.place)
        end = len(tiles) * half * width
        if rows_end(config):
            return tokens, end
        return [*tokens, Token(newline, "final", end)], end + 1

    tokens = [Token(cell.feature, "image", cell.y * side + cell.x) for cell in tiles[0]]
    if medium.kind == "square":
        return [*tokens, Token(newline, "final", full)], full + 1

    _, tile_cols, unpadded = anyres_grid(medium, config)
    height, width = unpadded.shape
    top, left = divmod(int(unpadded[0, 0]), tile_cols * side)
    cells = [
        replace(cell, y=tile // tile_cols * side + cell.y - top, x=tile % tile_cols * side + cell.x - left)
        for tile, survivors in enumerate(tiles[1:])
        for cell in survivors
    ]
    cells = sorted((c for c in cells if 0 <= c.y < height and 0 <= c.x < width), key=lambda c: (c.y, c.x))
    rows, cols = interpolated(height, width, side, config)
    if (rows, cols) != (height, width):
        cells = join_nearest(cells, round(rows * cols * len(cells) / (height * width)))
    for row in range(rows):
        start = full + row * (cols + 1)
        here = [cell for cell in cells if coarse(cell.y, height, rows) == row]
        here.sort(key=lambda cell: coarse(cell.x, width, cols))
        tokens += [Token(cell.feature, "image", start + coarse(cell.x, width, cols)) for cell in here]
        tokens.append(Token(newline, "row", start + cols))
    return tokens, full + rows * (cols + 1)


# ---- Qwen2-VL, Qwen2.5-VL: tower ----


def encode_qwen(model, medium: Medium, schedule: Schedule) -> Encoded:
    """Each temporal frame alone (it is its own attention segment); whole 2x2 groups merge, like with like.

    In most of Qwen2.5-VL's blocks a patch sees its window only: what it receives there is given in multiples
    of 1/n, n being the patches that are left in the window.
    """
    visual = model.model.visual
    if any(not 0 <= index < len(visual.blocks) for index in schedule.vision):
        raise ValueError(f"vision layers {sorted(schedule.vision)}, but there are {len(visual.blocks)}")
    (t, h, w), s = medium.grid_thw, visual.spatial_merge_size
    unit, per_frame = s * s, h * w // (s * s)
    corners = [(y, x) for y in range(0, h, s) for x in range(0, w, s)]
    where = [(y + i, x + j) for y, x in corners for i in range(s) for j in range(s)]  # HF's order: by group
    freq = visual.rotary_pos_emb.inv_freq.float()
    angles = torch.stack([torch.cat([y * freq, x * freq]).repeat(2) for y, x in where])  # (h*w, D)
    tokens, kept = [], []
    for frame, pixels in enumerate(medium.pixel_values.to(model.dtype).view(t, h * w, -1)):
        x = visual.patch_embed(pixels)  # (h*w, C)
        groups, sizes, kept_by_layer = list(range(per_frame)), [1.0] * per_frame, {}
        for index, block in enumerate(visual.blocks):
            attn = block.attn
            q, k, v = attn.qkv(block.norm1(x)).unflatten(1, (3, attn.num_heads, -1)).unbind(1)  # (N, H, D)
            own = angles.unflatten(0, (per_frame, unit))[groups].flatten(0, 1)  # of each survivor's anchor
            q, k = apply_rotary_pos_emb_vision(q, k, own.cos(), own.sin())
            patch_sizes = [size for size in sizes for _ in range(unit)]
            out, each = torch.empty_like(x), torch.empty(len(x), dtype=torch.float64)
            windowed = index not in getattr(visual, "fullatt_block_indexes", range(len(visual.blocks)))
            for members in windows(visual, groups, w // s) if windowed else [range(len(groups))]:
                rows = [g * unit + i for g in members for i in range(unit)]
                seen = (y[rows].transpose(0, 1) for y in (q, k, v))
                own_sizes = [patch_sizes[row] for row in rows] if schedule.proportional else None
                out[rows], attention = attend(*seen, attn.scaling, sizes=own_sizes)
                factor = len(rows) if windowed else 1
                each[rows] = torch.tensor(received(attention, schedule.variant), dtype=torch.float64) * factor
            x = x + attn.proj(out)
            if removed := math.floor(schedule.vision.get(index, 0) * len(groups)):
                each = each.tolist()
                scores = [sum(each[g * unit : (g + 1) * unit]) / unit for g in range(len(groups))]
                grouped, keys = x.unflatten(0, (len(groups), unit)), k.mean(1).reshape(len(groups), -1)
                x, left, sizes = merge(grouped, keys, scores, sizes, removed, schedule.method)
                x, groups = x.flatten(0, 1), [groups[i] for i in left]
                kept_by_layer[index] = groups
            x = x + block.mlp(block.norm2(x))
        features = visual.merger(x)  # (groups, C)
        tokens += [Token(f, "image", frame * per_frame + g) for f, g in zip(features, groups, strict=True)]
        kept.append(kept_by_layer)
    return Encoded(medium, tokens, t * per_frame, Counts(t * h * w, len(tokens) * unit), kept)


def windows(visual, groups: list[int], columns: int) -> list[list[int]]:
    """Indices of the groups that are left, by the window that they stand in."""
    side, found = visual.window_size // visual.patch_size // visual.spatial_merge_size, {}
    for index, group in enumerate(groups):
        found.setdefault((group // columns // side, group % columns // side), []).append(index)
    return list(found.values())


# ---- the decoder ----


def unmerged_positions(model, pieces: list) -> Tensor:
    """Of every token without merging: (1, L) for LLaVA, (3, L) by HF's get_rope_index for Qwen."""
    length = sum(piece.length if isinstance(piece, Encoded) else len(piece) for piece in pieces)
    if model.config.model_type not in QWEN:
        return torch.arange(length)[None]
    types, grids, seconds = [], {"image": [], "video": []}, []
    for piece in pieces:
        if isinstance(piece, Encoded):
            grids[piece.medium.kind].append(piece.medium.grid_thw)
            types += [{"image": 1, "video": 2}[piece.medium.kind]] * piece.length
            seconds += [piece.medium.seconds] if piece.medium.seconds else []
        else:
            types += [0] * len(piece)
    ids, _ = model.model.get_rope_index(
        torch.zeros(1, length, dtype=torch.long),
        mm_token_type_ids=torch.tensor([types]),
        image_grid_thw=torch.tensor(grids["image"]),
        video_grid_thw=torch.tensor(grids["video"]),
        **({"second_per_grid_ts": torch.tensor(seconds)} if seconds else {}),
    )
    return ids[:, 0]


def lay_out(model, turns: list[list], schedule: Schedule) -> tuple[list[Token], int]:
    """The decoder's input, every token with its position, and the position at which decoding goes on.

    That is the position of one more text token: for Qwen the last text token's plus one, as in HF's generate.
    """
    packed = schedule.positions == "packed" and model.config.model_type not in QWEN
    ids = unmerged_positions(model, [piece for pieces in turns for piece in pieces] + [[0]])
    sequence, offset, media = [], 0, 0
    for turn, pieces in enumerate(turns):
        for piece in pieces:
            if isinstance(piece, Encoded):
                tokens, length, medium = piece.tokens, piece.length, media
                media += 1
            else:
                embeddings = model.get_input_embeddings()(torch.tensor(piece, dtype=torch.long))
                tokens = [Token(x, "text", place) for place, x in enumerate(embeddings)]
                length, medium = len(piece), None
            for token in tokens:
                position = (len(sequence),) if packed else tuple(ids[:, offset + token.place].tolist())
                sequence.append(replace(token, position=position, turn=turn, medium=medium))
            offset += length
    return sequence, len(sequence) if packed else int(ids[0, -1])


def decoder_layer(layer, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """One stock decoder layer on (T, C), causal, its attention map (H, T, T), and its keys' mean (T, D)."""
    attn, normed = layer.self_attn, layer.input_layernorm(x)
    qkv = [project(normed) for project in (attn.q_proj, attn.k_proj, attn.v_proj)]
    q, k, v = (x.unflatten(1, (-1, attn.head_dim)).transpose(0, 1) for x in qkv)  # (heads, T, D)
    q, k = (x[0] for x in apply_rotary_pos_emb(q[None], k[None], *rotary))
    keys = k.mean(0)
    k, v = (x.repeat_interleave(attn.num_key_value_groups, dim=0) for x in (k, v))
    out, attention = attend(q, k, v, attn.scaling, causal=True)
    x = x + attn.o_proj(out)
    return x + layer.mlp(layer.post_attention_layernorm(x)), attention, keys


def llm_scores(attention: Tensor, ranked: list[int], last: int, queries: str) -> list[float]:
    """The score of each ranked token (they and `last` index the map), by the attention of `queries`."""
    rows = attention.double().mean(0).tolist()
    if queries == "last":
        return [rows[last][i] for i in ranked]
    totals = [sum(rows[k][i] for k in ranked if k != i) for i in ranked]
    others = len(ranked) - 1
    if queries == "visual-literal":
        return [total / others for total in totals]
    return [total / (others - i) if i < others else math.inf for i, total in enumerate(totals)]


def llm_merge(
    x: Tensor, alive: list[int], sequence: list[Token], seen: tuple, sizes: list[float], keep: float, schedule
):
    """Before layer K, by map and keys of layer K-1: a medium's n ranked tokens lose round(n * (1 - keep)).

    FastV's code keeps round(n * keep) of them instead.

    With scope "all" the media of a turn rank together. Returns x, the alive indices and their sizes without
    the removed.
    """
    attention, keys = seen
    kinds = ("image", "row") if schedule.variant == "authors" else ("image",)
    groups: dict[tuple, list[int]] = {}
    for i, token in enumerate(sequence[a] for a in alive):
        if token.kind in kinds:
            together = token.medium if schedule.scope == "medium" else None
            groups.setdefault((token.turn, together), []).append(i)
    gone, pooled, grown = set(), {}, {}
    for (turn, _), ranked in groups.items():
        n = len(ranked)
        if r := n - round(n * keep) if schedule.method == "fastv" else round(n * (1 - keep)):
            last = max(i for i, a in enumerate(alive) if sequence[a].turn == turn)
            if sequence[alive[last]].kind != "text":
                raise ValueError("a turn must end with text")
            scores, own = llm_scores(attention, ranked, last, schedule.queries), [sizes[i] for i in ranked]
            found = members(schedule.method, keys[ranked], scores, own, r)
            gone |= set(ranked) - {ranked[i] for i in found}
            for survivor, parts in found.items():
                if len(parts) > 1:
                    weights = [(ranked[i], weight) for i, weight in parts.items()]
                    pooled[ranked[survivor]] = weighted_sum(x, weights)
                    grown[ranked[survivor]] = sum(own[i] for i in parts)
    left = [i for i in range(len(alive)) if i not in gone]
    x = torch.stack([pooled.get(i, x[i]) for i in left])
    return x, [alive[i] for i in left], [grown.get(i, sizes[i]) for i in left]


def run(model, turns: list[list], schedule: Schedule) -> Result:
    """The decoder over turns of token ids and encoded media."""
    text = model.model.language_model
    if any(not 1 <= index < len(text.layers) for index in schedule.llm):
        raise ValueError(f"llm layers {sorted(schedule.llm)}, but they go from 1 to {len(text.layers) - 1}")
    kinds = getattr(text.config, "layer_types", None) or []
    if any(kind != "full_attention" for kind in kinds) or getattr(text.config, "sliding_window", None):
        raise ValueError("sliding windows are not part of this reference")
    sequence, next_position = lay_out(model, turns, schedule)
    x = torch.stack([token.embedding for token in sequence])  # (T, C)
    alive, sizes, seen, llm_kept = list(range(len(sequence))), [1.0] * len(sequence), None, {}
    for index, layer in enumerate(text.layers):
        if index in schedule.llm:
            x, alive, sizes = llm_merge(x, alive, sequence, seen, sizes, schedule.llm[index], schedule)
            llm_kept[index] = alive
        positions = torch.tensor([sequence[a].position for a in alive]).T  # (1 or 3, T)
        positions = positions[:, None] if len(positions) == 3 else positions
        x, *seen = decoder_layer(layer, x, text.rotary_emb(x[None], positions))

    media = [piece for pieces in turns for piece in pieces if isinstance(piece, Encoded)]
    counts = [replace(piece.counts) for piece in media]
    for token in sequence:
        if token.medium is not None:
            counts[token.medium].llm_in += token.kind == "image"
            counts[token.medium].newlines_in += token.kind != "image"
    for token in (sequence[a] for a in alive):
        if token.medium is not None:
            counts[token.medium].llm_kept += token.kind == "image"
            counts[token.medium].newlines_kept += token.kind != "image"
    return Result(
        logits=model.lm_head(text.norm(x[-1])),
        counts=counts,
        prompt_tokens=len(sequence),
        next_position=next_position,
        positions=[token.position for token in sequence],
        vision_kept=[piece.kept for piece in media],
        llm_kept=llm_kept,
    )


# ---- what tests call ----


def encode(model, pieces: list, schedule: Schedule) -> list:
    """The pieces with every medium encoded."""
    one = encode_qwen if model.config.model_type in QWEN else encode_llava
    return [one(model, piece, schedule) if isinstance(piece, Medium) else piece for piece in pieces]


@torch.no_grad()
def reference_conversation(model, turns: list[list], schedule: Schedule) -> Result:
    """After the last turn. Media are merged by their own turn's tokens, as at the time when they arrived."""
    return run(model, [encode(model, pieces, schedule) for pieces in turns], schedule)


def reference(model, pieces: list, schedule: Schedule) -> Result:
    """After one prompt."""
    return reference_conversation(model, [pieces], schedule)


@torch.no_grad()
def reference_greedy(
    model, pieces: list, schedule: Schedule, steps: int, never: Collection[int] = ()
) -> list[int]:
    """`steps` greedy tokens (no token stops it), each from a recompute of everything behind the tower.

    Those of `never` are not chosen.
    """
    encoded, answer = encode(model, pieces, schedule), []
    for _ in range(steps):
        turns = [encoded, [answer]] if answer else [encoded]
        logits = run(model, turns, schedule).logits
        logits[list(never)] = -math.inf
        answer.append(int(logits.argmax()))
    return answer
