"""Where a server listens."""

from __future__ import annotations

import socket

from illava_cli.errors import UsageError

BACKLOG = 1024


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; it is held before a model is loaded for it.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        # a server that was killed leaves connections behind that would keep the port for a minute
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # else another one may still have it; who comes early waits
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen at {host} port {port} ({reason}): choose another --port") from None
