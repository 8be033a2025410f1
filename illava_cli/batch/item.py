"""One question of a run: what every input, file or line of a manifest, is reduced to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from illava_cli.config.options import GROUP_OF, GROUPS
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import grouped, over
from illava_cli.errors import UsageError
from illava_cli.media.download import without_credentials
from illava_cli.media.sources import located
from illava_cli.text import spelled

# what a single item may change of a configuration
SETTINGS = tuple(name for name, group in GROUP_OF.items() if group != "model")


@dataclass(frozen=True)
class Item:
    """A question about media, by name: they are read when its turn comes.

    Args:
        id: unique in a run; its answer is found again by it. Half a character, as in a file's name that is
            no UTF-8, is spelled out (`\\\\udcff`): records must hold it.
        prompt: `<image>` and `<video>` in it place the media, else these come first.
        images, videos: sources, see `illava_cli.media.sources`.
        settings: `generation` and `media` options that differ from the run's, group by group.
        folder: what relative paths are relative to, where it is not the working directory.
        where: the place that it comes from, for errors: `FILE, line 3`.
    """

    id: str
    prompt: str
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    folder: str = ""
    where: str = ""

    def __post_init__(self):
        object.__setattr__(self, "id", spelled(self.id))

    @property
    def request_hash(self) -> str:
        """Hash of what is asked: the prompt, and the media as they are named (a folder may move)."""
        asked = json.dumps([self.prompt, *self._named], ensure_ascii=False)
        return hashlib.sha256(asked.encode(errors="surrogatepass")).hexdigest()[:12]

    @property
    def _named(self) -> list[list[str]]:
        """The media by name, without passwords: what is made of it stands in records, and they may change."""
        return [[without_credentials(name) for name in own] for own in (self.images, self.videos)]

    @property
    def media_key(self) -> str:
        """Equal for items about the same media, read in the same way."""
        return json.dumps([self.folder, self.images, self.videos, self.settings.get("media", {})])

    @property
    def sources(self) -> tuple[list[str], list[str]]:
        """Images and videos as they can be opened from here."""
        images, videos = ([located(name, self.folder) for name in own] for own in (self.images, self.videos))
        return images, videos

    def config(self, base: Config) -> Config:
        """The run's configuration with this item's settings.

        Raises:
            UsageError: they contradict one another; says where.
        """
        if not self.settings:
            return base
        return validate(type(base), over(base.model_dump(exclude_unset=True), self.settings), self.where)

    def shard(self, count: int) -> int:
        """Which of `count` shards it belongs to: decided by its media, so that these are encoded once."""
        named = self._named if self.images or self.videos else self.id
        digest = hashlib.sha256(json.dumps(named).encode()).digest()
        return int.from_bytes(digest[:8], "big") % count


def asked_each(item: Item, prompts: Iterable[str]) -> Iterator[Item]:
    """An item without a prompt, once for each of `prompts`; from the second on their number is in the id."""
    for number, prompt in enumerate(prompts, 1):
        yield replace(item, prompt=prompt, id=item.id if number == 1 else f"{item.id}#{number}")


def unique(items: Iterable[Item]) -> list[Item]:
    """The items as a list.

    Raises:
        UsageError: two have the same id; names both places.
    """
    found: dict[str, Item] = {}
    for item in items:
        other = found.setdefault(item.id, item)
        if other is not item:
            raise UsageError(
                f"duplicate id {item.id!r}: {other.where} and {item.where}; "
                "name a file once, and give each line of a manifest an id of its own"
            )
    return list(found.values())


def settings_of(data: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """`max_tokens`, `num_frames` and the like, by their group and checked.

    Raises:
        UsageError: a value out of range; says where.
    """
    settings = grouped(data)
    for group, values in settings.items():
        checked = validate(GROUPS[group], values, where)
        settings[group] = checked.model_dump(mode="json", exclude_unset=True)
    return settings
