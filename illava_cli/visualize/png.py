"""The merge map as files: tokens by stage, attention by layer, a video's contact sheet and animation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from illava_cli.drawing import has_matplotlib
from illava_cli.errors import OutputError
from illava_cli.visualize.payload import WHERE_NAMES, Drawn, boxes
from illava_cli.visualize.pictures import Medium
from illava_cli.visualize.plot import plot_shares
from illava_cli.visualize.sheet import PAPER, heated, mask, sheet, top_of, veiled
from illava_cli.visualize.stages import kept

ROWS = 6  # views in a sheet of stages or layers; of a video they are evenly spaced
LAYERS = 6  # heat maps in a sheet
EDGE, THUMB = 256, 144  # pixels of a picture in a sheet, and in one of frames
ACROSS = 8  # pictures in a row of a contact sheet
FRAME_MS = 400  # of an animation


def write_pngs(shown: Drawn, folder: Path) -> list[Path]:
    """Draw everything into `folder`; the files that were written.

    `tokens.png` has the input beside what is left at each stage, `attention-tower.png` and
    `attention-llm.png` heat maps by layer, `frames-N.png` and `frames-N.webp` the N-th medium, a video, whole
    and at the last stage. `shares.png`, attention by part of the prompt, needs matplotlib.

    Raises:
        OutputError: one cannot be written.
    """
    canvas = Canvas(shown)
    written = [_save(canvas.tokens(), folder / "tokens.png")]
    for where in ("tower", "llm"):
        if any(m.where == where for m in shown.heat):
            written.append(_save(canvas.attention(where), folder / f"attention-{where}.png"))
    for number, medium in enumerate(shown.media):
        if medium.kind == "video":
            written.append(_save(canvas.contact_sheet(number), folder / f"frames-{number + 1}.png"))
            written.append(_animate(canvas.frames(number), folder / f"frames-{number + 1}.webp"))
    if shown.shares is not None and has_matplotlib():
        merging = [stage.layer for stage in shown.stages if stage.where == "llm"]
        plot_shares(shown.shares, merging, folder / "shares.png")
        written.append(folder / "shares.png")
    return written


class Canvas:
    """Everything that is drawn of an answer, picture by picture."""

    def __init__(self, shown: Drawn):
        self.shown = shown
        self.boxes = boxes(shown)
        self.kept = kept(shown.stages)

    def at_stage(self, medium: int, view: int, stage: int) -> Image.Image:
        """A picture with what is left of it at a stage: other cells are veiled, or hatched if in no token."""
        picture, own = self.shown.media[medium].pictures[view].image, self._cells(medium, view)
        slot = self.shown.stages[stage].tokens.slot[own]
        left = mask(picture.size, self.boxes[own][self.kept[stage][own]])
        without = mask(picture.size, self.boxes[own][slot < 0])
        covered = mask(picture.size, self.boxes[own])
        return veiled(picture, covered & ~left, without & ~left)

    def tokens(self) -> Image.Image:
        """The input, and each stage beside it."""
        stages = self.shown.stages
        rows = [
            [self.shown.media[m].pictures[v].image, *(self.at_stage(m, v, s) for s in range(1, len(stages)))]
            for m, v in self._rows()
        ]
        titles = [f"input: {stages[0].tokens.total}", *(f"{s.name}: {s.tokens.total}" for s in stages[1:])]
        return sheet([[_small(image) for image in row] for row in rows], titles, self._names())

    def attention(self, where: str) -> Image.Image:
        """Heat maps of layers of the tower or the decoder, evenly spaced."""
        maps = [m for m in self.shown.heat if m.where == where]
        chosen = [maps[i] for i in _spaced(len(maps), LAYERS)]
        tops = [top_of(m.values) for m in chosen]
        rows = []
        for medium, view in self._rows():
            picture, own = self.shown.media[medium].pictures[view].image, self._cells(medium, view)
            drawn = (
                heated(picture, self.boxes[own], m.values[own], top)
                for m, top in zip(chosen, tops, strict=True)
            )
            rows.append([_small(image) for image in (picture, *drawn)])
        titles = ["input", *(f"{WHERE_NAMES[where]}, layer {m.layer}" for m in chosen)]
        return sheet(rows, titles, self._names())

    def contact_sheet(self, medium: int) -> Image.Image:
        """The frames of a video, and under each what is left of it."""
        pictures = self.shown.media[medium].pictures
        blocks = []
        for start in range(0, len(pictures), ACROSS):
            part = range(start, min(start + ACROSS, len(pictures)))
            rows = [
                [_small(pictures[i].image, THUMB) for i in part],
                [_small(self.at_stage(medium, i, -1), THUMB) for i in part],
            ]
            blocks.append(
                sheet(rows, [pictures[i].label for i in part], ["input", self.shown.stages[-1].name])
            )
        whole = Image.new("RGB", (max(b.width for b in blocks), sum(b.height for b in blocks)), PAPER)
        top = 0
        for block in blocks:
            whole.paste(block, (0, top))
            top += block.height
        return whole

    def frames(self, medium: int) -> Iterator[Image.Image]:
        """Each frame of a video beside what is left of it."""
        for view, picture in enumerate(self.shown.media[medium].pictures):
            pair = [_small(picture.image), _small(self.at_stage(medium, view, -1))]
            yield sheet([pair], [picture.label, self.shown.stages[-1].name], [""])

    def _cells(self, medium: int, view: int) -> np.ndarray:
        cells = self.shown.cells
        return np.flatnonzero((cells.medium == medium) & (cells.view == view))

    def _rows(self) -> list[tuple[int, int]]:
        """The views of a sheet, as (medium, view)."""
        every = [(m, v) for m, medium in enumerate(self.shown.media) for v in range(len(medium.pictures))]
        return [every[i] for i in _spaced(len(every), ROWS)]

    def _names(self) -> list[str]:
        media = self.shown.media
        return [_name(media[m], v, len(media) > 1) for m, v in self._rows()]


def _name(medium: Medium, view: int, several: bool) -> str:
    label = medium.pictures[view].label
    return f"{medium.source.rsplit('/', 1)[-1]}, {label}" if several else label


def _spaced(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spaced, the first and the last among them."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist() if count else []
    )


def _small(image: Image.Image, edge: int = EDGE) -> Image.Image:
    """At the size of a sheet."""
    scale = edge / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _save(image: Image.Image, path: Path) -> Path:
    try:
        image.save(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _animate(frames: Iterator[Image.Image], path: Path) -> Path:
    first, *others = frames
    try:
        first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=80)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path
