"""What a request asks for its media, and what comes of it; alike in all of vLLM's processes."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from illava_cli.config.options import MediaOptions
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.engine.features import FeatureCache
from illava_cli.engine.reducing import reducing
from illava_cli.engine.resolved import documents_of, least_tokens, planned
from illava_cli.engine.rules import Documents, Rules
from illava_cli.errors import UsageError
from illava_cli.models.family import Family
from illava_cli.models.planning import stages_of
from illava_cli.models.schedule import KINDS
from illava_cli.openai.asked import Bounds
from illava_cli.openai.options import OURS, ours
from illava_cli.vllm.schedules import before_decoder

REDUCING = ("preset", "keep", "method")
SAMPLING = ("num_frames", "fps", "start", "end")  # vLLM samples frames: `media_io_kwargs`
KNOWN = tuple(name for name in OURS if name not in SAMPLING)
# set by us, as parts of the caches' keys: whether an image is alone in its prompt, and the server's settings
ALONE, SETTINGS = "illava_alone", "illava_settings"
KEPT = 64


@dataclass(frozen=True)
class Asked:
    """What is done to a request's media: by these rules, read under these options."""

    rules: Rules
    media: MediaOptions


class Wishes:
    """What requests ask of one model; threads may share it."""

    def __init__(self, family: Family, config: Config):
        """
        Args:
            config: what is done where a request says nothing.
        """
        self.family, self.config = family, config
        self._known: OrderedDict[str, Asked] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, wish: str) -> Asked:
        """What comes of a wish.

        Args:
            wish: from `wish_of`.

        Raises:
            UsageError: the model cannot run it.
        """
        with self._lock:
            if wish not in self._known:
                self._known[wish] = self._made(json.loads(wish))
                if len(self._known) > KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(wish)
            return self._known[wish]

    def _made(self, options: dict[str, Any]) -> Asked:
        said = [options.pop(name, None) for name in REDUCING]
        config = reducing(self.family, self.config, *said)
        reduction, schedules = planned(self.family, config, lambda note: None)
        _, keep, method = said
        if keep is None and method and not any(stages_of(reduction, kind).act for kind in KINDS):
            raise UsageError(
                f"method: preset {config.preset} has no stage for {method}: name another, or keep"
            )
        schedules = {kind: before_decoder(schedule) for kind, schedule in schedules.items()}
        documents = documents_of(self.family, config)
        if documents is not None:
            documents = Documents(documents.share, before_decoder(documents.schedule))
        least = 0 if keep is not None else least_tokens(config)
        rules = Rules(schedules, least, FeatureCache(0), documents)
        media = config.media.model_dump(exclude_unset=True) | options
        return Asked(rules, validate(MediaOptions, media, "mm_processor_kwargs"))


def wish_of(kwargs: Mapping[str, object]) -> str:
    """What a request's `mm_processor_kwargs` ask for, in one form.

    Raises:
        UsageError: what there is none of, or a value that cannot be.
    """
    given = {name: value for name, value in kwargs.items() if name not in (ALONE, SETTINGS)}
    for name in given:
        if name in SAMPLING:
            raise UsageError(f"mm_processor_kwargs.{name}: frames are sampled by vLLM: give media_io_kwargs")
        if name not in KNOWN:
            raise UsageError(f"mm_processor_kwargs: there is no {name[:80]} (there are: {', '.join(KNOWN)})")
    return json.dumps(ours({"mm_processor_kwargs": given}, Bounds()), sort_keys=True)
