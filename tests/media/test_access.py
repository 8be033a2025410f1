"""What strangers' media may lead to: public hosts at the address that was judged, and files below a root."""

from __future__ import annotations

import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from illava_cli.errors import MediaError, UsageError
from illava_cli.media import EVERYTHING, Access, access, locate
from illava_cli.media.access import is_ours, is_public
from tests.media.server import Site, serving
from tests.media_files import write_jpeg

PUBLIC = ("93.184.216.34", "1.1.1.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "100.128.0.1", "172.32.0.1")
PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1"),
    *("fd00:ec2::254", "fd20:ce::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "4000::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::7f00:1", "::ffff:0:127.0.0.1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1", "2606::5efe:127.0.0.1"),
    *("2606::200:5efe:10.0.0.1", "", "example.com", "127.1", "0x7f.1"),
)
ODD = ("0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.1", "127.0.1", "0x7f.0.0.1", "0x7f.1")
ODD += ("0", "0x", "127.0.0.1.", "127.0.0.0x1", "1.2.3.4.5", "999.1.1.1", "localhost.", "１２７.0.0.1")
ODD += ("127。0。0。1", "::ffff:7f00:1", "fe80::1%lo", "", ".", "a" * 64, "\udcff", "a\0b")


REAL = socket.getaddrinfo


class Resolver:
    """Stands for the system's: what each name has at each look-up, the last for all that follow."""

    def __init__(self, **names: list[list[str]]):
        self.names, self.asked = names, []

    def __call__(self, host, port, *args, **options):
        if host == "127.0.0.1":  # whoever connects
            return REAL(host, port, *args, **options)
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        turns = self.names[host]
        found = turns.pop(0) if len(turns) > 1 else turns[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def resolver(monkeypatch):
    def set_to(**names) -> Resolver:
        found = Resolver(**{name.replace("_", "."): turns for name, turns in names.items()})
        monkeypatch.setattr(access.socket, "getaddrinfo", found)
        return found

    return set_to


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture
def jpeg(tmp_path) -> bytes:
    return write_jpeg(tmp_path / "a.jpg").read_bytes()


def refusal(source: object, given: Access) -> str:
    with pytest.raises(MediaError) as refused:
        locate(source, given)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    return str(refused.value)


# --- hosts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not(address):
    assert not is_public(address)


@pytest.mark.parametrize("host", [*ODD, "localhost", "127.0.0.1", "::1"])
def test_no_notation_of_this_machine_is_let_through(host):
    """With the system's own resolver, whatever it makes of them."""
    with pytest.raises(MediaError, match="no host that media are fetched from"):
        Access().guard(host, 80)


def test_what_a_resolver_makes_of_a_notation_does_not_matter(resolver):
    asked = resolver(**{host.replace(".", "_"): [["1.1.1.1"]] for host in ODD if host.isascii()})
    for host in ("0x7f000001", "2130706433", "0177.0.0.1", "127.1", "0x7f.1"):
        with pytest.raises(MediaError):
            Access().guard(host, 80)
    assert asked.asked == []


def test_all_addresses_of_a_host_must_be_public(resolver):
    resolver(a_example=[["1.1.1.1", "2606:4700::1111"]], b_example=[["1.1.1.1", "10.0.0.1"]])
    assert Access().guard("a.example", 443) == "1.1.1.1"
    with pytest.raises(MediaError):
        Access().guard("b.example", 443)


def test_a_refusal_does_not_say_whether_there_is_such_a_host(resolver):
    resolver(inner_example=[["10.0.0.1"]])
    said = []
    for host in ("inner.example", "other.example"):
        with pytest.raises(MediaError) as refused:
            Access().guard(host, 80)
        said.append(str(refused.value).replace(host, "HOST"))
    assert said[0] == said[1]


def test_a_public_address_of_this_machine_is_refused(resolver, monkeypatch):
    resolver(a_example=[["1.1.1.1"]])
    monkeypatch.setattr(access, "is_ours", lambda address: address == "1.1.1.1")
    with pytest.raises(MediaError):
        Access().guard("a.example", 80)


def test_which_addresses_are_ours():
    assert is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1")


def test_allowed_hosts(resolver):
    resolver(inner=[["10.0.0.1"]], localhost=[["127.0.0.1"]], **{"::1": [["::1"]]})
    given = Access(allow_hosts=("INNER.", "localhost:8000", "[::1]:81"))
    assert given.guard("inner", 1) == given.guard("inner.", 2) == "10.0.0.1"
    assert given.guard("localhost", 8000) == "127.0.0.1"
    assert given.guard("::1", 81) == given.guard("0:0:0:0:0:0:0:1", 81) == "::1"
    for host, port in (("localhost", 8001), ("::1", 80), ("a.inner", 1), ("inne", 1)):
        with pytest.raises(MediaError):
            given.guard(host, port)


def test_an_allowed_name_of_any_script(resolver):
    resolver(**{"xn--bcher-kva_example": [["10.0.0.1"]]})
    assert Access(allow_hosts=("bücher.example",)).guard("xn--bcher-kva.example", 80) == "10.0.0.1"


@pytest.mark.parametrize("entry", ["http://a", "a/b", "", "a b", "a:b", "[::1", "u@a", "[a]", "a" * 64 + "ü"])
def test_what_is_no_host_to_allow(entry):
    if entry.startswith("aaaa"):
        assert Access(allow_hosts=(entry,))  # no name that ever resolves
        return
    with pytest.raises(UsageError, match="is no host"):
        Access(allow_hosts=(entry,))


def test_allow_private_is_the_open_door(site: Site, jpeg):
    url = site.gives("/a.jpg", jpeg)
    assert "no host that media" in refusal(url, Access())
    assert site.asked == []
    assert locate(url, Access(allow_private=True)).data == jpeg
    assert locate(url, Access(allow_hosts=(site.host,))).data == jpeg


def test_a_name_that_means_another_address_later_is_connected_to_at_the_first(
    site: Site, jpeg, resolver, monkeypatch
):
    """What is judged is what is connected to: one look-up for each hop."""
    monkeypatch.setattr(access, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(access, "is_ours", lambda address: False)
    asked = resolver(a_example=[["127.0.0.1"], ["127.0.0.2"]])
    port = site.host.rpartition(":")[2]
    site.gives("/a.jpg", jpeg)
    assert locate(f"http://a.example:{port}/a.jpg", Access()).data == jpeg
    assert asked.asked == ["a.example"]
    assert "a.example" in refusal(f"http://a.example:{port}/a.jpg", Access())
    site.redirects("/b.jpg", f"http://b.example:{port}/a.jpg")
    resolver(a_example=[["127.0.0.1"]], b_example=[["10.0.0.1"]])
    assert "b.example" in refusal(f"http://a.example:{port}/b.jpg", Access())


def test_a_redirect_inwards_is_not_followed(site: Site, jpeg):
    with serving() as inner:
        target = inner.gives("/a.jpg", jpeg)
        url = site.redirects("/a.jpg", target)
        assert "127.0.0.1: is no host" in refusal(url, Access(allow_hosts=(site.host,)))
        assert inner.asked == []


def test_an_international_host_is_judged_by_its_ascii_name(resolver):
    asked = resolver(**{"xn--bcher-kva_example": [["10.0.0.1"]]})
    refusal("http://bücher.example/a.jpg", Access())
    assert asked.asked == ["xn--bcher-kva.example"]


def test_it_travels():
    given = Access(allow_hosts=("a:1",), roots=("/x",), max_bytes=3)
    assert pickle.loads(pickle.dumps(given)) == given
    assert hash(given) == hash(replace(given))


# --- kinds and sizes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        *(
            "/etc/passwd",
            "etc/passwd",
            "~/a.jpg",
            "*.jpg",
            "-",
            " -",
            "",
            " ",
            "ftp://a/b",
            "\\\\a\\b",
            "//a/b",
        ),
        *("gopher://a/", "jar:http://a!/b", "FILE", "concat:a|b", "/dev/stdin", "http:/a", "a" * 10**6),
        Path("/etc/passwd"),
    ],
)
def test_strangers_name_addresses_only(source):
    said = refusal(source, Access(roots=("/",)))
    assert "is no address" in said


def test_the_user_of_this_machine_names_anything(tmp_path, jpeg):
    assert locate(str(tmp_path / "a.jpg"), EVERYTHING) == locate(str(tmp_path / "a.jpg"))
    assert locate(f"file://{tmp_path}/a.jpg").path == tmp_path / "a.jpg"


@pytest.mark.parametrize("head", ["data:image/jpeg;base64,", "data:,"])
def test_data_urls_have_the_bound(head):
    small = Access(max_bytes=64)
    assert locate(head + "A" * 64, small).data
    assert "is over 64 bytes" in refusal(head + "A" * 92, small)
    assert "is over 64 bytes" in refusal(head + "A" * 10**6, small)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, jpeg) -> Path:
    """A root, and beside it what must not be read; `tmp_path` has a picture, too."""
    root = tmp_path / "root"
    (root / "in ner").mkdir(parents=True)
    (tmp_path / "root2").mkdir()
    for place in (root / "a.jpg", root / "in ner" / "ü%41.jpg", tmp_path / "root2" / "a.jpg"):
        place.write_bytes(jpeg)
    (root / "inwards.jpg").symlink_to("in ner/ü%41.jpg")
    (root / "outwards.jpg").symlink_to("../a.jpg")
    (root / "far.jpg").symlink_to(tmp_path / "a.jpg")
    (root / "folder").symlink_to("..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe.jpg")
    (tmp_path / "linked").symlink_to(root)
    return root


@pytest.mark.parametrize(
    "path",
    [
        *("/a.jpg", "/in%20ner/%C3%BC%2541.jpg", "/in ner/ü%2541.jpg", "/inwards.jpg", "/./in ner/../a.jpg"),
        *("/../root/a.jpg", "/folder/root/a.jpg", "/a.jpg#part", "/a.jpg?x=1"),
    ],
)
def test_files_below_a_root(root: Path, jpeg, path):
    for given in (str(root), f"{root}/", str(root.parent / "linked")):
        found = locate(f"file://{root}{path}", Access(roots=("/nowhere", given)))
        # in memory: nobody exchanges it between here and the decoder
        assert (found.data, found.path) == (jpeg, None)


@pytest.mark.parametrize(
    "path",
    [
        *("/../a.jpg", "/%2e%2e/a.jpg", "/..%2fa.jpg", "/in ner/../../a.jpg", "2/a.jpg", "/outwards.jpg"),
        *("/far.jpg", "/folder/a.jpg", "/loop", "/pipe.jpg", "/none.jpg", "", "/", "/in ner"),
        *("/a.jpg%00", "/%00", "/" + "x" * 10_000, "/../../../../../../etc/passwd"),
    ],
)
def test_files_that_are_not_below_a_root_or_not_there_at_all(root: Path, path):
    said = refusal(f"file://{root}{path}", Access(roots=(str(root),)))
    assert said.endswith("is no file that this server may read; it reads those in --media-root")


def test_nothing_without_a_root_and_nothing_relative(root: Path, monkeypatch):
    monkeypatch.chdir(root)
    for url in (f"file://{root}/a.jpg", "file:a.jpg", "file:./a.jpg", "file:~/a.jpg"):
        refusal(url, Access())
    for url in ("file:a.jpg", "file:~/a.jpg", "file:"):
        refusal(url, Access(roots=(str(root),)))


def test_a_name_that_changes_hands_between_look_and_opening(root: Path, monkeypatch):
    """The path is resolved, and then a folder of it becomes a link that leads out."""
    resolve = os.path.realpath

    def and_swap(path, **options):
        found = resolve(path, **options)
        if str(found).endswith("ü%41.jpg"):
            (root / "in ner").rename(root / "away")
            (root / "in ner").symlink_to(root.parent)
            (root.parent / "ü%41.jpg").write_bytes(b"secret")
        return found

    monkeypatch.setattr(access.os.path, "realpath", and_swap)
    refusal(f"file://{root}/in ner/ü%2541.jpg", Access(roots=(str(root),)))


def test_files_have_the_bound(root: Path, jpeg):
    url = f"file://{root}/a.jpg"
    assert locate(url, Access(roots=(str(root),), max_bytes=len(jpeg)))
    assert "is over" in refusal(url, Access(roots=(str(root),), max_bytes=len(jpeg) - 1))
