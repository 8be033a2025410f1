"""Plans of experiments (`configs/experiments/`): the variants of a table, for each family that can run it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from illava_cli.config.places import shipped
from illava_cli.config.reading import read_yaml, validate
from illava_cli.config.values import Strict
from illava_cli.errors import UsageError
from illava_cli.text import near_miss


class Plan(Strict):
    """What a plan file holds: `variants` for `illava eval`, `methods` and `keep` for `illava compare`."""

    description: str = ""
    models: list[str] = Field(default=[], description="for illava compare, where no --model is given")
    preset: str | None = Field(default=None, description="whose layers, layout and positions")
    methods: list[str] = Field(default=[], description="for illava compare")
    keep: list[Annotated[str, BeforeValidator(str)]] = Field(
        default=[], description="shares of visual tokens that remain, e.g. 253/729"
    )
    variants: dict[str, dict[str, str]] = Field(
        default={}, description="by family: name and settings, as of --variant"
    )

    def named_variants(self, family: str, source: str) -> list[str]:
        """The plan's variants as `--variant` takes them.

        Args:
            family: the schedule key of a model, such as `llava_onevision`.

        Raises:
            UsageError: it has none for this family.
        """
        if not self.variants:
            raise UsageError(f"--plan {source}: it compares methods: use illava compare")
        if family not in self.variants:
            known = ", ".join(self.variants)
            raise UsageError(f"--plan {source} has no variants for {family} (it has: {known})")
        return [f"{name}: {settings}" for name, settings in self.variants[family].items()]


def load_plan(name: str) -> Plan:
    """A shipped plan by name, or a YAML file by path.

    Raises:
        UsageError: there is none, or it says what no plan says.
    """
    files = shipped("experiments")
    path = files.get(name) or Path(name)
    if name not in files and path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"unknown plan {name!r}{near_miss(name, list(files))} (there are: {', '.join(files)})"
        )
    return validate(Plan, read_yaml(path), f"plan {name}")
