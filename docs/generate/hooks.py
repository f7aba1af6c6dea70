"""Hooks of mkdocs: add the pages that are made from cards, docstrings, commands, entries, studies and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import architecture
import command_pages
import component_pages
import entry_pages
import lecture_pages
import notebook_pages
import python_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent


def pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield the address and content of every file of the site that is made at the build."""
    yield from architecture.pages()
    yield from command_pages.pages()
    yield from component_pages.pages()
    yield from entry_pages.pages()
    yield from lecture_pages.pages()
    yield from notebook_pages.pages()
    yield from python_page.pages()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site."""
    for address, content in pages():
        files.append(File.generated(config, address, content=content))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Rebuild a served site when code, cards or results change."""
    config.watch += [str(ROOT / folder) for folder in ("cphloc", "registry", "recipes", "zoo")]
    return config
