"""``cphloc lock``: pin versions and hashes of entries in cphloc.lock."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "entries",
        metavar="ENTRY",
        nargs="+",
        help="entries such as unet3d-ct (newest version) or unet3d-ct@^1 (newest 1.x)",
    )
    parser.add_argument(
        "--trust",
        metavar="FILE",
        help="public ed25519 keys, as for verify; pins who signed each entry, and later versions must be signed alike",
    )


def run(options: argparse.Namespace) -> Answer:
    """Write cphloc.lock in the working folder; `cphloc.load` then loads exactly these versions."""
    from cphloc.zoo.lock import LOCK_FILE, lock

    pinned = lock(options.entries, trust=options.trust)
    rows = [(name, facts["version"], f"weights sha256 {facts['weights_sha256']}") for name, facts in pinned.items()]
    return Answer(f"{table(rows)}\nwritten to {LOCK_FILE}", pinned)
