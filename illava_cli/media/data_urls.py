"""`data:` URLs (RFC 2397): media that stand in the text itself, as tools in fact write them."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from illava_cli.errors import MediaError
from illava_cli.media.deadline import MAX_BYTES, too_long
from illava_cli.text import one_line

_BASE64 = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\f\v"
MAX_PICTURES = 10_000  # of a clip that is written as such


def data_name(url: str) -> str:
    """How a data URL is called in messages and records: not by its megabytes."""
    head = one_line(url[:80].partition(",")[0])
    return f"<{head}>"


def media_type(url: str) -> str:
    """`image/png` and the like, in lower case; empty where the URL does not say."""
    return url.partition(":")[2][:80].partition(",")[0].partition(";")[0].strip().lower()


def contents(url: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes within a data URL.

    Base64 may be wrapped, percent-encoded, without padding, and in the alphabet for URLs.

    Raises:
        MediaError: it is no data URL, or no base64, or more than `max_bytes`.
    """
    name = data_name(url)
    head, comma, data = url.partition(",")
    if not comma:
        raise MediaError(
            f"{name}: is no data URL; write data:image/jpeg;base64,..., or ./ before a file's name"
        )
    packed = _BASE64.search(head) is not None
    if not packed:
        data = data.partition("#")[0]  # a fragment, as of any URL
    raw = data.encode("utf-8", errors="surrogatepass")
    if len(raw) > 4 * max_bytes:  # percent-encoded bytes take three characters each
        raise too_long(name, max_bytes)
    raw = unquote_to_bytes(raw)
    if packed:
        raw = _from_base64(raw, name)
    if len(raw) > max_bytes:
        raise too_long(name, max_bytes)
    return raw


def pictures(url: str, max_bytes: int = MAX_BYTES) -> list[bytes]:
    """The frames of a clip that is written as `data:video/jpeg;base64,` and JPEGs with commas between.

    So the clients of vLLM send frames that they have chosen. Empty for any other URL.

    Raises:
        MediaError: one of them is no base64 or empty, or they are too many.
    """
    head, _, data = url.partition(",")
    if media_type(url) != "video/jpeg" or not _BASE64.search(head):
        return []
    name = data_name(url)
    if data.count(",") >= MAX_PICTURES:
        raise MediaError(f"{name}: holds over {MAX_PICTURES} frames; send fewer, or a video")
    if len(data) > 4 * max_bytes:
        raise too_long(name, max_bytes)
    found = [contents(f"{head},{one}", max_bytes) for one in data.split(",")]
    if not all(found):
        raise MediaError(f"{name}: a frame in it is empty; leave it out")
    if sum(map(len, found)) > max_bytes:
        raise too_long(name, max_bytes)
    return found


def _from_base64(raw: bytes, name: str) -> bytes:
    text = raw.translate(_URL_SAFE, _BLANKS).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise MediaError(f"{name}: is not valid base64; encode the file again") from None
