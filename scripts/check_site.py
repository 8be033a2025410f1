"""Checks a folder of HTML: links within lead to files and anchors, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser gets by itself, unlike the target of a link that somebody follows
LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("video", "src")}
LOADING = {"stylesheet", "icon", "preload", "preconnect", "prefetch", "modulepreload"}
CSS_URL = re.compile(r"(?:url\(\s*|@import\s+)[\"']?(?:https?:)?//[^)\"']+")


class Page(HTMLParser):
    """A page's anchors, its links, and what is loaded with it."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element names."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        loads = tag == "link" and LOADING & set(found.get("rel", "").split())
        for name in ("href", "src"):
            if name in found:
                (self.loaded if loads or (tag, name) in LOADED else self.links).append(found[name])


def faults(site: Path) -> list[str]:
    """What is wrong, a line each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        own = path.relative_to(site)
        if own.name == "404.html":  # shown at any address, so that its links are those of the site's root
            continue
        wrong += [f"{own}: loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                wrong.append(f"{own}: {url} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{own}: {url} has no such anchor")
    for path in sorted(site.rglob("*.css")):
        found = CSS_URL.findall(path.read_text(encoding="utf-8"))
        wrong += [f"{path.relative_to(site)}: loads {url}" for url in found]
    return wrong
