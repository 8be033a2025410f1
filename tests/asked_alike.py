"""What a session is asked, as the reference takes it: the same token ids and pixels, the same schedule."""

from dataclasses import replace

from illava_cli.engine import prompt as prompts
from illava_cli.engine.session import Request
from illava_cli.models.families.internvl import Mosaic
from illava_cli.models.families.pooled import Frames
from illava_cli.models.families.qwen2_vl import PatchGrid
from illava_cli.models.families.tiled import Square, Tiles
from illava_cli.models.planning import stages_of
from tests.reference import Medium, Schedule


def markers(family, images: int = 0, videos: int = 0) -> dict[str, list[str]]:
    """So many media of which nothing is known, as they stand in a prompt."""
    counts = {"image": images, "video": videos}
    return {kind: [marker] * counts[kind] for kind, marker in family.markers.items()}


def schedule_of(session, **changes) -> Schedule:
    reduction = session.reduction
    stages = stages_of(reduction, "image")
    stage, llm, entering = stages.vision, stages.llm, stages.input
    tower, decoder = {}, {}
    if llm is not None:
        decoder = {
            "llm": dict(zip(llm.layers, llm.keep, strict=True)),
            "queries": llm.queries or ("last" if reduction.variant == "authors" else "visual-literal"),
            "scope": llm.scope,
        }
    if stage is not None:
        budgets = stage.r if stage.r is not None else stage.drop
        budgets = budgets if isinstance(budgets, list) else [budgets] * len(stage.layers)
        tower = dict(zip(stage.layers, budgets, strict=True))
    positions = reduction.positions or ("packed" if reduction.layout == "grid" else "original")
    schedule = Schedule(
        variant=reduction.variant,
        layout=reduction.layout,
        positions=positions,
        vision=tower,
        **decoder,
        method=reduction.method or "illava",
        input=entering and (entering.method, entering.keep),
        proportional=stage is not None and stage.proportional,
    )
    return replace(schedule, **changes)


def pieces_of(session, request: Request, later: bool = False, last: list[int] = ()) -> list:
    """The request as the reference takes it: the session's own pixels and token ids."""
    family = session.family
    session.features.clear()
    prepared = session.prepare(request)
    user = prompts.user_message(family, request.prompt, *request.counts)
    markers = prompts.markers_of(family, prepared.slots)
    if later:
        parts = prompts.later_turn(family, user, last[-1] if last else None, markers)
    else:
        parts = prompts.first_turn(family, user, None, markers)
    shown = {slot: one.pixels for slot, one in prepared.slots.items()}
    return [list(p) if isinstance(p, list) else _medium(family, shown[p.medium], p) for p in parts]


def _medium(family, pixels, slot) -> Medium:
    """A medium, or the part of it that `slot` places."""
    apart = pixels.form.apart
    form = pixels.form.part() if apart else pixels.form
    segments = 1 if apart else pixels.segments
    values = pixels.pixel_values(slot.part * segments, (slot.part + 1) * segments)
    if isinstance(form, Mosaic):
        run = slot.index if pixels.kind == "video" else None
        return Medium(pixels.kind, values, run=run)
    if isinstance(form, PatchGrid):
        run = slot.index if form.apart else None
        return Medium(pixels.kind, values, grid_thw=form.grid, run=run)
    kind = {Tiles: "anyres", Square: "square", Frames: "video"}[type(form)]
    return Medium(kind, values, size=form.size, pinpoints=getattr(form, "pinpoints", None))
