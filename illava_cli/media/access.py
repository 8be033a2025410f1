"""Which media are got for whom: all for the user of this machine, little for strangers who ask a server.

What a stranger names may lead to where only this machine can go: a service on it, a neighbour in its network,
the address at which a cloud hands out passwords, a file. So a host is resolved once, all of its addresses
must be public, and one of those is connected to: the name may mean another one a moment later. No refusal
says whether there is something behind what it refuses.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

from illava_cli.errors import MediaError, UsageError
from illava_cli.media.deadline import MAX_BYTES, gathered, too_long
from illava_cli.text import one_line

# IANA's registries of what is not reached from everywhere, and what is not though it looks so
PRIVATE_4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # a carrier's own
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's metadata
            "169.254.0.0/16",  # this link; metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocols; metadata of Oracle's cloud
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # measuring
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # groups
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
PUBLIC_6 = ip_network("2000::/3")  # but for these
PRIVATE_6 = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # protocols: Teredo and others that hold an IPv4 address
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: holds an IPv4 address
            "3fff::/20",
        ),
    )
)
NAT64 = ip_network("64:ff9b::/96")  # where a network without IPv4 reaches an IPv4 address
ISATAP = (0x00005EFE, 0x02005EFE)  # in the middle of an address that ends with an IPv4 address
SHOWN = 200  # characters of what a stranger wrote
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)", re.IGNORECASE)  # ends in a number: no name does


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one that the whole internet can reach."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if found in NAT64:
            return is_public(str(inner))
        if found not in PUBLIC_6 or any(found in network for network in PRIVATE_6):
            return False
        return (int(found) >> 32) & 0xFFFFFFFF not in ISATAP or is_public(str(inner))
    return not any(found in network for network in PRIVATE_4)


def is_ours(address: str) -> bool:
    """Whether an address is one of this very machine, as a public one may be. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # chooses the way, and so the address that it would go from
            return probe.getsockname()[0] == address
    except OSError:  # no way there
        return False


def addresses(host: str, port: int) -> list[str]:
    """All addresses of a host, the one to try first at the front; none where it cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):  # ValueError: what no name can be
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def host_and_port(text: str) -> tuple[str, int | None]:
    """`host`, `host:port`, an address of either kind, as something that compares.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(
        r"\[([^\]]*)\](?::(\d+))?|([^:/\s*@\[\]]+)(?::(\d+))?|([0-9A-Fa-f:.]+)", text.strip()
    )
    if found is None:
        raise ValueError(text)
    literal, literal_port, name, name_port, bare = found.groups()
    port = literal_port or name_port
    if literal is not None or bare is not None:
        return str(IPv6Address(literal if literal is not None else bare)), int(port) if port else None
    return _canonical(name), int(port) if port else None


def _canonical(host: str) -> str:
    host = host.strip().lower().rstrip(".")
    try:
        return str(ip_address(host))
    except ValueError:
        with suppress(UnicodeError):  # what no name can be is no name of ours
            return host.encode("idna").decode("ascii")
        return host


@dataclass(frozen=True)
class Access:
    """What is got of the media that somebody names. What is given nothing is what a stranger may.

    Args:
        kinds: of sources that are taken, as `sources.kind_of` calls them.
        allow_hosts: `host` or `host:port` that may be at an address which is not public.
        allow_private: all hosts may; then names are resolved by whoever connects, a proxy perhaps.
        roots: folders whose files, and those in folders within, `file:` addresses may name; None: all files.
        max_bytes: that one medium may have, downloaded, in a data URL, or in a file below `roots`.

    Raises:
        UsageError: one of `allow_hosts` is none.
    """

    kinds: frozenset[str] = frozenset({"http", "data", "file"})
    allow_hosts: tuple[str, ...] = ()
    allow_private: bool = False
    roots: tuple[str, ...] | None = ()
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for entry in self.allow_hosts:
            try:
                host_and_port(entry)
            except ValueError:
                raise UsageError(
                    f"{one_line(entry)!r} is no host: write a name or an address, with or without :port"
                ) from None

    def check(self, kind: str, name: str) -> None:
        """Raises `MediaError` for a source of a kind that is not taken, `name` in messages."""
        if kind not in self.kinds:
            raise MediaError(
                f"{shown(name)}: is no address of a picture or a clip; write https://..., data:... or file:///..."
            )

    def guard(self, host: str, port: int) -> str:
        """The address to connect to: the host's first, where all are public or it is one of `allow_hosts`.

        Args:
            host: a name in ASCII, or an address without brackets.

        Raises:
            MediaError: it may not be connected to, or does not exist; which of the two is not said.
        """
        if self.allow_private:
            return host
        known = _canonical(host)
        # a notation that only some resolvers know for an IPv4 address: whoever means well writes it plainly
        odd = _NUMERIC.fullmatch(known) and not _is_address(known)
        found = [] if odd or "%" in known or not known else addresses(known, port)
        public = all(is_public(address) and not is_ours(address) for address in found)
        if not found or not (public or self._allows(known, port)):
            raise MediaError(
                f"{shown(host)}: is no host that media are fetched from; it takes one that the whole "
                "internet reaches, or one of --allow-hosts"
            )
        return found[0]

    def _allows(self, host: str, port: int) -> bool:
        entries = map(host_and_port, self.allow_hosts)
        return any(host == name and only in (None, port) for name, only in entries)

    def read(self, path: str, name: str) -> bytes:
        """The content of a file below one of `roots`, once links and `..` are followed.

        It is read here, from the very file that was judged: between two openings a name may change hands.

        Raises:
            MediaError: it is too large, or there is none, or none that may be read: which of these two is not
                said.
        """
        refused = MediaError(
            f"{shown(name)}: is no file that this server may read; it reads those in --media-root"
        )
        try:
            with open(self._opened(path), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise refused
                if status.st_size > self.max_bytes:
                    raise too_long(name, self.max_bytes)
                return gathered(iter(lambda: file.read(2**20), b""), name, self.max_bytes)
        except (OSError, ValueError):  # ValueError: no path has a NUL
            raise refused from None

    def _opened(self, path: str) -> int:
        real = Path(os.path.realpath(path))
        for root in map(os.path.realpath, self.roots if os.path.isabs(path) else ()):
            if real != Path(root) and real.is_relative_to(root):
                return _open_below(root, real.relative_to(root).parts)
        raise FileNotFoundError(path)


EVERYTHING = Access(
    kinds=frozenset({"stdin", "http", "data", "file", "path"}), allow_private=True, roots=None
)
"""For what the user of this machine names."""


def shown(name: str) -> str:
    """A name in a message to a stranger: not by the megabyte."""
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}..."


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _open_below(root: str, parts: tuple[str, ...]) -> int:
    """Opens a file without following one link on the way: there were none when the path was resolved."""
    if os.open not in os.supports_dir_fd:
        return os.open(os.path.join(root, *parts), os.O_RDONLY)
    walk = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    folder = os.open(root, walk)
    try:
        for part in parts[:-1]:
            inner = os.open(part, walk | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # a pipe that nobody writes to must not be waited for
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
