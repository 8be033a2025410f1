"""A sheet of plain paper with boxes and crisp text on it: what it holds, and how it is drawn.

The font is Pillow's own (Aileron), so that nothing has to be installed: Pillow 11.1 and 13.0 draw the same
pixels. Another FreeType may shade the edge of a letter otherwise; what a sheet says, and where, does not hang
on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont, features

from illava_cli.errors import UsageError
from illava_cli.evals.world.scene import EDGE

SIDE = 2 * EDGE  # 2x2 tiles of the model `tiny`
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Text:
    """One line of text. `x` is where it begins ("l"), where its middle is ("m") or its end ("r")."""

    words: str
    x: int
    baseline: int
    size: int
    ink: Colour
    anchor: str = "l"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of its ink."""
        left, top, right, bottom = font(self.size).getbbox(self.words, anchor=self.anchor + "s")
        return self.x + left, self.baseline + top, self.x + right, self.baseline + bottom


@dataclass(frozen=True)
class Box:
    """A filled rectangle, right and bottom excluded; a rule is one that is a pixel thin."""

    left: int
    top: int
    right: int
    bottom: int
    fill: Colour
    edge: Colour | None = None


@dataclass(frozen=True)
class Sheet:
    """A page, or what is on a screen; `content` is what may be asked about."""

    paper: Colour
    boxes: tuple[Box, ...]
    texts: tuple[Text, ...]
    content: object
    width: int = SIDE
    height: int = SIDE


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font.

    Raises:
        UsageError: Pillow was built without FreeType.
    """
    if not features.check("freetype2"):
        raise UsageError("documents need a Pillow with FreeType to write text: pip install pillow")
    return ImageFont.load_default(size)


def print_sheet(sheet: Sheet) -> Image.Image:
    """The sheet as an RGB image, a pixel for each of its own."""
    image = Image.new("RGB", (sheet.width, sheet.height), sheet.paper)
    pen = ImageDraw.Draw(image)
    for box in sheet.boxes:
        pen.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), box.fill, box.edge)
    for text in sheet.texts:
        pen.text((text.x, text.baseline), text.words, text.ink, font(text.size), text.anchor + "s")
    return image
