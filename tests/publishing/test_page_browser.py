"""The zoo's page as people see it: in Chromium, sorted, filtered, in the light and in the dark, without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import opened, requested

from cphloc.cli import main

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
        from selenium.webdriver.support.ui import Select, WebDriverWait

        def shown(selector: str) -> list[str]:
            found = chrome.find_elements(By.CSS_SELECTOR, selector)
            return [element.text for element in found if element.is_displayed()]

        def sort_by(title: str) -> list[str]:
            heads = chrome.find_elements(By.CSS_SELECTOR, "#entries th button")
            next(head for head in heads if head.text.strip() == title).click()
            return [text.partition("@")[0] for text in shown("#entries tbody td:first-child")]

        chrome.get(path.as_uri())
        pictures = chrome.find_elements(By.CSS_SELECTOR, ".tile img")
        drawn = "return [...document.querySelectorAll('.tile img')].every(i => i.complete && i.naturalWidth === 120)"
        WebDriverWait(chrome, 30).until(lambda _: chrome.execute_script(drawn))
        assert len(pictures) == len(ENTRIES)
        assert sort_by("dice") == ["unet3d-hippocampus", "unet3d-ct", "retina2d-bloodcells"]
        assert sort_by("dice") == ["unet3d-ct", "unet3d-hippocampus", "retina2d-bloodcells"]
        assert sort_by("hd95_mm")[:2] == ["unet3d-hippocampus", "unet3d-ct"], "of a distance the smallest is best"
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            assert chrome.save_screenshot(str(SCREENSHOTS / f"zoo-{scheme}.png"))

        Select(chrome.find_element(By.NAME, "task")).select_by_visible_text("detection")
        assert len(shown(".tile")) == len(shown("#entries tbody tr")) == len(shown("summary")) == 1
        titles = shown("#entries th")
        assert any("ap50" in t for t in titles)
        assert not any("dice" in t for t in titles), "columns that none of the shown has are left out"
        Select(chrome.find_element(By.NAME, "task")).select_by_visible_text("any")
        chrome.find_element(By.NAME, "words").send_keys("hippo mr")
        assert [text.split("\n")[0] for text in shown(".tile strong")] == ["unet3d-hippocampus@1.0.0"]
        chrome.find_element(By.CSS_SELECTOR, ".tile:not([hidden])").click()
        assert "Intended use" in shown("details h3")
        assert {u.partition(":")[0] for u in requested(chrome)} <= {"file", "data", "chrome", "chrome-untrusted"}
