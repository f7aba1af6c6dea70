"""``cphloc verify``: check an entry's hashes, signer, sample prediction and, with --metrics, its numbers."""

from __future__ import annotations

import argparse

from cphloc.cli.result import Answer, table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("entry", metavar="ENTRY", help="an entry such as unet3d-ct or unet3d-ct@1.0.0, or its folder")
    parser.add_argument(
        "--metrics",
        action="store_true",
        help="also evaluate again on the test cases and compare with the published numbers",
    )
    parser.add_argument(
        "--trust",
        metavar="FILE",
        help="public ed25519 keys, one a line as in ~/.ssh/authorized_keys, or PEM; the entry must be signed by one",
    )


def run(options: argparse.Namespace) -> Answer:
    """Run every check; exit code 1 where anything differs from what was published."""
    from cphloc.publishing.verify import verify

    checks = verify(options.entry, options.metrics, options.trust)
    rows = [("ok" if check.right else "WRONG", check.what, check.found) for check in checks]
    return Answer(table(rows), [vars(check) for check in checks], exit_code=0 if all(c.right for c in checks) else 1)
