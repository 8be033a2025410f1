"""Where questions go: a server's address, as people write it, and what opens it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from illava_cli.errors import UsageError
from illava_cli.media.download import library, without_credentials

HERE = ("127.0.0.1", "::1", "localhost")


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

    def connecting(self) -> dict[str, Any]:
        """What an HTTP client of it is made with: what opens it, and no proxy before this machine."""
        host = library().URL(self.url).host
        return {
            "headers": {"Authorization": f"Bearer {self.key}"} if self.key else {},
            "auth": None if self.key else self.login,
            "mounts": {f"all://{f'[{host}]' if ':' in host else host}": None} if host in HERE else {},
        }

    def only(self, models: Sequence[str]) -> str:
        """The name of the one model that it has.

        Raises:
            UsageError: there is not one.
        """
        if len(models) == 1:
            return models[0]
        names = ", ".join(models[:5]) + (", ..." if len(models) > 5 else "")
        some = f"has {len(models)}: {names}" if models else "names none"
        raise UsageError(f"{self.url} {some}: name a model with --server-model")
