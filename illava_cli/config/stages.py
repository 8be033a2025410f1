"""A reduction: its stages from the pixels to the decoder, whole ones, and what a preset file holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from illava_cli.config.values import Checkpoint, Count, Layers, Levels, Share, Strict


class GuideStage(Strict):
    """What the tower is shown: the frames and the region that a second checkpoint finds by the prompt."""

    method: str = Field(default="clip-crop", description="how it is found")
    model: Checkpoint | None = Field(
        default=None, description="hub id or directory of a CLIP or CLIPSeg; default: OpenAI's ViT-L, CIDAS'"
    )
    keep: Share = Field(
        default=0.5,
        description="share of what there is to see: of an image's area, of a video's area times its frames",
    )
    roi: Share = Field(
        default=0.8, description="free-video-llm: share of a frame's area, the rest of keep is frames"
    )


class PixelsStage(Strict):
    """Patches, or groups that merge as one, whose pixels their neighbours tell do not enter the tower."""

    tau: Levels = Field(
        default=0, description="largest difference from what is predicted, of 255; 0 = exactly equal"
    )
    every: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="of what is predicted, each so many-th of each so many-th row enters all the same; "
        "absent: none",
    )
    keep: Share | None = Field(
        default=None,
        description="the most that enters: of the whole picture or video that share, what `every` lets in "
        "before what neighbours tell least; absent: all that is not predicted",
    )


class FramesStage(Strict):
    """Whole frames of a video (or temporal patches) leave, or merge with a neighbour that is like them."""

    method: str = Field(default="alike", description="which frames merge")
    layers: list[Annotated[int, Field(ge=-1)]] = Field(
        default=[], description="tower layers before which frames merge, counted from 0; -1: in the pixels"
    )
    keep: Share | list[Share] | None = Field(
        default=None, description="fraction of the frames kept, per layer"
    )
    still: Levels | None = Field(
        default=None,
        description="frames in a row that nowhere differ more from their first stand still, and do not all "
        "enter the tower: mean difference within a patch or group, of 255",
    )
    still_frames: Annotated[int, Field(ge=1)] = Field(
        default=1, description="how many frames in a row enter that stand still (of a Qwen pairs)"
    )


class VisionStage(Strict):
    """Merging inside the vision tower: after attention, in each of `layers` (counted from 0)."""

    method: str = Field(default="illava", description="what leaves, and where it goes")
    layers: Layers = Field(default=[], description="tower layers that merge, counted from 0")
    r: Count | list[Count] | None = Field(
        default=None, description="tokens removed per layer and tile; one value or one per layer"
    )
    drop: Share | list[Share] | None = Field(
        default=None, description="fraction of the groups removed per layer (all but LLaVA)"
    )
    keep: Share | list[Share] | None = Field(
        default=None,
        description="fraction of the groups kept per layer; unlike drop rounded over all (all but LLaVA)",
    )
    proportional: bool = Field(
        default=False,
        description="attention counts a merged token by its size (method bipartite and the like)",
    )


class InputStage(Strict):
    """Reduction between projector and LLM: of each tile's or frame's tokens, or of a whole video's."""

    method: str = Field(default="illava", description="what leaves, and where it goes")
    keep: Share | None = Field(
        default=None,
        description="fraction kept of each tile or frame, or of the whole video, as the method has it; "
        "prumerge decides by itself without it",
    )


class LLMStage(Strict):
    """Merging inside the decoder: before each of `layers`, by the attention of the layer before it."""

    method: str = Field(default="illava", description="what leaves, and where it goes")
    layers: Layers = Field(default=[], description="decoder layers before which tokens merge, from 1")
    keep: Share | list[Share] | None = Field(
        default=None, description="fraction of the visual tokens kept per layer, e.g. 0.7 or 253/361"
    )
    queries: Literal["last", "visual", "visual-literal"] | None = Field(
        default=None, description="whose attention counts; default: by variant"
    )
    scope: Literal["medium", "all"] = Field(
        default="medium", description="each image or video ranks its own tokens, or all together"
    )


class VisionByMedium(Strict):
    """A tower schedule for each kind of medium."""

    image: VisionStage | None = None
    video: VisionStage | None = None


class InputByMedium(Strict):
    """A reduction between projector and LLM for each kind of medium."""

    image: InputStage | None = None
    video: InputStage | None = None


class PixelsByMedium(Strict):
    """Which patches enter the tower, for each kind of medium."""

    image: PixelsStage | None = None
    video: PixelsStage | None = None


class LLMByMedium(Strict):
    """A decoder schedule for each kind of medium; a session takes one, images going first."""

    image: LLMStage | None = None
    video: LLMStage | None = None


def _one_or_each(stage: Any) -> str:
    keys = stage if isinstance(stage, dict) else getattr(stage, "model_fields_set", ())
    return "each" if not {"image", "video"}.isdisjoint(keys) else "one"


VisionSchedule = Annotated[
    Annotated[VisionStage, Tag("one")] | Annotated[VisionByMedium, Tag("each")], Discriminator(_one_or_each)
]


InputSchedule = Annotated[
    Annotated[InputStage, Tag("one")] | Annotated[InputByMedium, Tag("each")], Discriminator(_one_or_each)
]


PixelsSchedule = Annotated[
    Annotated[PixelsStage, Tag("one")] | Annotated[PixelsByMedium, Tag("each")], Discriminator(_one_or_each)
]


LLMSchedule = Annotated[
    Annotated[LLMStage, Tag("one")] | Annotated[LLMByMedium, Tag("each")], Discriminator(_one_or_each)
]


BY_MEDIUM = (PixelsByMedium, VisionByMedium, InputByMedium, LLMByMedium)
Variant = Literal["paper", "authors"]
Layout = Literal["grid", "faithful"]


class ReductionSettings(Strict):
    """What makes a reduction, each of it optional: a configuration changes some of its preset's."""

    variant: Variant | None = Field(
        default=None,
        description="authors: as their code, which ranks row newlines too and counts a token's own attention",
    )
    layout: Layout | None = Field(
        default=None, description="faithful: survivors keep row and column; grid: they form a smaller square"
    )
    positions: Literal["packed", "original"] | None = Field(
        default=None,
        description="original: survivors keep the position of their place; packed: numbered through",
    )
    method: str | None = Field(
        default=None, description="one method for the stages that have a meaning for it; others do nothing"
    )
    guide: GuideStage | None = None
    pixels: PixelsSchedule | None = None
    frames: FramesStage | None = None
    vision: VisionSchedule | None = None
    input: InputSchedule | None = None
    llm: LLMSchedule | None = None


class Reduction(ReductionSettings):
    """A whole schedule: what a preset holds, and what remains after the overrides."""

    variant: Variant = "paper"
    layout: Layout = "grid"
    description: str = ""


class Preset(Strict):
    """A preset file: one reduction, one for each family (`auto`), or one with exceptions for families."""

    description: str = Field(default="", description="a line for people")
    min_visual_tokens: Count = Field(
        default=0, description="media of fewer tower tokens are not merged: it would not pay"
    )
    families: tuple[str, ...] | None = Field(
        default=None, description="schedule keys of the models it is for, and no other; absent: any model"
    )
    reduction: Reduction | None = None
    by_family: dict[str, Reduction] | None = Field(
        default=None, description="a schedule for each family, by its schedule key"
    )
    predictable: Share | None = Field(
        default=None,
        description="pictures of which neighbours predict at least this share are taken as preset documents "
        "takes them",
    )

    @model_validator(mode="after")
    def _something(self) -> Preset:
        if not self.by_family and self.reduction is None:
            raise ValueError("by_family holds no schedule: name a family and its schedule")
        return self
