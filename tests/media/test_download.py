"""Downloads: what is sent and decoded, which redirects are followed, and one line for whatever goes wrong."""

from __future__ import annotations

import base64
import gzip
import logging
import socket
import zlib
from dataclasses import replace

import pytest

from illava_cli.errors import MediaError
from illava_cli.media import EVERYTHING, Access, download, locate, read_image, read_video
from tests.media.server import Site, serving
from tests.media_files import write_jpeg


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with serving() as site:
        yield site


@pytest.fixture
def jpeg(tmp_path) -> bytes:
    return write_jpeg(tmp_path / "a.jpg").read_bytes()


def refusal(url: str, access: Access = EVERYTHING) -> str:
    """The one line that a source is refused with."""
    with pytest.raises(MediaError) as refused:
        locate(url, access)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_pictures_and_clips(site: Site, jpeg, clips):
    url = site.gives("/a.jpg", jpeg)
    assert read_image(url).source == url
    assert len(read_video(site.gives("/c.mp4", clips["h264-cfr"].read_bytes()), num_frames=4).frames) == 4


def test_letters_of_any_script_and_blanks(site: Site, jpeg):
    site.gives("/K%C3%B6ln/%E7%8C%AB%20und%20Hund.jpg?x=%C3%A9", jpeg)
    assert locate(f"{site.address}/Köln/猫 und Hund.jpg?x=é#part").data == jpeg
    assert locate(f" {site.address.upper()}/K%C3%B6ln/猫%20und%20Hund.jpg?x=é ").data == jpeg


def test_an_international_host_is_asked_by_its_ascii_name(site: Site, jpeg, monkeypatch):
    asked = []
    resolve = socket.getaddrinfo

    def look_up(host, *args, **options):
        asked.append(host)
        return resolve("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    site.gives("/a.jpg", jpeg)
    assert locate(f"http://bücher.example:{site.address.rpartition(':')[2]}/a.jpg").data == jpeg
    assert [host if isinstance(host, str) else host.decode() for host in asked] == ["xn--bcher-kva.example"]


# --- user and password ------------------------------------------------------------------------


def authorization(site: Site) -> list[str | None]:
    return [headers.get("Authorization") for _, headers in site.asked]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_user_and_password_are_sent_and_in_no_name(site: Site, jpeg, caplog):
    caplog.set_level(logging.DEBUG)
    site.gives("/a.jpg", jpeg)
    found = locate(f"http://jo:s%40cret-ü@{site.host}/a.jpg")
    assert (found.data, found.name) == (jpeg, f"http://{site.host}/a.jpg")
    assert authorization(site) == [basic("jo", "s@cret-ü")]
    assert "s%40cret" not in caplog.text
    assert "s@cret" not in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "http://jo:secret@{host}/none.jpg",
        "http://jo:secret@{host}:none/a.jpg",
        "http://jo:secret/with@{host}/a.jpg",  # what should have been percent-encoded
        "http://jo:secret#with@{host}/a.jpg",
        "http://jo:secret@127.0.0.1:1/a.jpg",
        "http://jo:secret@[::1/a.jpg",
        "http://jo:secret@ex\nample/a.jpg",
        "http://jo:secret@/a.jpg",
        "ftp://jo:secret@{host}/a.jpg",
        "https:/jo:secret@{host}/a.jpg",
    ],
)
def test_a_refusal_tells_no_password(site: Site, address):
    assert "secret" not in refusal(address.format(host=site.host))


def test_another_host_is_not_told_the_password(site: Site, jpeg):
    with serving() as other:
        target = other.gives("/a.jpg", jpeg)
        site.redirects("/same", "/away")
        site.redirects("/away", target)
        assert locate(f"http://jo:secret@{site.host}/same").data == jpeg
        assert authorization(site) == [basic("jo", "secret")] * 2
        assert authorization(other) == [None]


@pytest.mark.parametrize(
    ("url", "target", "told"),
    [
        ("http://a/x", "http://a/y", True),
        ("http://a/x", "https://a/x", True),
        ("https://a/x", "http://a/x", False),
        ("http://a:81/x", "https://a/x", False),
        ("http://a/x", "http://a:81/x", False),
        ("http://a/x", "http://b.a/x", False),
    ],
)
def test_who_is_told_the_password(url, target, told):
    http = download.library()
    assert download._same_place(http.URL(url), http.URL(target)) == told


# --- redirects --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Site, jpeg, status):
    site.gives("/b%20%C3%A9.jpg", jpeg)
    assert locate(site.redirects("/a", "b%20%C3%A9.jpg", status)).data == jpeg


def test_a_circle_and_an_endless_row_of_redirects_are_one_line(site: Site):
    assert "redirects without an end" in refusal(site.redirects("/circle", "/circle"))
    for number in range(30):
        site.redirects(f"/{number}", f"/{number + 1}")
    assert "redirects without an end" in refusal(f"{site.address}/0")
    assert len(site.asked) < 20


@pytest.mark.parametrize("target", ["file:///etc/hostname", "FTP://127.0.0.1/x", "data:,x", "gopher://x/"])
def test_redirects_lead_to_the_web_only(site: Site, target):
    scheme = target.partition(":")[0].lower()
    assert f"redirects to a {scheme}: address, which is not followed" in refusal(site.redirects("/a", target))


@pytest.mark.parametrize("target", ["http://[::1/x", "http://a:b:c/"])
def test_a_redirect_to_nowhere_is_one_line(site: Site, target):
    assert "redirects to" in refusal(site.redirects("/a", target))


# --- compression ------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
)
def test_compressed_answers_are_unpacked(site: Site, jpeg, encoding, pack):
    assert locate(site.gives("/a.jpg", pack(jpeg), Content_Encoding=encoding)).data == jpeg
    assert site.asked[0][1]["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 500])
def test_an_encoding_that_nobody_asked_for_is_refused(site: Site, encoding):
    message = refusal(site.gives("/a.jpg", b"x" * 100, Content_Encoding=encoding))
    assert encoding[:40] in message
    assert "not asked for" in message
    assert len(message) < 200


def test_what_is_not_the_encoding_that_it_says_is_refused(site: Site, jpeg):
    assert "is not the gzip that the server says" in refusal(site.gives("/a", jpeg, Content_Encoding="gzip"))


def test_a_bomb_is_not_unpacked(site: Site):
    url = site.gives("/a", gzip.compress(bytes(2**24)), Content_Encoding="gzip")
    assert "is over 1 MiB" in refusal(url, replace(EVERYTHING, max_bytes=2**20))


# --- what goes wrong --------------------------------------------------------------------------


def test_failing_downloads(site: Site, jpeg):
    assert "/none.jpg: the server answered 404" in refusal(f"{site.address}/none.jpg")
    assert "answered 401" in refusal(site.gives("/locked", b"", 401))
    assert "broke off at 3 of 1000 bytes" in refusal(site.gives("/s", b"\xff\xd8\xff", Content_Length="1000"))
    assert "download failed" in refusal("http://127.0.0.1:1/a.jpg")
    assert "holds no bytes" in refusal(site.gives("/empty", b""))
    little = replace(EVERYTHING, max_bytes=100)
    assert "is over 100 bytes" in refusal(site.gives("/a.jpg", jpeg), little)
    assert "is over 100 bytes" in refusal(site.gives("/b.jpg", b"", Content_Length="101"), little)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https:///x",
        "http://a b/",
        "http://a\tb/",
        "http://\udcff/",
        "http://a/\ud800",
        "http://*/",
    ],
)
def test_what_is_no_address_is_one_line(site: Site, url):
    refusal(url)


def test_a_proxy_that_cannot_be_used_is_one_line(site: Site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1:1")
    assert "download failed" in refusal(f"{site.address}/a.jpg")


def test_a_server_that_says_nothing(site: Site, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    url, _ = site.drips("/slow")
    assert "no answer within 0 s" in refusal(url)


# --- a guard ----------------------------------------------------------------------------------


def test_a_guard_is_asked_at_each_hop_and_says_where_to_connect(site: Site, jpeg):
    port = int(site.address.rpartition(":")[2])
    site.gives("/b.jpg", jpeg)
    site.redirects("/a.jpg", f"http://second.example:{port}/b.jpg")
    hops = []

    class Watched(Access):
        def guard(self, host: str, port: int) -> str:
            hops.append((host, port))
            return "127.0.0.1"

    assert locate(f"http://first.example:{port}/a.jpg", Watched()).data == jpeg
    assert hops == [("first.example", port), ("second.example", port)]
    assert [headers["Host"] for _, headers in site.asked] == [f"{host}:{port}" for host, _ in hops]


def test_a_guard_can_refuse_a_hop(site: Site, jpeg):
    port = int(site.address.rpartition(":")[2])
    site.gives("/b.jpg", jpeg)

    class Watched(Access):
        def guard(self, host: str, port: int) -> str:
            if host == "inner.example":
                raise MediaError("inner.example: is no public address")
            return "127.0.0.1"

    url = site.redirects("/a.jpg", f"http://inner.example:{port}/b.jpg")
    url = url.replace("127.0.0.1", "outer.example")
    assert refusal(url, Watched()) == "inner.example: is no public address"
    assert len(site.asked) == 1
