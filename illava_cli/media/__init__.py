"""Images and videos in, RGB pixels out: what the rest of the package needs to know about media."""

from illava_cli.media.access import EVERYTHING, Access
from illava_cli.media.deadline import within
from illava_cli.media.image import ImageMedium, read_image
from illava_cli.media.sampling import check_sampling, frame_indices
from illava_cli.media.sources import Located, expand_sources, locate, name_of
from illava_cli.media.video import VideoMedium, read_video

__all__ = [
    "EVERYTHING",
    "Access",
    "ImageMedium",
    "Located",
    "VideoMedium",
    "check_sampling",
    "expand_sources",
    "frame_indices",
    "locate",
    "name_of",
    "read_image",
    "read_video",
    "within",
]
