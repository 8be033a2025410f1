"""Pure tensor functions: scores, `Merge`, and one file per method. Knows no model.

A method is a function `(scores, r, *, counts, valid, padding) -> Assignment`; `METHODS` is where it
gets its name.
"""

from illava_cli.reduction.illava import illava
from illava_cli.reduction.merge import Assignment, Merge, gather_tokens
from illava_cli.reduction.prune import attention_prune, random
from illava_cli.reduction.scores import received_attention

METHODS = {"illava": illava, "attention-prune": attention_prune, "random": random}

__all__ = ["METHODS", "Assignment", "Merge", "gather_tokens", "illava", "received_attention"]
