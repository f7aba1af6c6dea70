"""``cphloc ui``: open the MLflow UI on the project's store, at the zoo's experiment."""

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
    """Serve until interrupted; where the store is a tracking server, print only its address."""
    from cphloc.tracking.ui import start_ui, stop_ui

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))

    server, url = start_ui(options.port)
    if not options.no_browser:
        webbrowser.open(url)
    if server is not None:
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        try:
            server.wait()
        finally:
            stop_ui(server)
    return Answer(url, {"url": url})
