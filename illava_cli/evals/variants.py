"""What is compared: the unmerged reference, and named configurations of the same loaded model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from illava_cli.config.presets import OVERRIDES, preset_label
from illava_cli.config.reading import validate
from illava_cli.config.settings import Config
from illava_cli.config.sources import parse_setting
from illava_cli.errors import UsageError

OFF, BLIND, SERVER = "off", "blind", "server"
FIXED = "model"  # one model is loaded for all
NAMED = re.compile(r"([^=:]*[^=:\s])\s*:\s*(.*)", re.DOTALL)
BETWEEN = re.compile(r"\s+(?=[\w.]+=)")  # a value may hold spaces: vision.layers=[2, 3]


@dataclass(frozen=True)
class Variant:
    """A configuration under a name; `blind` asks without the media."""

    name: str
    config: Config
    blind: bool = False


def variants(
    resolve: Callable[[list[str]], Config],
    presets: Sequence[str],
    named: Sequence[str],
    blind: bool = False,
    methods: Sequence[str] = (),
) -> list[Variant]:
    """The reference, which merges nothing, and the variants that were asked for.

    Args:
        resolve: the configuration of a run with these settings (`a.b=c`) on top of all others.
        presets: names or files; each becomes a variant.
        named: `NAME: key=value key=value`, see `parse`. Without presets and these: the run's own preset.
        blind: add the reference without its media, which shows what can be guessed.
        methods: each preset runs with each of them, under the method's name where there is one preset.

    Raises:
        UsageError: a bad setting, a name given twice, a temperature, a setting of the model.
    """
    plain = resolve([])
    found = [Variant(OFF, unmerged(plain))]
    if blind:
        found.append(Variant(BLIND, unmerged(plain), blind=True))
    presets = presets if presets or (named and not methods) else [plain.preset]
    _refuse_off(presets, methods)
    found += _of_presets(resolve, [p for p in presets if preset_label(p) != OFF], methods)  # off is there
    return _checked(found + _named(resolve, named))


def of_a_server(
    resolve: Callable[[list[str]], Config],
    presets: Sequence[str],
    named: Sequence[str],
    blind: bool = False,
    methods: Sequence[str] = (),
) -> list[Variant]:
    """The variants of a server, which may merge by itself or not at all: the first is the reference.

    Without presets and names it is what the server does by itself. Arguments as of `variants`.
    """
    _refuse_off(presets, methods)
    if methods and not presets:
        found = [Variant(name, resolve([f"method={name}"])) for name in methods]
    else:
        found = _of_presets(resolve, presets, methods)
    found = found + _named(resolve, named) or [Variant(SERVER, resolve([]))]
    if blind:
        found.append(Variant(BLIND, resolve([]), blind=True))
    return _checked(found)


def _refuse_off(presets: Sequence[str], methods: Sequence[str]) -> None:
    if methods and OFF in map(preset_label, presets):
        raise UsageError("--method runs at a preset's merge points, and preset off has none: name another")


def _of_presets(
    resolve: Callable[[list[str]], Config], presets: Sequence[str], methods: Sequence[str]
) -> list[Variant]:
    found = []
    for preset in presets:
        name = preset_label(preset)
        if not methods:
            found.append(Variant(name, resolve([f"preset={preset}"])))
        for method in methods:
            label = method if len(presets) == 1 else f"{name} {method}"
            found.append(Variant(label, resolve([f"preset={preset}", f"method={method}"])))
    return found


def _named(resolve: Callable[[list[str]], Config], named: Sequence[str]) -> list[Variant]:
    found = []
    for text in named:
        name, settings = parse(text)
        found.append(Variant(name, resolve(settings)))
    return found


def _checked(found: list[Variant]) -> list[Variant]:
    """Variants of different names, all greedy."""
    names = [variant.name for variant in found]
    for name in names:
        if names.count(name) > 1:
            reserved = f" ({OFF} and {BLIND} are always the reference)" if name in (OFF, BLIND) else ""
            raise UsageError(f"two variants are called {name!r}: give each its own name{reserved}")
    only_greedy(found)
    return found


def only_greedy(found: Sequence[Variant]) -> None:
    """Refuse variants that draw their answers.

    Raises:
        UsageError: a temperature.
    """
    if any(variant.config.generation.temperature > 0 for variant in found):
        raise UsageError("greedy answers are compared: leave generation.temperature at 0")


def parse(text: str) -> tuple[str, list[str]]:
    """`half: preset=paper llm.keep=0.5` as its name and settings; without a name it is its own.

    Raises:
        UsageError: no settings, or one that cannot differ between variants.
    """
    match = NAMED.fullmatch(text.strip())
    name, rest = (match[1].strip(), match[2]) if match else (text.strip(), text)
    settings = [part for part in BETWEEN.split(rest.strip()) if part]
    source = f"--variant {text!r}"
    if not settings:
        raise UsageError(f"{source}: expected NAME: key=value, for example 'half: preset=paper llm.keep=0.5'")
    for setting in settings:
        if next(iter(parse_setting(setting, source))) == FIXED:
            raise UsageError(f"{source}: one model is loaded for all variants: use --set {setting}")
    return name, settings


def unmerged(config: Config) -> Config:
    """The same configuration with merging off."""
    data = config.model_dump(exclude_unset=True, exclude=set(OVERRIDES))
    return validate(Config, data | {"preset": OFF}, "settings")
