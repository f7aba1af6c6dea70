"""Chromium without a window, for tests of what people see."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

PATIENCE_SECONDS = 300
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--window-size=1500,1000", "--hide-scrollbars"),
)
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""Switches that draw 3-D pages without a graphics card."""


def programs() -> tuple[str, str]:
    """Chromium and its driver. Skips the test where either is missing, except in CI, which has to install them."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    what = "Chromium and its driver are not installed, so nobody looked at the pages: apt-get install chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@contextlib.contextmanager
def opened(profile: Path, *switches: str) -> Iterator[WebDriver]:
    """A fresh Chromium that notes every request it makes.

    Args:
        profile: folder for its settings; made if it does not exist.
        switches: further ones of the command line.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    browser, driver = programs()
    options = ChromeOptions()
    options.binary_location = browser
    default = [switch for switch in SWITCHES if switch != "--disable-gpu" or not set(WEBGL) <= set(switches)]
    for switch in (*default, f"--user-data-dir={profile}", *switches):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    try:
        chrome.set_page_load_timeout(PATIENCE_SECONDS)
        chrome.set_script_timeout(PATIENCE_SECONDS)
        yield chrome
    finally:
        chrome.quit()


def requested(chrome: WebDriver) -> set[str]:
    """Addresses that the pages opened so far asked for."""
    import json

    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    return {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}


def in_scheme(chrome: WebDriver, scheme: str) -> None:
    """Show the page as for a reader who prefers the ``light`` or ``dark`` scheme."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def serious(chrome: WebDriver) -> list[str]:
    """What axe-core finds on the page that keeps people from using it by keyboard or with a screen reader."""
    import axe_core_python

    source = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    chrome.execute_cdp_cmd("Runtime.evaluate", {"expression": source})  # which the page's policy does not stop
    found = chrome.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 10, "axe looked at the page"
    return [
        f"{one['id']}: {one['help']} {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def drawn(chrome: WebDriver, selector: str) -> bytes:
    """A picture (PNG) of an element; again where a busy machine takes longer than the 10 s that the driver waits."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By

    for _ in range(9):
        with contextlib.suppress(TimeoutException):
            return chrome.find_element(By.CSS_SELECTOR, selector).screenshot_as_png
    return chrome.find_element(By.CSS_SELECTOR, selector).screenshot_as_png
