"""``cphloc ui``: open the MLflow UI on the project's store, at the table of published entries."""

from __future__ import annotations

import argparse
import signal
import sys
import webbrowser

from cphloc.cli.result import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--port", type=int, default=5000, metavar="N", help="port of the UI on this machine; default 5000"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address; do not open a browser")


def run(options: argparse.Namespace) -> Answer:
    """Register the entries of all zoo folders, and serve until interrupted; of a server, print only its address."""
    from cphloc.tracking.ui import start_ui, stop_ui

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))

    server, url = start_ui(options.port, _register)
    if not options.no_browser:
        webbrowser.open(url)
    if server is not None:
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        try:
            server.wait()
        finally:
            stop_ui(server)
    return Answer(url, {"url": url})


def _register() -> None:
    """Register what is new in the zoo folders; what cannot be is said on stderr, and the UI opens without it."""
    from cphloc import paths
    from cphloc.errors import CphlocError
    from cphloc.publishing.register import register_zoos

    try:
        problems = register_zoos(paths.zoos())
    except CphlocError as error:
        problems = [f"entries are not registered: {error}"]
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
