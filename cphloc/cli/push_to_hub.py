"""``cphloc push-to-hub``: push an entry to a repository of the Hugging Face Hub, with a model card."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("entry", metavar="ENTRY", help="a published entry such as unet3d-hippocampus@0.2.2")
    repository = "repository on the Hub, owner/name; made if it does not exist. It holds one entry, a tag per version"
    parser.add_argument("--repo", required=True, metavar="R", help=repository)
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.epilog = "The token is that of HF_TOKEN or of 'hf auth login'; HF_ENDPOINT names another Hub."


def run(options: argparse.Namespace) -> Answer:
    """Push the entry, and print how it is loaded."""
    from cphloc.publishing.hub import push_to_hub

    pushed = push_to_hub(options.entry, options.repo, options.private)
    text = f'pushed {pushed.entry} to {pushed.url}; load it with cphloc.load("{pushed.spec}")'
    return Answer(text, {"entry": pushed.entry, "spec": pushed.spec, "revision": pushed.revision, "url": pushed.url})
