"""3-D results in a page: what its images hold, and what Chromium draws of them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from browser import WEBGL, drawn, in_scheme, opened, requested, serious

from cphloc.inference import viewer
from cphloc.inference.batch_report import write_report
from cphloc.structures.geometry import Geometry
from cphloc.structures.merging import MergedClasses, Merging


def image(layer):
    """A layer as nibabel, an independent reader of NIfTI, reads it."""
    content = gzip.decompress(base64.b64decode(layer["data"]))
    return nibabel.Nifti1Image.from_bytes(content)


def layers_of(scene):
    return {layer["name"]: layer for layer in scene["layers"]}


@pytest.fixture
def oblique():
    turned = np.array([[0.0, 0.6, 0.8], [0.0, -0.8, 0.6], [1.0, 0.0, 0.0]])
    return Geometry((5, 300, 20), (3.0, 0.5, 1.0), (10.0, -20.0, 30.0), turned)


def test_a_large_image_is_averaged_down_and_stays_in_its_place(oblique):
    scan = np.zeros(oblique.shape, np.float32)
    scan[2, 150:153, 4] = 100.0  # the block of voxels 150 to 152
    mask = np.zeros(oblique.shape, np.uint8)
    mask[2, 151, 4] = 7
    found = layers_of(viewer.scene("a", scan, oblique, mask, classes={7: "node"}))
    grey, labels = image(found["scan"]), image(found["mask"])
    assert grey.shape == labels.shape == (20, 100, 5)
    assert np.asarray(grey.dataobj)[4, 50, 2] == pytest.approx(100.0)
    assert np.asarray(labels.dataobj)[4, 50, 2] == 7, "a lesion of one voxel is kept"
    assert [one["name"] for one in found["mask"]["labels"]] == ["node"]
    lps = oblique.affine @ [2, 151, 4, 1]  # cphloc in LPS, NIfTI in RAS
    assert grey.affine @ [4, 50, 2, 1] == pytest.approx(lps * [-1, -1, 1, 1], abs=1e-4)


def test_attention_is_shown_relative_to_its_largest_value():
    grid = Geometry.regular((2, 3, 4))
    attention = np.linspace(0, 1e-6, 24).reshape(grid.shape)
    layer = layers_of(viewer.scene("a", np.zeros(grid.shape), grid, attention=attention))["attention"]
    assert pytest.approx(attention * 1e6) == np.asarray(image(layer).dataobj).T


def test_boxes_are_frames_around_their_voxels():
    grid = Geometry.regular((6, 8, 10))
    boxes = [((1.0, 2.0, 3.0, 5.0, 6.0, 9.0), 2), ((0.2, 0.2, 0.2, 0.8, 0.8, 0.8), 3)]
    drawn = np.asarray(image(layers_of(viewer.scene("a", np.zeros(grid.shape), grid, boxes=boxes))["boxes"]).dataobj).T
    expected = np.zeros(grid.shape, int)
    for z in (1, 4):
        expected[z, [2, 5], 3:9] = expected[z, 2:6, 3] = expected[z, 2:6, 8] = 2
    for y in (2, 5):
        expected[1:5, y, [3, 8]] = 2
    expected[0, 0, 0] = 3
    assert (drawn == expected).all()


def test_masks_and_boxes_have_the_names_of_their_own_classes(oblique):
    """The mask merges two classes of the data set, the boxes keep them."""
    both = {1: "cyst", 2: "glioma"}
    classes = MergedClasses(both, {"mask": Merging({1: "tumour"}, {1: both})})
    mask = np.ones(oblique.shape, np.uint8)
    boxes = [((1, 3, 4, 4, 30, 12), 2)]
    found = layers_of(viewer.scene("a", np.zeros(oblique.shape), oblique, mask, boxes=boxes, classes=classes))
    names = {layer: [label["name"] for label in found[layer]["labels"]] for layer in ("mask", "boxes")}
    assert names == {"mask": ["tumour"], "boxes": ["glioma"]}


def test_texts_of_a_case_end_no_script():
    scene = viewer.scene("</script><script>alert(1)</script>", np.zeros((2, 2, 2)), Geometry.regular((2, 2, 2)))
    html = viewer.viewer_html([scene])
    assert html.count("</script>") == 1
    found = json.loads(re.search(r'id="view-data">(.*)</script>', html, re.DOTALL)[1])
    assert found[0]["name"] == scene["name"]


@pytest.fixture
def rows(tmp_path):
    """A bright ball in a dark scan, with a mask on one side, a box and attention, as a prediction saves them."""
    grid = np.indices((24, 32, 40)) - np.array([12, 16, 20])[:, None, None, None]
    ball = (grid**2).sum(0) < 90
    mask, attention = ball & (grid[2] < 0), np.exp(-(grid**2).sum(0) / 60).astype(np.float32)
    files = {"scan": ball * 800.0 - 400, "mask": mask.astype(np.uint8), "attention": attention}
    for name, values in files.items():
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"case_{name}.nii.gz"))
    written = [str(tmp_path / f"case_{part}.nii.gz") for part in ("mask", "attention")]
    box = {"name": "lesion", "number": 2, "score": 0.9, "voxels": [2, 6, 10, 22, 26, 30]}
    row = {"case": "<i>case", "input": str(tmp_path / "case_scan.nii.gz"), "status": "done", "seconds": 1.0}
    return [row | {"error": "", "files": written, "boxes": [box], "classes": {"1": "lesion"}}]


@pytest.mark.slow
def test_a_report_shows_scan_mask_boxes_and_attention_without_a_network(rows, tmp_path):
    path = tmp_path / "r.html"
    write_report(path, rows)
    assert "unsafe" not in re.search(r'Content-Security-Policy" content="([^"]+)"', path.read_text())[1]
    with opened(tmp_path / "profile", *WEBGL) as chrome:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import Select, WebDriverWait

        def ready(_):
            return chrome.execute_script(
                "return document.querySelector('#view-canvas').dataset.ready"
                " || document.querySelector('#view-problem').textContent"
            )

        def counted():
            """The canvas, and how many of its pixels are reddish (mask), greenish (box), and bright grey (scan)."""
            red, green, blue = np.moveaxis(picture(chrome).astype(int), -1, 0)
            counts = (red > blue + 60) & (red > green + 60), (green > red + 30), (red > 180) & (abs(red - blue) < 12)
            return [int(count.sum()) for count in counts]

        def toggle(name):
            chrome.find_element(By.CSS_SELECTOR, f"#view-layers input[name={name}]").click()

        chrome.get(path.as_uri())
        assert WebDriverWait(chrome, 120).until(ready) == "yes"
        assert serious(chrome) == []
        toggle("attention")
        red, green, grey = counted()
        assert min(red, green, grey) > 500
        toggle("mask")
        assert counted()[0] < 0.02 * red
        toggle("boxes")
        assert counted()[1] < 0.02 * green
        toggle("attention")
        assert counted()[0] > 500
        toggle("attention")
        high = chrome.find_element(By.ID, "view-high")
        chrome.execute_script("arguments[0].value = 4000; arguments[0].dispatchEvent(new Event('input'))", high)
        assert counted()[2] < 0.2 * grey, "a wider window is darker"
        Select(chrome.find_element(By.ID, "view-kind")).select_by_index(1)
        before = picture(chrome)
        drag(chrome)
        assert (before != picture(chrome)).mean() > 0.001
        assert {u.partition(":")[0] for u in requested(chrome)} <= {"file", "data", "chrome", "chrome-untrusted"}
        for scheme in ("light", "dark"):
            in_scheme(chrome, scheme)
            assert serious(chrome) == []


def picture(chrome) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(drawn(chrome, "#view-canvas"))).convert("RGB"))


def drag(chrome) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    canvas = chrome.find_element(By.ID, "view-canvas")
    ActionChains(chrome).drag_and_drop_by_offset(canvas, 120, 60).perform()
