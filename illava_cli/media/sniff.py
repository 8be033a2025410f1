"""Says what a file's first bytes look like, so that a wrong file gets a message naming what it is."""

from __future__ import annotations

HEAD_BYTES = 512

_MAGIC = (
    (b"\xff\xd8\xff", "image", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "image", "a PNG image"),
    (b"GIF87a", "animation", "a GIF image"),
    (b"GIF89a", "animation", "a GIF image"),
    (b"BM", "image", "a BMP image"),
    (b"II*\0", "image", "a TIFF image"),
    (b"MM\0*", "image", "a TIFF image"),
    (b"8BPS", "image", "a Photoshop document"),
    (b"\x1a\x45\xdf\xa3", "matroska", "a Matroska/WebM video"),
    (b"FLV\x01", "video", "an FLV video"),
    (b"\x00\x00\x01\xba", "video", "an MPEG video"),
    (b"\x00\x00\x01\xb3", "video", "an MPEG video"),
    (b"OggS", "video", "an Ogg file"),
    (b"0&\xb2u\x8ef\xcf\x11", "video", "a Windows Media file"),
    (b"ID3", "audio", "an MP3 audio file"),
    (b"fLaC", "audio", "a FLAC audio file"),
    (b"%PDF", "other", "a PDF document"),
    (b"%!PS", "other", "a PostScript document"),
    (b"PK\x03\x04", "other", "a ZIP archive"),
    (b"\x1f\x8b", "other", "a gzip archive"),
    (b"version https://git-lfs", "other", "a Git LFS pointer (run `git lfs pull`)"),
)
_BRANDS = {b"avif": ("image", "an AVIF image"), b"avis": ("animation", "an AVIF image")}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), ("image", "a HEIC image"))
_BRANDS |= {b"mif1": ("image", "a HEIF image")}
HEIF = ("a HEIC image", "a HEIF image")
_RIFF = {b"WEBP": ("image", "a WebP image"), b"AVI ": ("video", "an AVI video")}
_RIFF |= {b"WAVE": ("audio", "a WAV audio file")}


def is_transport_stream(head: bytes) -> bool:
    """Whether packets of 188 bytes, or of 192 with a time before each, as cameras write them, begin here."""
    return any(head[start : start + 2 * size + 1 : size] == b"GGG" for start, size in ((0, 188), (4, 192)))


def sniff(head: bytes) -> tuple[str, str]:
    """Kind and description of the file that opens with `head` (its first `HEAD_BYTES` bytes).

    The kind is image, animation (GIF, AVIF: both an image and a clip), mp4, matroska, video, audio, other,
    or unknown with an empty description.
    """
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand == b"mif1" and b"avif" in head[16 : int.from_bytes(head[:4], "big")]:
            brand = b"avif"  # the general brand first, what it is among those after it
        if brand in _BRANDS:
            return _BRANDS[brand]
        return ("audio", "an M4A audio file") if brand == b"M4A " else ("mp4", "an MP4/MOV video")
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    for magic, kind, description in _MAGIC:
        if head.startswith(magic):
            return kind, description
    if is_transport_stream(head):
        return "video", "an MPEG transport stream"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "other", "an HTML page (give the address of the file itself, not of a page about it)"
    if b"<svg" in text and text.startswith(b"<"):
        return "other", "an SVG drawing (convert it to PNG first)"
    if head and all(byte in b"\t\n\r\f\x1b" or 32 <= byte < 127 for byte in head):
        return "other", "a text file"
    return "unknown", ""
