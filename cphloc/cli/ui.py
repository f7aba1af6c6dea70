"""``cphloc ui``: open the MLflow UI on the project's store, at the table of published entries."""

from __future__ import annotations

import argparse
import signal
import sys
import webbrowser
from collections.abc import Callable, Sequence

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--port", type=int, default=5000, metavar="N", help="port of the UI on this machine; default 5000"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address; do not open a browser")


def run(options: argparse.Namespace) -> Answer:
    """Show the newest version of each entry, open the UI, register the others, and serve until interrupted.

    Of a server, print only its address.
    """
    from cphloc.publishing.register import register_zoos, show_newest
    from cphloc.tracking.ui import start_ui

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    server, url = start_ui(options.port)
    try:
        problems = _problems(show_newest)
        if server is not None:
            print(f"{url}  (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            webbrowser.open(url)
        for problem in dict.fromkeys([*problems, *_problems(register_zoos)]):
            print(f"warning: {problem}", file=sys.stderr)
        if server is not None:
            server.wait()
    finally:
        if server is not None:
            server.stop()
    return Answer(url, {"url": url})


def _problems(register: Callable[[Sequence[str]], list[str]]) -> list[str]:
    """Register what is new in the zoo folders, and return what cannot be; the UI opens without it."""
    from cphloc import paths
    from cphloc.errors import CphlocError

    try:
        return register(paths.zoos())
    except CphlocError as error:
        return [f"entries are not registered: {error}"]
