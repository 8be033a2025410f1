"""The sessions that requests ask: each under its own settings, all on one model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import over
from illava_cli.engine.reducing import reducing
from illava_cli.engine.session import Session
from illava_cli.models.planning import stages_of
from illava_cli.models.schedule import KINDS
from illava_cli.openai.asked import Asked
from illava_cli.openai.errors import RequestError

KEPT = 64  # reductions that were asked for


class Sessions:
    """Sessions by what requests ask; threads may share it."""

    def __init__(self, session: Session):
        self.session = session
        self._kept: OrderedDict[tuple, Session] = OrderedDict()  # by reduction, the latest used last
        self._lock = threading.Lock()

    def of(self, asked: Asked) -> Session:
        """The session for a request.

        Raises:
            UsageError: settings that contradict one another, or that the model cannot run.
        """
        settings = dict(asked.settings)
        preset = settings.pop("preset", None)
        session = self._reducing(preset, asked.keep, asked.method)
        if asked.low_detail and not session.family.has_tiles:
            media = {name: value for name, value in settings["media"].items() if name != "max_tiles"}
            settings["media"] = media
        if not settings:
            return session
        base = session.config.model_dump(exclude_unset=True)
        return session.asking(validate(Config, over(base, settings), "request"))

    def _reducing(self, preset: str | None, keep: float | None, method: str | None) -> Session:
        """The one under the request's reduction; encoded media serve all."""
        key = preset, keep, method
        if key == (None, None, None):
            return self.session
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._made(*key)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _made(self, preset: str | None, keep: float | None, method: str | None) -> Session:
        session = self.session
        config = reducing(session.family, session.config, preset, keep, method)
        made = replace(session.under(config), features=session.features)
        if keep is None and method and not any(stages_of(made.reduction, kind).act for kind in KINDS):
            place = f"preset {config.preset} has no stage for {method[:80]}"
            raise RequestError(f"method: {place}: name another preset, or keep", "method")
        # who names a share means small pictures too
        return made if keep is None else replace(made, min_visual_tokens=0)


def served_name(asked: str, names: tuple[str, ...]) -> None:
    """Refuse a model that this server does not have.

    Raises:
        RequestError: it has another one.
    """
    if asked and asked not in names:
        raise RequestError(
            f"model {asked[:80]!r} is not served here: {names[0]} is",
            param="model",
            code="model_not_found",
            status=404,
        )
