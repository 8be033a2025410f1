"""The expected failures: each is one line that says what is wrong and what to do, and an exit code.

Everything that a user can cause or mend is raised as an `IllavaError`; any other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations


class IllavaError(Exception):
    """An expected failure. `str(error)` is the one line shown to the user."""

    exit_code = 1


class MediaError(IllavaError):
    """An image or a video that is missing, broken, too large or empty."""


class ModelError(IllavaError):
    """A checkpoint that cannot be loaded, or a device that is not there."""


class OutOfMemory(ModelError):
    """Not enough memory for a question, or for so many at once."""


class MergeError(ModelError):
    """A merge that was asked for and did not happen: no answer is better than one that looks right."""

    def __init__(self, message: str):
        super().__init__(
            f"{message}; `illava doctor` names the versions that work, --preset off merges nothing"
        )


class ContextError(IllavaError):
    """A prompt that does not fit into the model's context."""


class Timeout(IllavaError):
    """A question that took longer than it may."""


class ServerError(IllavaError):
    """A server that did not answer as it should."""


class Cancelled(IllavaError):
    """A question that was cancelled before it had an answer."""

    exit_code = 130


class WorkerError(IllavaError):
    """A question at which the process that answers it dies, again and again."""


class OutputError(IllavaError):
    """A result, or what has no room in memory, that could not be written (disk full, broken path)."""


class UsageError(IllavaError):
    """A bad flag, key, preset, model name, prompt or schedule."""

    exit_code = 2
