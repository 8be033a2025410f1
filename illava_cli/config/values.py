"""What all groups of settings are made of: models that refuse unknown keys, and kinds of values."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from illava_cli.config.places import is_hub_id, local_path


class Strict(BaseModel):
    """Unknown keys are errors; instances are values and do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse true and false where a number is wanted: they would count as 1 and 0."""
        wanted = cls.model_fields[field.field_name].annotation
        values = value if isinstance(value, list | tuple) else [value]
        if get_origin(wanted) is dict and isinstance(value, dict):
            values = [*value, *value.values()]
        # `preset: off` is a name, which YAML reads as false
        if wanted not in (bool, str) and any(isinstance(v, bool) for v in values):
            said = next(str(v).lower() for v in values if isinstance(v, bool))
            raise ValueError(f"must not be {said} (in YAML, yes, no, on and off mean true and false)")
        return value


def _fraction(value: Any) -> Any:
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{value!r} is not a fraction such as 253/361") from None
    return value


def off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


def _checkpoint(value: str) -> str:
    path = local_path(value)
    if not (path is not None and path.is_dir()) and not is_hub_id(value):
        raise ValueError(f"{value!r} is neither a checkpoint directory nor a hub id")
    return value


PresetName = Annotated[str, BeforeValidator(off)]
Share = Annotated[float, BeforeValidator(_fraction), Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Layers = list[Count]
Levels = Annotated[float, Field(ge=0.0, le=255.0)]  # of a colour
Checkpoint = Annotated[str, AfterValidator(_checkpoint)]
