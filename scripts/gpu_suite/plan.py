"""What the suite runs, the most valuable first."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = 75  # exit code of a process that wants to be started again, without what broke it
PRESETS = ("auto", "off", "paper", "video", "best")  # beside the unmodified model


@dataclass(frozen=True)
class Model:
    """A random model and what it is asked about: `frames:N`, `tiles:N` or `pixels:WxH`.

    Args:
        share: of the time that is left when its turn comes.
    """

    name: str
    media: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Suite:
    """One edition of the suite.

    Args:
        tests: groups of files that run side by side, each in a process of its own.
        later: groups for which only what is left of the time is used.
        new_tokens, rounds: of each answer, and how often it is measured where there is time.
    """

    device: str
    models: tuple[Model, ...]
    tests: dict[str, tuple[str, ...]]
    later: dict[str, tuple[str, ...]]
    new_tokens: int
    rounds: int

    def model(self, name: str) -> Model:
        """The model of that name."""
        return next(model for model in self.models if model.name == name)


SCORES = "tests/reduction/test_triton_scores.py"
COMPILE = "tests/models/test_compile.py"
MODELS = ("tests/models/test_cuda.py", "tests/models/test_graphs.py")
PARTS = ("tests/models/test_lse.py", "tests/bench/test_command.py")

GPU = Suite(
    device="cuda",
    models=(
        Model("llava-onevision-7b", ("frames:32", "tiles:10"), 0.55),
        Model("qwen2.5-vl-7b", ("pixels:1008x1008",), 0.6),  # a megapixel of whole 28-pixel groups
        Model("llava-onevision-0.5b", ("tiles:1",), 0.8),
    ),
    tests={"scores": (SCORES,), "models": MODELS, "parts": PARTS},
    later={"compile": (COMPILE,)},
    new_tokens=16,
    rounds=5,
)
TOY = Suite(
    device="cpu",
    models=(
        Model("llava-onevision-toy", ("frames:2", "tiles:2"), 0.6),
        Model("qwen2.5-vl-toy", ("pixels:168x168",), 0.8),
    ),
    tests={"all": (SCORES, *MODELS, *PARTS)},  # all are skipped: one process saves imports
    later={"compile": (COMPILE,)},
    new_tokens=3,
    rounds=3,
)


def suite(toy: bool) -> Suite:
    """The edition for a GPU, or the toy one for a CPU."""
    return TOY if toy else GPU
