"""Patches that name what is under them: a projected patch is close to the words' own embeddings.

The decoder then finds in the picture the very vectors that a question and an answer are made of.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from illava_cli.evals.world.scene import COLOURS, COLUMNS, ROWS, SHAPES
from tiny.labels import PRINTED


class Naming:
    """The loss of projected patches against the words for what they show."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        # a word within a sentence and at the start of an answer are two tokens
        self.pairs = {
            word: [tokenizer.encode(text, add_special_tokens=False)[0] for text in (word, f" {word}")]
            for word in (*COLOURS, *SHAPES, *ROWS, *COLUMNS, *PRINTED)
        }
        self.digits = [tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "0123456789"]

    def targets(self, labels: dict[str, Tensor], vocabulary: int) -> tuple[Tensor, Tensor]:
        """Flat indices of the tokens that show something, and the distributions (P, V) of their words."""
        place, words = [], []
        flat = {name: values.flatten(0, 1).cpu().numpy() for name, values in labels.items()}
        for index in np.flatnonzero(flat["colour"] > 0):
            across, down = flat["centre"][index]
            names = [list(COLOURS)[flat["colour"][index] - 1], SHAPES[flat["shape"][index] - 1]]
            if across == across:  # a tile of a large picture does not know where it lies
                names += [ROWS[int(down > 0.5)], COLUMNS[int(across > 0.5)]]
            place.append(index)
            words.append([token for name in names for token in self.pairs[name]])
        for index in np.flatnonzero((flat["word"] > 0) | (flat["tens"] > 0)):
            word, tens, ones = (flat[name][index] for name in ("word", "tens", "ones"))
            place.append(index)
            words.append(
                self.pairs[PRINTED[word - 1]] if word > 0 else [self.digits[tens - 1], self.digits[ones - 1]]
            )
        target = torch.zeros(len(place), vocabulary)
        for row, tokens in enumerate(words):
            for token in tokens:
                target[row, token] += 1 / len(tokens)
        return torch.tensor(place, dtype=torch.long), target

    def loss(self, model, projected: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the (B, N, C) projected patches, as the decoder's last layer would read them."""
        head = model.lm_head.weight
        place, target = self.targets(labels, head.shape[0])
        if not len(place):
            return projected.new_zeros((), dtype=torch.float32)
        seen = model.model.language_model.norm(projected.flatten(0, 1)[place.to(head.device)])
        logits = (seen @ head.t().to(seen.dtype)).float()
        return -(target.to(head.device) * logits.log_softmax(-1)).sum(-1).mean()
