"""API keys: several, from the command line and a file, compared in constant time and never shown."""

from __future__ import annotations

import hmac
import logging
import os
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from illava_cli.errors import UsageError
from illava_cli.text import decoded, lines

logger = logging.getLogger("illava")


class Keys:
    """The keys that open a server; none opens it to all. Only their digests are kept."""

    def __init__(self, keys: Iterable[str] = ()):
        """
        Raises:
            UsageError: one could not be sent in a header; it is not named.
        """
        keys = tuple(keys)
        if not all(key and all("!" <= letter <= "~" for letter in key) for key in keys):
            raise UsageError("an API key is empty or holds blanks or letters beyond ASCII; make another one")
        self._digests = tuple(sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<{len(self._digests)} keys>"

    def opens(self, given: bytes) -> bool:
        """Whether it is one of the keys. How long that takes says nothing of them."""
        digest = sha256(given).digest()
        found = False
        for known in self._digests:  # all of them, whichever it is
            found |= hmac.compare_digest(digest, known)
        return found


def read_keys(path: str | Path) -> list[str]:
    """The keys in a file: one a line; `#` begins a comment's line. Warns where others can read it.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: the keys cannot be read ({reason}); check the path") from None
    found = [line.strip() for line in lines(decoded(data, str(path)))]
    keys = [line for line in found if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"{path}: holds no key; write one a line")
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("%s: others may read the keys in it; chmod 600 keeps them out", path)
    return keys
