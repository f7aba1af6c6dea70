"""`cphloc ui` as people use it: the real MLflow UI in a real browser, with every shipped entry."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import PATIENCE_SECONDS, opened, programs, requested

from cphloc import paths
from cphloc.errors import InputError
from cphloc.tracking.ui import START_PATH
from cphloc.zoo.entries import list_entries

pytestmark = pytest.mark.usefixtures("own_folders")

SCREENSHOTS = Path(__file__).parent.parent.parent / "runs" / "screenshots"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served_ui(folder: Path) -> Iterator[str]:
    """The address that the command prints when the UI answers."""
    port = free_port()
    command = [sys.executable, "-m", "cphloc.cli", "ui", "--quiet", "--no-browser", "--port", str(port)]
    with (folder / "ui.log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline()
        assert line, (folder / "ui.log").read_text()
        yield line.split()[0]
    finally:
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=60)
    assert rest + (folder / "ui.log").read_text() == "", "nothing else is printed"
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))  # nothing that the command started still holds it


class Page:
    """What a person does on a page."""

    def __init__(self, chrome) -> None:
        self.chrome = chrome

    @property
    def text(self) -> str:
        return self.chrome.execute_script("return document.body.innerText")

    def shows(self, *texts: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while missing := [text for text in texts if text not in self.text]:
            if time.monotonic() > end:
                pytest.fail(f"the page does not show {missing}: {self.text}")
            time.sleep(0.2)

    def rows(self) -> dict[str, list[str]]:
        """Cells of the table of runs that lie within the window, by the name of the run."""
        script = """
            const shown = [...document.querySelectorAll('.ag-row .ag-cell')].filter(cell => {
                const at = cell.getBoundingClientRect();
                const top = document.elementFromPoint((at.left + at.right) / 2, (at.top + at.bottom) / 2);
                return at.right <= innerWidth && at.bottom <= innerHeight && cell.contains(top);
            });
            const row = cell => cell.closest('.ag-row').getAttribute('row-index');
            return shown.map(cell => [row(cell), cell.innerText.trim().split('\\n').pop()]);
        """
        cells: dict[str, list[str]] = {}
        for row, text in self.chrome.execute_script(script):
            cells.setdefault(row, []).append(text)
        names = {row: next((text for text in texts if "@" in text), row) for row, texts in cells.items()}
        return {names[row]: texts for row, texts in sorted(cells.items(), key=lambda item: int(item[0]))}

    def has_rows(self, names: list[str]) -> None:
        """Wait until the table shows these runs in this order."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (rows := list(self.rows())) != names and time.monotonic() < end:
            time.sleep(0.2)
        assert rows == names

    def save(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        assert self.chrome.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def sort_by(self, column: str) -> None:
        """Click the head of a column, and wait until the page has asked for the runs again."""
        self.chrome.find_element("css selector", f"[data-testid='sort-header-{column}']").click()
        self.shows(f"Sort: {column}\n")


@pytest.mark.slow
def test_every_shipped_entry_is_seen_sorted_compared_and_read(tmp_path):
    programs()
    from selenium.webdriver.common.by import By

    entries = {str(one): one.entry for one in list_entries(zoos=[str(paths.shipped("zoo"))])}
    with served_ui(tmp_path) as url, opened(tmp_path / "profile") as chrome:
        page = Page(chrome)
        chrome.set_window_size(1500, 600 + 40 * len(entries))  # the page draws only the rows that fit
        chrome.get(url)
        page.shows("cphloc-zoo", "headline_baseline", f"{len(entries)} matching runs")
        rows = page.rows()
        page.save("zoo")
        opened_panel = "return localStorage.getItem('mlflow.assistant.panelOpen_v1')"
        assert chrome.execute_script(opened_panel) != "true", "MLflow's chat does not cover the last columns"
        assert set(rows) == set(entries)
        for name, entry in entries.items():
            metric, measured = entry.headline
            assert f"{entry.evaluation.split}/{metric}" in rows[name]
            assert str(round(measured.value, 4)) in rows[name]
            assert entry.task in rows[name], "the columns lie within the window"
        metrics = [f"{entries[name].evaluation.split}/{entries[name].headline[0]}" for name in rows]
        assert metrics == sorted(metrics), "entries that can be compared are beside each other"

        page.sort_by("headline")
        best_first = sorted(entries, key=lambda name: -entries[name].headline[1].value)
        page.has_rows(best_first)
        page.save("sorted")
        page.sort_by("headline")
        page.has_rows(best_first[::-1])

        address = chrome.find_element(By.PARTIAL_LINK_TEXT, "unet3d-petct@").get_attribute("href").partition("?")[0]
        for box in chrome.find_elements(By.CSS_SELECTOR, ".ag-row input.ag-checkbox-input")[:2]:
            box.click()
        page.shows("Compare")
        next(b for b in chrome.find_elements(By.TAG_NAME, "button") if b.text == "Compare").click()
        page.shows("Comparing 2 Runs", "headline_baseline")
        page.save("comparison")

        chrome.get(address)
        page.shows("unet3d-petct@", "Intended use")
        page.save("card")
        chrome.get("about:blank")
        chrome.get(f"{address}/artifacts/pictures/test-median.png")
        end = time.monotonic() + PATIENCE_SECONDS
        width = "return Math.max(0, ...[...document.images].map(image => image.naturalWidth))"
        while chrome.execute_script(width) < 300 and time.monotonic() < end:
            time.sleep(0.2)
        assert chrome.execute_script(width) >= 300
        page.save("picture")
        elsewhere = {u for u in requested(chrome) if u.startswith("http") and "//127.0.0.1:" not in u}
    assert elsewhere == set()


def test_the_newest_version_of_every_shipped_entry_is_listed_when_the_address_is_printed(tmp_path, mlflow_database):
    shutil.copyfile(mlflow_database, tmp_path / "mlflow.db")
    with served_ui(tmp_path) as url:
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = answer.read().decode()
        asked = {"experiment_ids": [re.search(r"#/experiments/(\d+)/", page)[1]], "max_results": 100}
        asked["filter"] = "tags.`cphloc.newest` = 'true'"
        address = url.removesuffix(START_PATH) + "/ajax-api/2.0/mlflow/runs/search"
        request = urllib.request.Request(address, json.dumps(asked).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            runs = json.load(answer)["runs"]
    shown = {run["info"]["run_name"]: {m["key"]: m["value"] for m in run["data"]["metrics"]} for run in runs}
    for listing in list_entries(zoos=[str(paths.shipped("zoo"))]):
        metrics = shown.pop(str(listing))
        assert metrics["headline"] == pytest.approx(listing.entry.headline[1].value, abs=1e-4)
        assert "headline_baseline" in metrics
    assert not shown


def test_a_port_in_use_is_one_line(tmp_path):
    from cphloc.tracking.ui import start_ui

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used .* --port {port + 1}"):
            start_ui(port)


def test_the_first_request_defines_no_tables_while_entries_are_registered(tmp_path):
    """Half-defined tables of one thread break the queries of every other one."""
    looked = """
        import sys
        from cphloc.tracking.ui import _server
        _server("sqlite:///" + sys.argv[1], "")
        before = set(sys.modules)
        try:
            import mlflow.server.auth
        except ImportError:
            pass
        new = {name for name in set(sys.modules) - before if ".db" in name}
        assert "mlflow.server.auth.db.models" in before and not new, new
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(looked), str(tmp_path / "mlflow.db")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
