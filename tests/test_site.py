"""The site of the documentation: pages that move keep their links, and what is broken is told."""

import shutil
import sys

import build_docs
import pytest
from check_site import faults

from tests.processes import ROOT, run


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        ("README.md", "[a](docs/batch.md#a-cluster)", "[a](batch.md#a-cluster)"),
        ("README.md", "![a](docs/images/a.png) [b](CHANGELOG.md)", "![a](images/a.png) [b](changelog.md)"),
        ("docs/install.md", "[a](../README.md#extras) [b](#it)", "[a](index.md#extras) [b](#it)"),
        ("docs/reference/api.md", "[a](../python.md) [b](settings.md)", "[a](../python.md) [b](settings.md)"),
        ("illava_cli/assets/tiny/README.md", "[a](../../../docs/accuracy.md)", "[a](accuracy.md)"),
        (
            "docs/serve.md",
            '<img src="images/a.png"> [b](https://c.d)',
            '<img src="images/a.png"> [b](https://c.d)',
        ),
    ],
)
def test_links_follow_a_page(source, text, found):
    assert build_docs.moved(text, source) == found


def test_a_link_that_leads_off_the_site_is_told(tmp_path):
    for source in build_docs.PAGES:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).write_text("")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[a](../Makefile)")
    (wrong,) = build_docs.gather(tmp_path, tmp_path / "out")
    assert wrong.startswith("docs/a.md: Makefile is not on the site")


def test_broken_links_and_what_comes_from_elsewhere_are_told(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here"><a href="b.html#there"></a><a href="c.html"></a><a href="#here"></a>'
        '<a href="https://a.b"></a><script src="https://c.d/e.js"></script><img src="f.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a>')
    (tmp_path / "s.css").write_text("@import 'https://g.h/i.css'; a {background: url(//j.k/l.png)}")
    told = "\n".join(faults(tmp_path))
    assert told.count("\n") == 5
    for said in ("b.html#there has no", "c.html is not", "loads https://c.d/e", "f.png is not", "g.h", "j.k"):
        assert said in told


def test_every_page_is_in_the_navigation():
    text = (ROOT / "zensical.toml").read_text()
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert not [page for page in pages | set(build_docs.PAGES.values()) if f'"{page}"' not in text]


@pytest.mark.needs("browser", "zensical")
def test_the_search_works_from_disk(tmp_path):
    from tests.browser import Browser

    build_docs.gather(ROOT, tmp_path / "build" / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert faults(tmp_path / "site") == []
    found = "[...document.querySelectorAll('*')].find(e => e.shadowRoot)?.shadowRoot"
    asking = f"{found}?.activeElement?.tagName == 'INPUT'"
    with Browser() as browser:
        browser.open(tmp_path / "site" / "index.html", "document.readyState == 'complete'")
        browser.wait(f"{asking} || (document.querySelector('.md-search__button').click(), false)")
        browser.press(*"repetition")
        browser.wait(f"[...{found}.querySelectorAll('a')].some(a => a.textContent.includes('repetition'))")
        assert not browser.requests()
