"""Where questions go: a server's address, as people write it, and what opens it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from illava_cli.errors import UsageError
from illava_cli.media.download import library, without_credentials


@dataclass(frozen=True)
class Server:
    """A server.

    Args:
        url: up to `/v1`, without user and password.
        key: sent as a bearer token.
        login: user and password of the address, sent where there is no key.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)

    @staticmethod
    def of(address: str, key: str | None = None) -> Server:
        """A server by its address, with `/v1` or without.

        Raises:
            UsageError: it is none.
        """
        shown = without_credentials(address.strip())
        if not re.match(r"https?://", shown, re.IGNORECASE):
            raise UsageError(f"--server {shown!r}: write its address with http:// or https://")
        http = library()
        try:
            url = http.URL(address.strip())
        except (http.InvalidURL, ValueError):
            url = None
        if url is None or not url.host or url.query or url.fragment:
            raise UsageError(f"--server {shown!r}: is no address of a server, such as http://localhost:8000")
        if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
            raise UsageError("--server-key: is empty, or has letters that no key has")
        login = (url.username, url.password) if url.username or url.password else None
        path = url.path.rstrip("/").removesuffix("/chat/completions")
        path = path if path.endswith("/v1") else f"{path}/v1"
        return Server(str(url.copy_with(userinfo=b"", path=path)), key, login)
