"""Find the cards of components, and the components themselves, by kind and name; only `resolve` imports one.

A card is ``<folder>/<kind>/<name>.yaml``, where the folder is the shipped ``registry``, one of ``CPHLOC_REGISTRY``, or
the package that a plug-in names under the entry point group ``cphloc.registry``. Optimizers, schedules, intensity
schemes and augmentations have short cards, so all of a kind stand in ``<folder>/<kind>.yaml``. A card has ``import``,
or for a name without a class of its own a ``signature``.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cphloc import paths
from cphloc.config import yamlio
from cphloc.config.nodes import Node
from cphloc.errors import InputError, MissingExtraError, NotFoundError, did_you_mean
from cphloc.registry import plugins
from cphloc.registry.kinds import ALL, KINDS, TABLES, article, plural, some
from cphloc.structures.units import MODALITIES_OF_CHANNELS, ChannelInput, channel_inputs

if TYPE_CHECKING:
    # Reading a card needs pydantic, and listing names must be quicker than its import.
    from cphloc.config.signature import Argument
    from cphloc.registry.card import Card


def cards(kind: str) -> Mapping[str, Card]:
    """Return the cards of a kind by name, in alphabetical order; each is read when it is first used.

    Raises:
        InputError: there is no such kind, or two cards claim one name.
    """
    return _Cards(kind)


def card(kind: str, name: str) -> Card:
    """Return the card of one component.

    Raises:
        NotFoundError: there is none; the message suggests a similar name, or the plug-in that has it.
        RecipeError: the card is invalid; with all its problems.
    """
    found = cards(kind)
    if name not in found:
        raise NotFoundError("; ".join(missing(kind, name)))
    return found[name]


def summaries(kind: str) -> dict[str, str]:
    """Return the summary of every component of a kind, without parsing the cards (10,000 take less than a second)."""
    found = _Cards(kind)
    return {name: found.summary(name) for name in found}


def arguments(card: Card) -> list[Argument]:
    """Read the arguments of a component from its source, without importing it and without those that no recipe states.

    Raises:
        InputError: the class or its signature cannot be read.
    """
    from cphloc.config.signature import arguments_of, parse_signature

    own = arguments_of(card.import_) if card.import_ else ()
    return [*own, *parse_signature(stated_signature(card))]


def stated_signature(card: Card) -> str:
    """Return, as text, the arguments that are not read from a class: those on the card and those common to its kind."""
    return ", ".join(filter(None, (card.signature, ALL[card.kind].common)))


def channels(card: Card) -> tuple[str, ...]:
    """Image channels of a data set, from its card or the default of its argument; empty if they depend on files."""
    if card.channels:
        return tuple(card.channels)
    return next((tuple(a.default) for a in arguments(card) if a.name == "channels" and a.default), ())


def inputs(
    card: Card, names: Sequence[str], units: Mapping[str, str] | None = None, modality: Sequence[str] = ()
) -> dict[str, ChannelInput]:
    """Determine the modality and unit of the channels of a data set.

    Args:
        card: card of the data set.
        names: names of the channels that are used.
        units: unit by channel as a recipe states them; they come before those of the card.
        modality: modality of the channels as a recipe states it for one's own data, one or as many as ``names``; it
            comes before that of the card.

    Raises:
        InputError: a unit does not exist, or is stated for a channel that does not exist; or there are as many
            modalities as neither one nor the channels.
    """
    known = channels(card)
    if len(modality) not in (0, 1, len(names)):
        msg = f"data.about.modality states {len(modality)} modalities; state one, or one for each of {', '.join(names)}"
        raise InputError(msg)
    stated = _by_channel(modality, names, names) or _by_channel(card.modality, known, names)
    codes = {name: MODALITIES_OF_CHANNELS.get(word.lower(), word) for name, word in stated.items()}
    modalities = {name: code for name, code in codes.items() if code.isupper()}
    return channel_inputs(names, {**_by_channel(card.units, known, names), **(units or {})}, modalities)


def _by_channel(words: Sequence[str], known: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Words of a card by channel: one per channel of the data set, or one for all."""
    if len(words) == len(known):
        return {name: word for name, word in zip(known, words, strict=True) if name in names}
    return dict.fromkeys(names, words[0]) if len(words) == 1 else {}


def resolve(kind: str, name: str) -> type:
    """Import the class of a component.

    Raises:
        NotFoundError: no card has that name.
        MissingExtraError: the card names an extra that is not installed.
        InputError: the card names no class, or one that cannot be imported.
    """
    found = card(kind, name)
    if found.import_ is None:
        msg = f"the {kind} '{name}' is an allow-listed name without a class"
        raise InputError(msg)
    module, class_name = found.import_.split(":")
    try:
        return getattr(importlib.import_module(module), class_name)
    except Exception as error:
        if found.requires and isinstance(error, ModuleNotFoundError):
            raise MissingExtraError(f"the {kind} '{name}'", found.requires) from error
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        msg = (
            f"{found.source}: the {kind} '{name}' cannot be imported from {found.import_} ({why}); mend 'import:' or it"
        )
        raise InputError(msg) from error


def missing(kind: str, name: str) -> tuple[str, str]:
    """Explain why ``name`` is not a component of ``kind``: the problem, and what to do."""
    names = cards(kind)
    if (new := renamed(kind, name)) is not None:
        return f"the {kind} '{name}' is now called '{new}'", f"write '{new}', or run: cphloc migrate"
    for other in ALL:
        if other != kind and name in cards(other):
            fix = did_you_mean(name, names) or f"{plural(kind)}: {some(names)}"
            return f"'{name}' is {article(other)} {other}, not {article(kind)} {kind}", fix
    for plugin, owned in _known_plugins().items():
        if name in owned.get(kind, ()):
            return f"the {kind} '{name}' is in plug-in '{plugin}', not installed", f"pip install {plugin}"
    fix = did_you_mean(name, names) or f"{plural(kind)}: {some(names)}"
    return f"unknown {kind} '{name}'", fix


def renamed(kind: str, name: str) -> str | None:
    """Return the present name of a component that was once called ``name``; ``None`` where there is none."""
    found = _Cards(kind)
    if name in found:
        return None
    for new, path in found.files.items():
        if b"renamed_from" in Path(path).read_bytes() and name in found[new].renamed_from:
            return new
    return None


class _Cards(Mapping[str, "Card"]):
    """A mapping that knows all names, and reads a card when it is first used."""

    def __init__(self, kind: str) -> None:
        if kind not in ALL:
            msg = f"no kind '{kind}'; {did_you_mean(kind, ALL) or f'kinds: {some(ALL)}'}"
            raise InputError(msg)
        self.kind = kind
        self._read = _read_card if kind in KINDS else _read_entry
        self.files = _files(kind) if kind in KINDS else _entries(kind)

    def __getitem__(self, name: str) -> Card:
        return self._read(self.kind, name, self.files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def summary(self, name: str) -> str:
        """Return the summary of a component, read by a regular expression if possible, else by the YAML parser."""
        if self.kind in TABLES:
            return _summary_of(_table(self.files[name])[name])
        with open(self.files[name], "rb") as file:
            line = _SUMMARY.search(file.read(4096))
        try:
            return line[1].decode() if line else _summary_of(yamlio.load(self.files[name]))
        except (InputError, UnicodeDecodeError):
            return "(broken card: see cphloc show)"


def _summary_of(node: Node) -> str:
    summary = node.get(("summary",))
    return str(summary.value) if summary is not None else "(no summary)"


_SUMMARY = re.compile(rb"^summary: +([A-Za-z0-9][^#\"':\n\r]*[^#\"':\n\r\s]) *\r?$", re.MULTILINE)


def folders() -> list[Path]:
    """Return the folders of cards: those of cphloc, of ``CPHLOC_REGISTRY``, and of installed plug-ins."""
    return [*paths.registry_folders(), *(folder for plugin in plugins.installed() for folder in plugin.folders)]


def _files(kind: str) -> dict[str, str]:
    """Card files of a kind by name."""
    places = [os.path.join(folder, kind) for folder in folders()]
    return _listed(kind, tuple((f, os.stat(f).st_mtime_ns) for f in places if os.path.isdir(f)))


@functools.lru_cache(maxsize=32)
def _listed(kind: str, places: tuple[tuple[str, int], ...]) -> dict[str, str]:
    """Card files in folders, given with their time of modification so that a changed folder is listed again."""
    found: dict[str, str] = {}
    for folder, _ in places:
        for entry in os.scandir(folder):
            name, extension = os.path.splitext(entry.name)
            if extension != ".yaml":
                continue
            if name in found:
                msg = f"{entry.path} and {found[name]} both are the {kind} '{name}'; rename one"
                raise InputError(msg)
            found[name] = entry.path
    return dict(sorted(found.items()))


def _entries(kind: str) -> dict[str, Path]:
    """The file of every card of a kind whose cards share one file, by name."""
    return _named(kind, tuple(folders()))


@functools.lru_cache(maxsize=32)
def _named(kind: str, places: tuple[Path, ...]) -> dict[str, Path]:
    """Names of the cards in the files that folders have for a kind."""
    found: dict[str, Path] = {}
    for folder in places:
        path = folder / f"{kind}.yaml"
        for name in _table(path):
            if name in found:
                msg = f"{path} and {found[name]} both have the {kind} '{name}'; rename one"
                raise InputError(msg)
            found[name] = path
    return found


@functools.cache
def _table(path: Path) -> dict[str, Node]:
    return {str(k): v for k, v in yamlio.load(path).children.items()} if path.is_file() else {}


@functools.cache
def _read_card(kind: str, name: str, path: str) -> Card:
    from cphloc.registry.card import card_from

    return card_from(yamlio.load(path), kind, name, path)


@functools.cache
def _read_entry(kind: str, name: str, path: Path) -> Card:
    from cphloc.registry.card import card_from

    return card_from(_table(path)[name], kind, name, str(path))


def _known_plugins() -> dict[str, dict[str, list[str]]]:
    """Components of known plug-ins, installed or not, from the ``plugins.yaml`` of every folder."""
    known: dict[str, dict[str, list[str]]] = {}
    for folder in folders():
        known |= {name: node.plain for name, node in _table(folder / "plugins.yaml").items()}
    return known
