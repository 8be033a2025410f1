"""The sessions that requests ask: each under its own settings, all on one model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from illava_cli.config.presets import OVERRIDES, STAGES
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import over, parse_setting
from illava_cli.config.stages import Reduction
from illava_cli.engine.session import Session
from illava_cli.engine.shares import share_settings
from illava_cli.models.planning import stages_of
from illava_cli.models.schedule import KINDS
from illava_cli.openai.asked import Asked
from illava_cli.openai.errors import RequestError

KEPT = 64  # reductions that were asked for
DEFAULT = "illava"


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
        data = session.config.model_dump(exclude_unset=True)
        if preset is not None:
            data = _under(data, preset)
        if method is not None:
            data["method"] = method
        if keep is not None:
            data = self._sharing(data, keep, method)
        config = validate(Config, data, "request")
        made = replace(session.under(config), features=session.features)
        if keep is None and method and not any(stages_of(made.reduction, kind).act for kind in KINDS):
            place = f"preset {config.preset} has no stage for {method[:80]}"
            raise RequestError(f"method: {place}: name another preset, or keep", "method")
        # who names a share means small pictures too
        return made if keep is None else replace(made, min_visual_tokens=0)

    def _sharing(self, data: dict[str, Any], keep: float, method: str | None) -> dict[str, Any]:
        """Settings under which the share `keep` of the visual tokens remains."""
        if keep == 1:
            return _under(data, "off")
        key = self.session.family.schedule_key
        base = validate(Config, data, "request").reduction_for(key)
        if not any(getattr(base, stage) for stage in STAGES):  # where nothing merges, nothing has a share
            data = _under(data, "auto")
            base = validate(Config, data, "request").reduction_for(key)
        changes = share_settings(self.session.family, base, method or _method(base), keep)
        for change in changes:
            data |= parse_setting(change)
        return data


def _under(data: dict[str, Any], preset: str) -> dict[str, Any]:
    """Settings under another preset: what the server changes of its own says nothing of that one."""
    return {name: value for name, value in data.items() if name not in OVERRIDES} | {"preset": preset}


def _method(base: Reduction) -> str:
    """The method of a reduction, by its first stage."""
    stages = stages_of(base, "image")
    first = stages.vision or stages.input or stages.llm
    return base.method or (first.method if first is not None else DEFAULT)


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
