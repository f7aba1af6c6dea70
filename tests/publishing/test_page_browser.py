"""The zoo's page as people see it: in Chromium, sorted, filtered, in the light and in the dark, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import in_scheme, opened, requested, serious

from cphloc.cli import main
from cphloc.publishing.page import zoo_page

SCREENSHOTS = Path(__file__).parent.parent.parent / "runs" / "screenshots"
ENTRIES = [
    ("unet3d-ct", "segmentation", 3, "CT", {"dice": 0.75, "hd95_mm": 9.0}),
    ("unet3d-hippocampus", "segmentation", 3, "MR", {"dice": 0.89, "hd95_mm": 1.5}),
    ("retina2d-bloodcells", "detection", 2, "microscopy", {"ap50": 0.88, "map": 0.6}),
]


@pytest.fixture
def zoo(tmp_path, put_entry, entry_facts):
    import SimpleITK as sitk

    for name, task, dims, modality, metrics in ENTRIES:
        facts = entry_facts(name, "1.0.0")
        table = {n: {"value": v, "low": v - 0.05, "high": v + 0.05, "n": 8} for n, v in metrics.items()}
        changes = {"task": task, "dims": dims, "modality": [modality], "spacing_mm": None}
        changes["evaluation"] = facts["evaluation"] | {"metrics": table, "per_class": {}}
        changes["files"] = facts["files"] | {"pictures/worst.png": facts["files"]["recipe.yaml"]}
        folder = put_entry(tmp_path / "zoo", name, "1.0.0", **changes)
        (folder / "pictures").mkdir()
        shades = np.linspace(0, 255, 80 * 120).reshape(80, 120).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(shades), str(folder / "pictures" / "worst.png"))
    return tmp_path / "zoo"


def test_the_page_shows_sorts_and_filters_without_a_network(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("CPHLOC_ZOO", str(zoo))
    path = tmp_path / "page" / "zoo.html"
    assert main(["list", "zoo", "--html", str(path)]) == 0
    with opened(tmp_path / "profile") as chrome:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import Select, WebDriverWait

        def shown() -> list[str]:
            found = chrome.find_elements(By.CSS_SELECTOR, "#entries tbody tr")
            return [row.get_attribute("data-entry").partition("@")[0] for row in found if row.is_displayed()]

        def sort_by(title: str) -> list[str]:
            heads = chrome.find_elements(By.CSS_SELECTOR, "#entries th button")
            next(head for head in heads if head.text.strip() == title).send_keys(Keys.ENTER)
            return shown()

        chrome.get(path.as_uri())
        drawn = "return [...document.querySelectorAll('td, th')].length && [...document.images].every(i => i.complete)"
        WebDriverWait(chrome, 30).until(lambda _: chrome.execute_script(drawn))
        assert chrome.execute_script("return [...document.images].map(i => i.naturalWidth)") == [120] * len(ENTRIES)
        assert sort_by("value") == ["unet3d-hippocampus", "retina2d-bloodcells", "unet3d-ct"]
        assert sort_by("value") == ["unet3d-ct", "retina2d-bloodcells", "unet3d-hippocampus"]
        assert serious(chrome) == []
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            in_scheme(chrome, scheme)
            assert chrome.save_screenshot(str(SCREENSHOTS / f"zoo-{scheme}.png"))
            assert serious(chrome) == []
        Select(chrome.find_element(By.NAME, "task")).select_by_visible_text("detection")
        assert shown() == ["retina2d-bloodcells"]
        Select(chrome.find_element(By.NAME, "task")).select_by_visible_text("any")
        chrome.find_element(By.NAME, "words").send_keys("hippo mr")
        assert shown() == ["unet3d-hippocampus"]
        assert chrome.find_element(By.ID, "shown").text == "1"
        chrome.find_element(By.CSS_SELECTOR, "tr:not([hidden]) a").send_keys(Keys.ENTER)
        assert "unet3d-hippocampus@1.0.0" in chrome.title
        assert "Intended use" in [element.text for element in chrome.find_elements(By.TAG_NAME, "h2")]
        assert chrome.execute_script("return document.images[0].naturalWidth") == 120
        assert serious(chrome) == []
        assert chrome.save_screenshot(str(SCREENSHOTS / "entry.png"))
        chrome.find_element(By.LINK_TEXT, "All entries").click()
        assert chrome.title == "cphloc zoo"
        assert {u.partition(":")[0] for u in requested(chrome)} <= {"file", "data", "chrome", "chrome-untrusted"}


def test_a_zoo_of_200_entries_opens_and_filters_within_a_second(tmp_path, put_entry):
    for number in range(200):
        put_entry(tmp_path / "zoo", f"unet3d-part{number}", "1.0.0", summary=f"Finds part {number} of the body")
    path = zoo_page(tmp_path / "zoo")
    with opened(tmp_path / "profile") as chrome:
        chrome.get(path.as_uri())
        times = chrome.execute_script(
            """const page = performance.getEntriesByType("navigation")[0], form = document.querySelector("form");
            const started = performance.now();
            form.words.value = "part 17";
            form.dispatchEvent(new Event("input"));
            document.body.getBoundingClientRect();
            return [page.loadEventEnd, performance.now() - started];"""
        )
        assert chrome.execute_script("return document.querySelector('#shown').textContent") == "12"
    assert max(times) < 1000, times
