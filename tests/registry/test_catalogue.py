from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cphloc import paths
from cphloc.errors import CphlocError, InputError, NotFoundError, RecipeError
from cphloc.registry import catalogue, kinds
from cphloc.registry.timm_names import timm_names


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty registry."""
    monkeypatch.setattr(paths, "registry_folders", lambda: [tmp_path])
    return tmp_path


def write(folder: Path, kind: str, name: str, text: str) -> None:
    (folder / kind).mkdir(exist_ok=True)
    (folder / kind / f"{name}.yaml").write_text(text, encoding="utf-8")


LOSS = "import: fixture_components:Giou\nsummary: A loss\ntakes: boxes\n"


@pytest.mark.parametrize("kind", kinds.ALL)
def test_every_shipped_card_is_valid_and_its_arguments_are_readable(kind):
    for name, card in catalogue.cards(kind).items():
        assert (card.kind, card.name) == (kind, name)
        assert catalogue.summaries(kind)[name] == card.summary
        catalogue.arguments(card)


def test_a_folder_of_the_environment_adds_cards(tmp_path, monkeypatch):
    write(tmp_path, "loss", "extra", LOSS)
    monkeypatch.setenv("CPHLOC_REGISTRY", str(tmp_path))
    assert catalogue.card("loss", "extra").source == str(tmp_path / "loss" / "extra.yaml")
    assert set(catalogue.cards("loss")) > {"extra"}


def test_a_card_added_while_running_is_seen(folder):
    assert list(catalogue.cards("loss")) == []
    write(folder, "loss", "late", LOSS)
    assert list(catalogue.cards("loss")) == ["late"]


def test_two_cards_of_one_name_are_refused(tmp_path, monkeypatch):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        write(folder, "loss", "same", LOSS)
    monkeypatch.setattr(paths, "registry_folders", lambda: folders)
    with pytest.raises(InputError, match="both are the loss 'same'; rename one"):
        catalogue.cards("loss")


@pytest.mark.parametrize(
    ("kind", "text", "report"),
    [
        ("loss", "- a", "{}:1:1: (top): not a card; write 'import:', 'summary:' and so on"),
        ("loss", LOSS.replace("summary", "sumary"), "{}:2:1: sumary: unknown key 'sumary'; did you mean 'summary'?"),
        ("loss", LOSS.replace(":Giou", ""), "{}:1:9: import: 'fixture_components' does not match "),
        ("loss", LOSS + "dims: 3\n", "{}:4:7: dims: 3 is not a list; give a list of (1, 2 or 3) (default [2, 3])"),
        ("loss", LOSS + "dims: [4]\n", "{}:4:8: dims[0]: 4 is not one of 1, 2 or 3; "),
        ("loss", "summary: A loss\n", "{0}:1:1: import: a loss card needs it; add 'import:'\n"
         "{0}:1:1: takes: a loss card needs it; add 'takes:'"),
        ("head", LOSS, "{}:1:1: rung: a head card needs it; add 'rung:'"),
        ("head", "import: a:B\nsummary: A head\nrung: maks\n", "{}:3:7: rung: 'maks' is not one of label, region, "
         "boxes, mask; did you mean 'mask'?"),
        ("head", "import: a:B\nsummary: A head\nrung: mask\nloss: score\ngives: [mask, Boxes]\n",
         "{0}:5:8: gives: 'Boxes' is not one of mask, boxes, objects, attention, labels; did you mean 'boxes'?\n"
         "{0}:4:7: loss: 'score' is not one of mask, scores, boxes, attention; did you mean 'scores'?"),
        ("loss", LOSS + "loss: mask\n", "{}:4:1: loss: a loss card has no 'loss'; remove 'loss:'"),
        ("dataset", "import: a:B\nsummary: S\nlicence: L\ncitation: C\nurl: U\nmodality: [CT, PET]\n",
         "{}:6:11: modality: 'PET' is not one of any, microscopy, CT, MR, PT, NM, US, MG, CR, DX, RF, XA, OPT, OP, ES, "
         "XC, SM, GM; did you mean 'PT'?"),
    ],
)  # fmt: skip
def test_a_wrong_card_is_reported_with_its_position(folder, kind, text, report):
    write(folder, kind, "wrong", text)
    assert "wrong" in catalogue.summaries(kind), "one wrong card must not hide the others"
    with pytest.raises(RecipeError) as caught:
        catalogue.card(kind, "wrong")
    assert str(caught.value).startswith(report.format(folder / kind / "wrong.yaml"))


@pytest.mark.parametrize(
    ("kind", "name", "report"),
    [
        ("head", "unett", "unknown head 'unett'; did you mean 'unet'?"),
        ("head", "u_net", "the head 'u_net' is now called 'unet'; write 'unet', or run: cphloc migrate"),
        ("head", "focal", "'focal' is a loss, not a head; heads: retina, unet"),
        ("neck", "unet", "'unet' is a head, not a neck; necks: fpn, fpn_2d"),
        ("backbone", "lung_net", "the backbone 'lung_net' is in plug-in 'cphloc-lungs', not installed; "
         "pip install cphloc-lungs"),
        ("head", "zzz", "unknown head 'zzz'; heads: retina, unet"),
        ("optimizer", "Adam", "unknown optimizer 'Adam'; did you mean 'AdamW'?"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_explained(fixture_registry, kind, name, report):
    with pytest.raises(NotFoundError) as caught:
        catalogue.card(kind, name)
    assert str(caught.value) == report


def test_an_unknown_kind_is_explained():
    with pytest.raises(InputError, match="no kind 'heads'; did you mean 'head'"):
        catalogue.cards("heads")


def test_resolve_imports_the_class():
    from cphloc.components.loss.dice import Dice

    assert catalogue.resolve("loss", "dice") is Dice


def test_a_registry_of_ten_thousand_cards_lists_in_a_second(folder):
    (folder / "loss").mkdir()
    for i in range(10_000):
        (folder / "loss" / f"loss_{i:05}.yaml").write_text(LOSS.replace("A loss", f"Loss number {i}"))
    started = time.process_time()
    found = catalogue.summaries("loss")
    assert time.process_time() - started < 1
    assert found["loss_00042"] == "Loss number 42"
    started = time.process_time()
    catalogue.card("loss", "loss_09999")
    assert time.process_time() - started < 0.1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=200), st.text(alphabet="imports:umary\n- {}[]0,&*!", max_size=80)))
def test_any_bytes_as_a_card_give_a_report(folder, text):
    write(folder, "loss", "fuzzed", "")
    (folder / "loss" / "fuzzed.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    catalogue._read_card.cache_clear()
    try:
        said = str(sorted(catalogue.summaries("loss"))) + catalogue.card("loss", "fuzzed").name
    except CphlocError as error:
        said = str(error)
    assert "fuzzed" in said


def test_listing_needs_neither_torch_nor_the_plug_in():
    code = (
        "import sys; from cphloc.registry import catalogue, kinds\n"
        "[catalogue.arguments(card) for kind in kinds.ALL for card in catalogue.cards(kind).values()]\n"
        "print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "timm", "numpy"} & set(done.stdout.split())


def test_the_list_of_timm_names_is_that_of_timm():
    import timm

    assert list(timm_names()) == timm.list_models(), "run: python -m cphloc.registry.timm_names"
