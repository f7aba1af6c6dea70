"""``cphloc list``: list components, recipes and published entries, one line each."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterator

from cphloc.cli.result import Answer, table
from cphloc.config import yamlio
from cphloc.data.io.formats import FORMATS
from cphloc.errors import NotFoundError, did_you_mean
from cphloc.recipe.merge import shipped_recipes
from cphloc.registry import catalogue
from cphloc.registry.kinds import ALL, KINDS, TABLES, plural, singular
from cphloc.registry.timm_names import timm_names

_ALWAYS = (*map(plural, KINDS), "recipes", "zoo")
"""Groups that ``cphloc list`` shows by default."""

GROUPS = (*_ALWAYS, *map(plural, TABLES), "timm", "formats")
"""Every group; those after `_ALWAYS` are shown when they are named."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", nargs="*", help=f"{', '.join(GROUPS)}; or a name with wildcards, such as 'unet*'")
    everything = "with the zoo: every version, also earlier and superseded ones"
    parser.add_argument("--all", action="store_true", dest="all_versions", help=everything)
    page = "write the zoo as an HTML page with cards, pictures and metrics; default FILE: index.html in the zoo folder"
    parser.add_argument("--html", metavar="FILE", nargs="?", const="", help=page)


def run(options: argparse.Namespace) -> Answer:
    """List the groups asked for, by default all components, recipes and entries."""
    if options.html is not None:
        return _page(options.html or None)
    groups = [g for g in GROUPS if g in map(_group, options.what)] or list(_ALWAYS)
    patterns = [w for w in options.what if _group(w) not in GROUPS]
    found = [
        {"group": group, "name": name, "summary": summary}
        for group in groups
        for name, summary in _members(group, options.all_versions)
        if not patterns or any(_matches(name, pattern) for pattern in patterns)
    ]
    if patterns and not found:
        names = [*GROUPS, *(name for group in groups for name, _ in _members(group, all_versions=True))]
        msg = f"nothing is called '{' '.join(patterns)}'; {did_you_mean(patterns[0], names) or 'see cphloc list'}"
        raise NotFoundError(msg)
    columns = ("group", "name", "summary") if len(groups) > 1 else ("name", "summary")
    return Answer(table([row[c] for c in columns] for row in found), found)


def _page(path: str | None) -> Answer:
    from cphloc.publishing.page import zoo_page
    from cphloc.publishing.publish import zoo_to_write

    written = zoo_page(zoo_to_write(), path)
    return Answer(f"written to {written}", {"page": str(written)})


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern, with or without its folder."""
    return any(fnmatch.fnmatchcase(each, pattern) for each in (name, name.rpartition("/")[2]))


def _group(word: str) -> str:
    """Return the group that a word names in the singular or plural, else the word itself."""
    return plural(word) if word in ALL else {"recipe": "recipes", "format": "formats"}.get(word, word)


def _members(group: str, all_versions: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and one-line summary of every member of a group; of an entry, the newest version or all."""
    if group == "zoo":
        from cphloc.zoo.summaries import summaries

        yield from summaries(all_versions)
    elif group == "recipes":
        for name, path in shipped_recipes().items():
            description = yamlio.load(path).get(("description",))
            yield name, str(description.plain) if description is not None else ""
    elif group == "formats":
        yield from ((one.name, one.summary) for one in FORMATS)
    elif group == "timm":
        yield from ((name, "") for name in timm_names())
    else:
        yield from catalogue.summaries(singular(group)).items()
