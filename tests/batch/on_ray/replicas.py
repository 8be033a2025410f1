"""Replicas without a model: they say their items' prompts, and do what an item's id says."""

import os
import time

from illava_cli.batch.on_ray.replica import Replica
from illava_cli.errors import ModelError


def _odd():
    class Odd(Exception):
        """Its class is nowhere to be found."""

    return Odd("an odd one")


class _Sayer:
    def __init__(self, replica):
        self.replica = replica

    def answer(self, items):
        for item in items:
            if self.replica._stop.is_set():
                return
            if item.id == "kill":
                os.abort()
            if item.id == "bug":
                raise ZeroDivisionError("a bug")
            if item.id == "odd":
                raise _odd()
            if item.id == "note":
                self.replica._notes.append("a note")
            if item.id.startswith("slow"):
                time.sleep(0.3)
            yield {"id": item.id, "text": item.prompt, "pid": os.getpid()}

    def failure(self, item, error):
        return {"id": item.id, "text": str(error), "pid": os.getpid()}


class Saying(Replica):
    """Answers at once."""

    def _load(self, setup):
        return _Sayer(self)


class Unloadable(Replica):
    """Has no model."""

    def _load(self, setup):
        raise ModelError("no such model")


class DyingLoad(Replica):
    """Dies before the model is there."""

    def _load(self, setup):
        os.abort()
