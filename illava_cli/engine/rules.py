"""What a session does to the media of a question: what of each the tower is shown, and by which schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from illava_cli.engine.features import FeatureCache
from illava_cli.models.entering import admitted, predictable, sampled, unpredicted
from illava_cli.models.forms import Form
from illava_cli.models.media import Features, Pixels
from illava_cli.models.schedule import Schedule

# of a reduction: what decides the features of a medium
BEFORE_DECODER = {"variant", "layout", "method", "pixels", "frames", "vision", "input"}


@dataclass(frozen=True)
class Documents:
    """How pictures are taken of which neighbours predict at least this `share`."""

    share: float
    schedule: Schedule


@dataclass(frozen=True)
class Rules:
    """What is done to media.

    Args:
        schedules: by kind of medium; empty where merging is off.
        min_visual_tokens: media of fewer are left whole.
        features: what was encoded before, and where it is kept.
        documents: None: pictures are all alike.
        settings: what decides the features of a medium, beside how it is read.
    """

    schedules: Mapping[str, Schedule]
    min_visual_tokens: int
    features: FeatureCache
    documents: Documents | None = None
    settings: str = ""

    def admitted(self, pixels: Pixels) -> Pixels:
        """A medium with what of it the tower is shown."""
        if not self.schedules or self.few(pixels.form):
            return pixels
        schedule = self.schedules[pixels.kind]
        if self.documents is not None and pixels.kind == "image" and schedule.pixels is None:
            stage = self.documents.schedule.pixels
            entered = unpredicted(pixels, pixels.shown, stage.tau)
            if predictable(pixels, entered) >= self.documents.share:
                return replace(pixels, entered=entered | sampled(pixels, stage.every), document=True)
        return admitted(pixels, schedule)

    def schedule(self, pixels: Pixels) -> Schedule:
        """What is done to a medium."""
        if not self.schedules or self.few(pixels.form):
            return Schedule()
        return self.documents.schedule if pixels.document else self.schedules[pixels.kind]

    def few(self, form: Form) -> bool:
        """Whether a medium has too few tokens for merging to pay."""
        return form.segments * form.tokens < self.min_visual_tokens

    def fixed(self, medium: Pixels | Features) -> bool:
        """Whether nothing of a medium merges in the decoder, though others may."""
        return bool(self.schedules) and (medium.document or self.few(medium.form))

    def notes(self, media: Sequence[Features]) -> list[str]:
        """What a record says of how they were taken."""
        if not self.schedules:
            return ["merging was off"] if media else []
        notes = []
        if any(self.few(one.form) for one in media):
            notes.append(f"media of fewer than {self.min_visual_tokens} visual tokens were not merged")
        for one in media:
            if one.document:
                whole = one.patches + one.left_out
                notes.append(
                    f"a picture was taken as a document: {one.left_out} of its {whole} patches, which "
                    "neighbours predict, were left out"
                )
        return notes
