"""`cphloc ui` as people use it: the real MLflow UI in a real browser, two entries selected and compared."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import PATIENCE_SECONDS, opened, programs, requested

from cphloc.cli import main

pytestmark = pytest.mark.usefixtures("own_folders")

SCREENSHOT = Path(__file__).parent.parent.parent / "runs" / "screenshots" / "comparison.png"


@contextmanager
def served_ui(folder: Path) -> Iterator[str]:
    """The address that the command prints, once something answers there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cphloc.cli", "ui", "--no-browser", "--port", str(port)]
    with (folder / "ui.log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        url = server.stdout.readline().split()[0]
        _wait_for(f"http://127.0.0.1:{port}/health", server)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))  # nothing that the command started still holds it


def _wait_for(url: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"nothing answers at {url}; exit code {server.poll()}")


def metrics(**values: float) -> dict[str, dict]:
    return {n: {"value": v, "low": v - 0.011, "high": v + 0.013, "n": 8} for n, v in values.items()}


def test_two_entries_are_selected_and_compared(tmp_path, put_entry, entry_facts, capsys, monkeypatch):
    programs()
    monkeypatch.setattr("cphloc.publishing.agreement.zoo_disagreements", lambda zoo: {})  # numbers are made up
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    zoo, shown = tmp_path / "zoo", {}
    for name, dice in (("unet3d-ct", 0.812), ("unet3d-petct", 0.937)):
        shown[name] = metrics(dice=dice)  # MLflow draws only as many rows of its table as are in sight
        evaluation = entry_facts(name, "1.0.0")["evaluation"] | {"metrics": shown[name], "per_class": {}}
        put_entry(zoo, name, "1.0.0", evaluation=evaluation)
    assert main(["zoo", "index", str(zoo)]) == 0
    assert "2 versions in" in capsys.readouterr().out

    with served_ui(tmp_path) as url, opened(tmp_path / "profile", "--window-size=1500,2600") as chrome:
        page = WebDriverWait(chrome, PATIENCE_SECONDS)

        def text() -> str:
            return chrome.find_element(By.TAG_NAME, "body").text

        chrome.get(url)
        page.until(lambda _: "unet3d-ct@1.0.0" in text() and "unet3d-petct@1.0.0" in text())
        assert "cphloc-zoo" in text()
        for box in chrome.find_elements(By.CSS_SELECTOR, ".ag-row input.ag-checkbox-input"):
            box.click()
        compare = page.until(lambda _: [b for b in chrome.find_elements(By.TAG_NAME, "button") if b.text == "Compare"])
        compare[0].click()
        page.until(lambda _: "Comparing 2 Runs" in text() and "test/dice_ci_low" in text())
        said = text().split("\n")
        for table in shown.values():
            for name, found in table.items():
                assert {f"test/{name}", f"test/{name}_ci_low", f"test/{name}_ci_high"} <= set(said)
                assert {f"{value:.3f}".rstrip("0") for value in (found["low"], found["high"])} <= set(said)
        SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
        assert chrome.save_screenshot(str(SCREENSHOT))
        elsewhere = {u for u in requested(chrome) if u.startswith("http") and "//127.0.0.1:" not in u}
    assert elsewhere == set()
