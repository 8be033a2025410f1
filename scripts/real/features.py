"""What the real tower says of pictures, merged and not: a class embedding, and the patches left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from illava_cli.config.options import MediaOptions
from illava_cli.engine.session import Session
from illava_cli.evals.statistics import Z
from illava_cli.models.encoder import encode

BATCH = 16
ONE_SQUARE = MediaOptions(max_tiles=1)


@dataclass(frozen=True)
class Seen:
    """Of B pictures.

    Args:
        whole: (B, 512) class embedding, in the space that CLIP shares with texts; of length 1.
        patches: (B, N, 768) what is left of the patches, of length 1.
        inputs: by layer (B, 197, 768), what came to it, where that is kept.
    """

    whole: Tensor
    patches: Tensor
    inputs: dict[int, Tensor] = field(default_factory=dict)

    @property
    def mean(self) -> Tensor:
        """(B, 768) the mean of the patches, of length 1."""
        return F.normalize(self.patches.mean(1), dim=-1)


class Reader:
    """Reads pictures with a session whose tower is CLIP's; its last norm and projection come apart.

    Args:
        kept: layers, from 1 on, whose unmerged input is kept (605 kB a picture): merging can begin there.
    """

    def __init__(
        self, session: Session, norm: torch.nn.Module, projection: torch.nn.Module, kept: Collection[int]
    ):
        self.session, self.norm, self.projection = session, norm, projection
        self.blocks = list(session.family.tower_blocks())
        self.kept, self._last = kept, []
        self.blocks[-1].register_forward_hook(lambda module, given, out: self._last.append(_states(out)))

    def read(self, images: Sequence[Image.Image]) -> Seen:
        """Pictures that are squares of a tile, unmerged."""
        came: dict[int, list[Tensor]] = {layer: [] for layer in self.kept}
        with ExitStack() as stack:
            for layer, parts in came.items():
                hook = self.blocks[layer].register_forward_pre_hook(
                    lambda module, given, parts=parts: parts.append(given[0])
                )
                stack.callback(hook.remove)
            seen = self._read(images, self.session)
        return replace(seen, inputs={layer: torch.cat(parts) for layer, parts in came.items()})

    def merged(self, images: Sequence[Image.Image], whole: Seen, session: Session, layer: int) -> Seen:
        """The same pictures under a schedule that merges from `layer` on, the last layer aside."""
        with self._beginning(layer, whole.inputs[layer]):
            return self._read(images, session)

    @torch.inference_mode()
    def _read(self, images: Sequence[Image.Image], session: Session) -> Seen:
        family, schedule = session.family, session.schedules["image"]
        whole, patches = [], []
        for start in range(0, len(images), BATCH):
            group = [family.preprocess_image(one, ONE_SQUARE, True) for one in images[start : start + BATCH]]
            self._last.clear()
            encode(family, group, [schedule] * len(group))
            states = torch.cat(self._last).float()
            whole.append(F.normalize(self.projection(self.norm(states[:, 0])), dim=-1))
            patches.append(F.normalize(states[:, 1:], dim=-1))
        return Seen(torch.cat(whole), torch.cat(patches))

    @contextmanager
    def _beginning(self, layer: int, states: Tensor) -> Iterator[None]:
        """Meanwhile the blocks before `layer` give what they gave before, which takes no time."""
        rest = states

        def given(h: Tensor, **_) -> Tensor:
            nonlocal rest
            part, rest = rest[: len(h)], rest[len(h) :]
            return part

        *earlier, last = self.blocks[:layer]
        with ExitStack() as stack:
            for block in earlier:
                stack.enter_context(mock.patch.object(block, "forward", lambda h, **_: h))
            stack.enter_context(mock.patch.object(last, "forward", given))
            yield
        if len(rest):
            raise ValueError(f"of {len(states)} pictures {len(rest)} were not asked for again")


def _states(out) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def coverage(whole: Seen, merged: Seen) -> float:
    """How much of what each patch said is still said: its cosine with the most similar one that is left."""
    return torch.bmm(whole.patches, merged.patches.transpose(1, 2)).amax(-1).mean().item()


def nearest(gallery: Tensor, queries: Tensor, kinds: Tensor, folds: Tensor) -> Tensor:
    """(B,) whether the nearest picture of another fold is of a query's kind.

    Args:
        gallery, queries: (B, C) of length 1, the same pictures in the same order.
        kinds, folds: (B,) numbers.
    """
    likeness = queries @ gallery.t()
    likeness[folds[:, None] == folds[None]] = -2
    return kinds[likeness.argmax(1)] == kinds


def changed(before: Tensor, after: Tensor, cuts: Tensor) -> tuple[float, float, float]:
    """Change of the share of right answers, with its interval at 95 %, pictures of one cut-out taken as one.

    Args:
        before, after: (B,) right or not, of the same pictures.
        cuts: (B,) number of the cut-out.
    """
    each = after.double() - before.double()
    means = torch.stack([each[cuts == cut].mean() for cut in cuts.unique()])
    half = Z * (means.std() / len(means) ** 0.5).item()
    middle = means.mean().item()
    return middle, middle - half, middle + half


class Probe:
    """A linear reader for each fold of pictures, which learnt from unmerged ones of the other folds.

    It is frozen, as a decoder is that was trained without merging. Multinomial regression with weight decay.

    Args:
        gallery: (B, C) of length 1.
        kinds, folds: (B,) numbers.
    """

    def __init__(self, gallery: Tensor, kinds: Tensor, folds: Tensor):
        self.kinds, self.folds = kinds, folds
        count = int(kinds.max()) + 1
        self.heads = {
            int(fold): _fitted(gallery[folds != fold], kinds[folds != fold], count) for fold in folds.unique()
        }

    @torch.no_grad()
    def right(self, queries: Tensor) -> Tensor:
        """(B,) whether its answer about each of the same pictures is right, in their order, merged or not."""
        found = torch.empty(len(queries), dtype=torch.bool)
        for fold, head in self.heads.items():
            own = self.folds == fold
            found[own] = head(queries[own]).argmax(1) == self.kinds[own]
        return found


def _fitted(features: Tensor, kinds: Tensor, count: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    head = torch.nn.Linear(features.shape[1], count)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(20 * head(features), kinds) + 1e-3 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return head
