"""Media that hostile clients send, as a table, with a pattern of the error that must come of each.

They are for a server with these limits and `scene(...).access`; `inner` must never be asked.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from illava_cli.media import Access
from tests.media.server import Site, serving
from tests.media_files import write_clip
from tests.serve.bombs import (
    bmp,
    chunk,
    clip_with,
    cut,
    data_url,
    flat_png,
    gif,
    jpeg,
    packed,
    png,
    tiff,
    webp,
)

MAX_BYTES = 2 * 2**20  # of one medium
MEMORY_MB = 384  # of a reader
JOB_S = 8.0  # of a job


@dataclass(frozen=True)
class Scene:
    """Where media lead: `site` may be asked, `inner` may not; of files only those in `root` are open."""

    site: Site
    inner: Site
    root: Path

    @property
    def access(self) -> Access:
        """What the server's owner allows."""
        return Access(allow_hosts=(self.site.host,), roots=(str(self.root),), max_bytes=MAX_BYTES)


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """The scene, until the end of the block."""
    root = folder / "root"
    root.mkdir()
    picture = packed(Image.new("RGB", (8, 8)), "PNG")
    for place in (root / "a.png", folder / "secret.png"):
        place.write_bytes(picture)
    (root / "link.png").symlink_to("../secret.png")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe.mp4")
    write_clip(folder / "secret.mp4", frames=4)
    write_clip(root / "clip.mp4", frames=24)
    with serving() as site, serving() as inner:
        inner.otherwise = lambda request: request.send_error(200)
        inner.gives("/a.png", picture)
        site.gives("/a.png", picture)
        yield Scene(site, inner, root)


@dataclass(frozen=True)
class Medium:
    """A medium of a request, and a pattern that its error has."""

    name: str
    source: Callable[[Scene], str]
    words: str
    kind: str = "image"


HOST = "is no host that media are fetched from"
FILE = "is no file that this server may read"
KIND = "is no address of a picture or a clip"
ADDRESS = "is no valid address|is no host"


def at(address: str) -> Callable[[Scene], str]:
    """A service of this machine at another notation of its address."""
    return lambda scene: f"http://{address}:{scene.inner.host.rpartition(':')[2]}/a.png"


def moved(target: Callable[[Scene], str] | str, status: int = 302) -> Callable[[Scene], str]:
    """A redirect of the allowed site."""

    def source(scene: Scene) -> str:
        leads = target if isinstance(target, str) else target(scene)
        path = f"/moved/{len(scene.site.answers)}"
        return scene.site.redirects(path, leads, status)

    return source


def said(data: bytes, **headers: str) -> Callable[[Scene], str]:
    """An answer of the allowed site."""
    return lambda scene: scene.site.gives(f"/said/{len(scene.site.answers)}", data, **headers)


def below(path: str) -> Callable[[Scene], str]:
    """A file by its path from the media root."""
    return lambda scene: f"file://{scene.root}{path}"


def held(data: Callable[[], bytes], kind: str = "image/png") -> Callable[[Scene], str]:
    """Bytes in a data URL."""
    return lambda scene: data_url(data(), kind)


NOTATIONS = (
    *("127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.0.0.1.", "127.1", "127.0.1", "0x7f000001"),
    *(
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "127.0.0.0x1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
    ),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[fe80::1%25lo]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "127.255.255.254", "user:pass@127.0.0.1"),
    *("127。0。0。1", "１２７.0.0.1", "ⓛocalhost", "127.0.0.1%00.example.com", "%31%32%37.0.0.1"),
)
INSIDE = (
    *("http://169.254.169.254/latest/meta-data/", "http://[::ffff:a9fe:a9fe]/latest/", "http://0xa9fea9fe/"),
    *("http://2852039166/", "http://169.254.170.2/v2/credentials", "http://[fd00:ec2::254]/latest/"),
    *("http://100.100.100.200/latest/", "http://168.63.129.16/machine", "http://192.0.0.192/opc/v2/"),
    *(
        "https://10.0.0.1/a.png",
        "https://192.168.1.1/a.png",
        "https://172.16.0.1/a.png",
        "http://100.64.0.1/",
    ),
    *("http://224.0.0.1/", "http://255.255.255.255/", "http://192.0.2.1/", "http://nowhere.invalid/a.png"),
)
ELSEWHERE = (
    *(
        "/etc/passwd",
        "~/.ssh/id_rsa",
        "*.png",
        "-",
        "",
        " ",
        "ftp://example.com/a.png",
        "gopher://127.0.0.1:6379/_",
    ),
    *(
        "\\\\server\\share\\a.png",
        "concat:a|b",
        "jar:http://a!/b",
        "dict://127.0.0.1:11211/",
        "http:/a",
        "blob:x",
    ),
)

MEDIA = [
    *(Medium(f"loopback as {host}", at(host), f"{HOST}|{ADDRESS}") for host in NOTATIONS),
    *(Medium(f"inside: {url}", lambda scene, url=url: url, HOST) for url in INSIDE),
    *(Medium(f"no address: {text!r}", lambda scene, text=text: text, KIND) for text in ELSEWHERE),
    Medium("another port of an allowed host", lambda s: s.inner.address + "/a.png", HOST),
    Medium("an allowed host as the user", lambda s: f"http://{s.site.host}@{s.inner.host}/a.png", HOST),
    Medium(
        "a backslash",
        lambda s: f"http://{s.inner.host}\\@{s.site.host}/none.png",
        "answered 404|is no|failed",
    ),
    Medium("a redirect inwards", moved(lambda s: s.inner.address + "/a.png"), HOST),
    Medium(
        "a redirect inwards that keeps the method", moved(lambda s: s.inner.address + "/a.png", 308), HOST
    ),
    Medium("a redirect to metadata", moved("http://169.254.169.254/latest/meta-data/"), HOST),
    Medium("a redirect to an odd notation", moved(at("0x7f.1")), HOST),
    Medium("a redirect without a scheme", moved(lambda s: f"//{s.inner.host}/a.png"), HOST),
    Medium("two redirects inwards", moved(moved(lambda s: s.inner.address + "/a.png")), HOST),
    Medium("a redirect to a file", moved("file:///etc/passwd"), "redirects to a file: address"),
    Medium(
        "a redirect to gopher", moved("gopher://127.0.0.1:6379/_FLUSHALL"), "redirects to a gopher: address"
    ),
    Medium("a redirect to data", moved("data:image/png;base64,AAAA"), "redirects to a data: address"),
    Medium("a circle", lambda s: s.site.redirects("/circle", "/circle"), "redirects without an end"),
    Medium("an endless body", lambda s: s.site.streams("/endless", bytes(2**16)), "is over 2 MiB"),
    Medium(
        "an endless compressed body",
        lambda s: s.site.streams("/deep", gzip.compress(bytes(2**24)), Content_Encoding="gzip"),
        "is over 2 MiB",
    ),
    Medium("a compression bomb", said(gzip.compress(bytes(2**26)), Content_Encoding="gzip"), "is over 2 MiB"),
    Medium("a doubly compressed bomb", said(b"x", Content_Encoding="gzip, gzip"), "was not asked for"),
    Medium("an unknown encoding", said(b"x", Content_Encoding="br"), "was not asked for"),
    Medium("a length that lies upwards", said(b"\x89PNG", Content_Length="1000"), "broke off at 4 of 1000"),
    Medium("a length over the bound", said(b"", Content_Length=str(2**40)), "is over 2 MiB"),
    Medium("a length that is none", said(b"x", Content_Length="1e3"), "download failed"),
    Medium("a head without an end", lambda s: _endless_head(s.site), "download failed"),
    Medium("a slow body", lambda s: s.site.drips("/drip")[0], "not read within"),
    Medium("no answer", lambda s: s.site.silent("/silent"), "not read within"),
    Medium("a page", said(b"<!doctype html><p>"), "an HTML page"),
    Medium("nothing", said(b""), "holds no bytes"),
    *(
        Medium(f"file: {path!r}", below(path), FILE)
        for path in (
            *("/../secret.png", "/%2e%2e/secret.png", "/..%2fsecret.png", "/link.png", "/up/secret.png"),
            *("/../../../../../../../../etc/passwd", "/none.png", "", "/a.png%00", "/pipe.png", "2/a.png"),
        )
    ),
    Medium("file: absolute", lambda s: "file:///etc/passwd", FILE),
    Medium("file: /dev/zero", lambda s: "file:///dev/zero", FILE),
    Medium("file: /proc/self/environ", lambda s: "file:///proc/self/environ", FILE),
    Medium("file: relative", lambda s: "file:a.png", FILE),
    Medium("file: of another machine", lambda s: "file://server/share/a.png", "another machine"),
    Medium("file: a pipe as a clip", below("/pipe.mp4"), FILE, "video"),
    Medium("data: too much", held(lambda: bytes(MAX_BYTES + 1)), "is over 2 MiB"),
    Medium("data: no base64", lambda s: "data:image/png;base64,%%%%", "is not valid base64"),
    Medium("data: no comma", lambda s: "data:image/png", "is no data URL"),
    Medium(
        "an SVG with an entity",
        held(
            lambda: b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>', "image/svg+xml"
        ),
        "not an image",
    ),
    Medium("a ZIP", held(lambda: b"PK\x03\x04" + bytes(64)), "a ZIP archive"),
    Medium("PNG of 3.6 billion pixels", held(lambda: png(60_000, 60_000)), "over the limit of"),
    Medium("PNG of 2^62 pixels", held(lambda: png(2**31 - 1, 2**31 - 1)), "over the limit of"),
    Medium("PNG, one row of 2^31", held(lambda: png(2**31 - 1, 1)), "over the limit of"),
    Medium("PNG within the pixels, over the memory", held(lambda: flat_png(9900)), "MiB of memory"),
    Medium(
        "PNG with a text of 1 GiB",
        held(lambda: png(8, 8, 8, 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**30))[: 2**20]))),
        "damaged or cut off|MiB of memory",
    ),
    Medium("PNG cut off", held(lambda: flat_png(600)[:-40]), "damaged or cut off"),
    Medium("GIF of 4 billion pixels", held(lambda: gif(65_535, 65_535), "image/gif"), "over the limit of"),
    Medium(
        "GIF of 4 billion pixels as a clip", held(lambda: gif(65_535, 65_535, 9)), "over the limit", "video"
    ),
    Medium(
        "WebP of 268 million pixels",
        held(lambda: webp(16_384, 16_384), "image/webp"),
        "over the limit|damaged",
    ),
    Medium("BMP of 10 billion pixels", held(lambda: bmp(100_000, 100_000), "image/bmp"), "over the limit of"),
    Medium("JPEG of 4 billion pixels", held(lambda: jpeg(65_500, 65_500), "image/jpeg"), "over the limit of"),
    Medium(
        "TIFF of 10 billion pixels",
        held(lambda: tiff(100_000, 100_000), "image/tiff"),
        "over the limit|damaged",
    ),
    Medium("PPM of 10 billion pixels", held(lambda: b"P6 100000 100000 255\n"), "over the limit of"),
    Medium(
        "a clip cut off", lambda s: data_url(cut(s.root / "clip.mp4", 0.3)), "cannot be read|decodes", "video"
    ),
    Medium(
        "a clip of large frames",
        lambda s: data_url(clip_with((8192, 8192), s.root, "large.mp4").read_bytes()),
        "damaged|MiB of memory",
        "video",
    ),
    Medium(
        "a list of files",
        held(lambda: b"ffconcat version 1.0\nfile secret.mp4\n#\x80\xff", "video/mp4"),
        "cannot be read as a video",
        "video",
    ),
    Medium(
        "a list of addresses",
        lambda s: data_url(f"#EXTM3U\n#EXTINF:1,\n{s.inner.address}/a.ts\n#".encode() + b"\x80\xff"),
        "cannot be read as a video",
        "video",
    ),
    Medium(
        "a picture as a clip", lambda s: data_url(packed(Image.new("RGB", (8, 8)), "BMP")), "is a", "video"
    ),
    Medium("a clip as a picture", lambda s: f"file://{s.root}/clip.mp4", "not an image"),
]


def _endless_head(site: Site) -> str:
    def answer(request) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not site.ended.is_set():
            request.wfile.write(b"X-Long: " + b"x" * 1000 + b"\r\n")

    site.answers["/head"] = answer
    return site.address + "/head"
