"""What a request asks of the reduction, as settings: another preset, share or method than the session's."""

from __future__ import annotations

from typing import Any

from illava_cli.config.presets import OVERRIDES, STAGES
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import parse_setting
from illava_cli.engine.shares import share_settings
from illava_cli.models.family import Family


def reducing(
    family: Family, config: Config, preset: str | None, keep: float | None, method: str | None
) -> Config:
    """The configuration under which a request is answered.

    Args:
        keep: the share of the visual tokens that remains.

    Raises:
        UsageError: a method that there is none of, or settings that contradict one another.
    """
    data = config.model_dump(exclude_unset=True)
    if preset is not None:
        data = _under(data, preset)
    if method is not None:
        data["method"] = method
    if keep is not None:
        data = _sharing(family, data, keep, method)
    return validate(Config, data, "request")


def _sharing(family: Family, data: dict[str, Any], keep: float, method: str | None) -> dict[str, Any]:
    """Settings under which the share `keep` of the visual tokens remains."""
    if keep == 1:
        return _under(data, "off")
    key = family.schedule_key
    base = validate(Config, data, "request").reduction_for(key)
    if not any(getattr(base, stage) for stage in STAGES):  # where nothing merges, nothing has a share
        data = _under(data, "auto")
        base = validate(Config, data, "request").reduction_for(key)
    for change in share_settings(family, base, method or base.method, keep):
        data |= parse_setting(change)
    return data


def _under(data: dict[str, Any], preset: str) -> dict[str, Any]:
    """Settings under another preset: what is changed of its own says nothing of that one."""
    return {name: value for name, value in data.items() if name not in OVERRIDES} | {"preset": preset}
