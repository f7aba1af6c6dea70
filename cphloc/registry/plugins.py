"""Find installed plug-ins, packages that contain cards of their own, without importing them.

A plug-in names the package that holds its cards under the entry point group ``cphloc.registry``. The folder is laid out
like cphloc's own ``registry``: ``<kind>/<name>.yaml`` and ``<kind>.yaml``; see ``cphloc show KIND``.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cphloc.errors import InputError

GROUP = "cphloc.registry"


@dataclass(frozen=True)
class Plugin:
    """One installed plug-in.

    Args:
        name: of the distribution, as ``pip install`` takes it.
        version: of the distribution.
        folders: where its cards are.
    """

    name: str
    version: str
    folders: tuple[Path, ...]


@functools.cache
def installed() -> tuple[Plugin, ...]:
    """Return every installed plug-in.

    Raises:
        InputError: a plug-in names a package that is not there.
    """
    if not _any():
        return ()
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=GROUP):
        top, *below = point.value.split(".")
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            msg = f"plug-in '{point.name}' names the package '{point.value}', which is not there; reinstall the plug-in"
            raise InputError(msg)
        folders = tuple(Path(location).joinpath(*below) for location in spec.submodule_search_locations)
        name, version = (point.dist.name, point.dist.version) if point.dist is not None else (point.name, "")
        found.append(Plugin(name, version, folders))
    return tuple(found)


def plugin_of(card_file: str | Path) -> Plugin | None:
    """Return the plug-in that a card comes from; ``None`` for cards of cphloc and of ``CPHLOC_REGISTRY``."""
    path = Path(card_file)
    return next((p for p in installed() if any(path.is_relative_to(folder) for folder in p.folders)), None)


def distribution_of(card_file: str | Path, target: str | None) -> tuple[str, str] | None:
    """Return name and version of the distribution that a component comes from; ``None`` where that is cphloc.

    Args:
        card_file: file of its card.
        target: ``module:Class`` of its card, ``None`` for an allow-listed name.
    """
    plugin = plugin_of(card_file)
    if plugin is not None:
        return plugin.name, plugin.version
    package = (target or "cphloc").partition(":")[0].partition(".")[0]
    if package == "cphloc":
        return None
    from importlib.metadata import packages_distributions, version

    names = packages_distributions().get(package)
    return (names[0], version(names[0])) if names else None


def missing(plugins: Mapping[str, str]) -> list[str]:
    """List, for each plug-in that is not installed, how to install it.

    Args:
        plugins: version by name of the distribution.

    >>> missing({"no-such-plugin": "1.2"})
    ["the plug-in 'no-such-plugin' is not installed; pip install no-such-plugin==1.2"]
    """
    from importlib.metadata import PackageNotFoundError, version

    lines = []
    for name, wanted in plugins.items():
        try:
            version(name)
        except PackageNotFoundError:
            lines.append(f"the plug-in '{name}' is not installed; pip install {name}{f'=={wanted}' if wanted else ''}")
    return lines


def _any() -> bool:
    """Whether any installed package has entry points of this group; ten times faster than parsing all entry points."""
    marker = f"[{GROUP}]".encode()
    for folder in filter(os.path.isdir, sys.path):
        for entry in os.scandir(folder):
            points = os.path.join(entry.path, "entry_points.txt")
            if entry.name.endswith((".dist-info", ".egg-info")) and os.path.isfile(points):
                with open(points, "rb") as file:
                    if marker in file.read():
                        return True
    return False
