"""What a configuration comes to on a loaded model: its reduction, schedules, guide and threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from illava_cli.config.presets import OVERRIDES, load_preset
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import grouped, over, parse_setting
from illava_cli.config.stages import Reduction
from illava_cli.engine.prompt import check_thinking
from illava_cli.engine.rules import Documents
from illava_cli.engine.runner import OFF, Runner
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.family import Family
from illava_cli.models.guide import Guide, checkpoint_of, find_guide, load_guide
from illava_cli.models.planning import check_guide, plan, stages_of
from illava_cli.models.schedule import KINDS, Schedule
from illava_cli.models.sizes import schedule_key

Note = Callable[[str], None]


def planned(family: Family, config: Config, on_note: Note) -> tuple[Reduction, dict[str, Schedule]]:
    """The preset's reduction for a model, and the schedule of each kind of medium.

    Raises:
        UsageError: the model cannot run it, and it was asked for by name; or it is to think, and cannot.
    """
    check_thinking(family, config.generation.thinking)
    reduction = config.reduction_for(family.schedule_key)
    try:
        schedules = {kind: plan(reduction, family.schedule_shape, kind) for kind in KINDS}
    except UsageError as error:
        overridden = not config.model_fields_set.isdisjoint(OVERRIDES)
        if config.preset != "auto" or overridden:
            raise
        on_note(f"merging is off: preset auto does not fit this model ({error})")
        return Reduction(), OFF
    if reduction.method is not None and not any(stages_of(reduction, k).act for k in KINDS):
        on_note(f"merging is off: preset {config.preset} has no stage for {reduction.method}")
    return reduction, schedules


def documents_of(family: Family, config: Config) -> Documents | None:
    """How the preset has pictures taken that neighbours predict; None: as all others."""
    share = load_preset(config.preset).predictable
    if share is None or not config.model_fields_set.isdisjoint(OVERRIDES):
        return None
    reduction = Config(preset="documents").reduction_for(family.schedule_key)
    return Documents(share, plan(reduction, family.schedule_shape, "image"))


def changed(config: Config, settings: Sequence[str]) -> Config:
    """A configuration with other `generation.*` or `media.*` settings (`name=value`).

    Raises:
        UsageError: an unknown key, a bad value, or one that needs the model loaded again.
    """
    data = config.model_dump(exclude_unset=True)
    for setting in settings:
        change = grouped(said := parse_setting(setting))
        if change.keys().isdisjoint({"generation", "media"}):
            validate(Config, said, "settings")  # an unknown key says so
            raise UsageError(
                f"{setting.partition('=')[0]} is fixed for this session: start again with "
                f"--set {setting} (here: generation.* and media.*)"
            )
        data = over(data, change)
    return validate(Config, data, "settings")


def least_tokens(config: Config) -> int:
    """Visual tokens below which the preset leaves a medium whole; toys always merge."""
    name = str(config.model.id)
    toy = name.startswith("random:") and name.endswith("-toy")
    return 0 if toy else load_preset(config.preset).min_visual_tokens


def find_guides(config: Config, on_note: Note) -> None:
    """Look for the guide's checkpoint before minutes go into a model that cannot be asked without it."""
    preset = load_preset(config.preset)
    try:
        keys = [schedule_key(config)]
    except ModelError:  # the model is not on this machine yet: any schedule may be the one
        keys = [*(preset.by_family or preset.families or ("",))]
    except UsageError:
        return  # loading says it, and so below
    try:
        stages = {stages_of(config.reduction_for(key), "image").guide for key in keys}
        for stage in stages - {None}:
            check_guide(stage)
    except UsageError:
        return
    if len(stages) == 1 and None not in stages:
        find_guide(*stages, on_note)


def guide_of(runner: Runner, schedules: Mapping[str, Schedule], on_note: Note) -> Guide | None:
    """The checkpoint that chooses frames and regions by the prompt, if the schedule has one do so."""
    stage = schedules["image"].guide
    if stage is None:
        return None
    key = checkpoint_of(stage)
    if key not in runner.guides:
        family = runner.family
        runner.guides[key] = load_guide(stage, family.device, family.model.dtype, on_note)
    return runner.guides[key]
