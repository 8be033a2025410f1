"""Downloads a medium into memory.

The client is the one that `huggingface_hub` comes with (httpx2, before 2.0 httpx; both are used alike). It
speaks HTTP, TLS, proxies, international names and compression. Which hops are taken, and what each is told,
is decided here.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from illava_cli.errors import MediaError
from illava_cli.media import deadline
from illava_cli.media.access import EVERYTHING, Access
from illava_cli.text import one_line

TIMEOUT_S = 30.0  # without a byte; the whole download has the medium's own limit
REDIRECTS = 10
ENCODINGS = ("gzip", "deflate")  # with the standard library's zlib; others need packages of their own
HEADERS = {"User-Agent": "illava-cli", "Accept": "*/*", "Accept-Encoding": ", ".join(ENCODINGS)}


def is_http(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text[:8].lower().startswith(("http://", "https://"))


def without_credentials(url: str) -> str:
    """An address without its user and password, for whatever is shown, kept or compared."""
    found = re.match(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/{1,2}", url)
    if found is None:
        return url
    start, rest = found[0], url[found.end() :]
    authority = re.match(r"[^/?#\\]*", rest)[0]
    port = authority.rpartition("]")[2].partition(":")[2]
    # a password that was not percent-encoded may hold what ends an authority
    broken = "@" not in authority and port and not port.isdecimal()
    end = rest.rfind("@") if broken else authority.rfind("@")
    return start + rest[end + 1 :]


def download(url: str, name: str, access: Access = EVERYTHING) -> bytes:
    """What a GET of `url` gives, decompressed.

    User and password in the address are sent as Basic authentication, to its own host only.

    Args:
        name: of the medium, for messages.
        access: its guard decides, at each hop, what is connected to.

    Raises:
        MediaError: one line why there is nothing to be had, or that it is over `access.max_bytes`.
        GivenUp: nobody waits for it.
    """
    http = library()
    try:
        # where hosts are judged no proxy, which would resolve names by itself; and no connection serves two
        # hops: its certificate is for one name, while its address may have many
        limits = http.Limits(max_keepalive_connections=0)
        with http.Client(
            timeout=TIMEOUT_S, headers=HEADERS, trust_env=access.allow_private, limits=limits
        ) as client:
            return _follow(http, client, url, name, access)
    except http.TimeoutException:
        raise MediaError(
            f"{name}: no answer within {TIMEOUT_S:.0f} s; try again or download it first"
        ) from None
    except (http.HTTPError, http.InvalidURL, OSError, ValueError, ImportError) as error:
        # ValueError and ImportError: a proxy or a certificate of the environment that cannot be used
        reason = without_credentials(one_line(error)) or type(error).__name__
        raise MediaError(f"{name}: download failed ({reason}); check the address and the network") from None


def library() -> ModuleType:
    """The HTTP client."""
    try:
        import httpx2 as http
    except ImportError:
        import httpx as http
    return http


def _follow(http: ModuleType, client: Any, text: str, name: str, access: Access) -> bytes:
    """The content at the end of all redirects."""
    url, seen = _parsed(http, text, name), set()
    credentials = None
    while True:
        if url.username or url.password:
            credentials = (url.username, url.password)
            # not in the address: clients and servers write addresses into logs
            url = url.copy_with(userinfo=b"")
        seen.add(str(url))
        request = _request(client, url, access)
        response = client.send(request, auth=credentials, stream=True, follow_redirects=False)
        try:
            if not response.has_redirect_location:
                return _content(http, response, name, access.max_bytes)
            target = _target(http, url, response.headers["Location"], name)
        finally:
            response.close()
        if str(target) in seen or len(seen) > REDIRECTS:
            raise MediaError(f"{name}: redirects without an end ({len(seen)} followed); check the address")
        if not _same_place(url, target):
            credentials = None
        url = target


def _parsed(http: ModuleType, text: str, name: str) -> Any:
    """The address, or one line that says nothing of the user and password in it."""
    try:
        # whatever is no ASCII is percent-encoded, the host by IDNA
        url = http.URL(text.strip())
        if not url.host:
            raise http.InvalidURL("no host")
        return url
    except (http.InvalidURL, ValueError) as error:
        known = one_line(error).partition(":")[0][:60]
        raise MediaError(f"{name}: is no valid address ({known}); check its spelling") from None


def _request(client: Any, url: Any, access: Access) -> Any:
    if access.allow_private:
        return client.build_request("GET", url)
    host = url.raw_host.decode("ascii")
    port = url.port or (443 if url.scheme == "https" else 80)
    address = access.guard(host, port)
    # to that very address, lest the name means another one a moment later; certificates are for the name
    headers = {"Host": url.netloc.decode("ascii")}
    return client.build_request(
        "GET", url.copy_with(host=address), headers=headers, extensions={"sni_hostname": host}
    )


def _target(http: ModuleType, url: Any, location: str, name: str) -> Any:
    """Where a redirect leads: http and https only."""
    try:
        target = url.join(location)
    except (http.InvalidURL, ValueError):
        raise MediaError(f"{name}: redirects to what is no address; check the address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise MediaError(f"{name}: redirects to a {target.scheme}: address, which is not followed")
    return target


def _same_place(url: Any, target: Any) -> bool:
    """Whether what one address was told may be told to the other: the same host and port, or its TLS."""
    if (url.scheme, url.host, url.port) == (target.scheme, target.host, target.port):
        return True
    upgraded = (url.scheme, url.port, target.scheme, target.port) == ("http", None, "https", None)
    return upgraded and url.host == target.host


def _content(http: ModuleType, response: Any, name: str, max_bytes: int) -> bytes:
    if not response.is_success:
        answer = f"{response.status_code} {response.reason_phrase}".strip()[:80]
        raise MediaError(f"{name}: the server answered {one_line(answer)}; check the address")
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    # one only: a few bytes, compressed twice, are a great many
    if encoding not in ("", "identity", *ENCODINGS):
        raise MediaError(f"{name}: the server sent it as {encoding[:40]!r}, which was not asked for")
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise deadline.too_long(name, max_bytes)
    try:
        return deadline.gathered(response.iter_bytes(), name, max_bytes)
    except http.DecodingError:
        raise MediaError(f"{name}: is not the {encoding} that the server says; try again") from None
    except (http.RemoteProtocolError, http.ReadError):
        of = f" of {declared}" if declared.isdecimal() else ""
        got = response.num_bytes_downloaded
        raise MediaError(f"{name}: the download broke off at {got}{of} bytes; try again") from None
