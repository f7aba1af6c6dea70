"""The example plug-in of docs/plugin-example: every kind is found, used in a training, and held to its contract."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

import cphloc
from cphloc.cli import main
from cphloc.config import yamlio
from cphloc.errors import InputError
from cphloc.recipe.plugins import used_plugins
from cphloc.recipe.recipe import load
from cphloc.registry import catalogue, plugins
from cphloc.registry.contract import call_for_number, construct
from cphloc.registry.kinds import ALL

EXAMPLE = Path(__file__).parents[2] / "docs" / "plugin-example"
RECIPE = EXAMPLE / "recipe.yaml"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install a copy of the example: its package, and what pip would write beside it. Gives the package's folder."""
    site, info = tmp_path / "site", tmp_path / "site" / "cphloc_example-1.0.0.dist-info"
    shutil.copytree(EXAMPLE / "cphloc_example", site / "cphloc_example")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cphloc-example\nVersion: 1.0.0\n")
    (info / "entry_points.txt").write_text("[cphloc.registry]\nexample = cphloc_example.cards\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("CPHLOC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    plugins.installed.cache_clear()
    yield site / "cphloc_example"
    plugins.installed.cache_clear()
    for name in [n for n in sys.modules if n.startswith("cphloc_example")]:
        del sys.modules[name]


def cards_of_plugin() -> dict[str, list[str]]:
    mine = {kind: [n for n, c in catalogue.cards(kind).items() if plugins.plugin_of(c.source)] for kind in ALL}
    return {kind: names for kind, names in mine.items() if names}


def test_the_example_adds_every_kind_of_a_training_and_is_read_without_being_imported(plugin):
    assert {kind: len(names) for kind, names in cards_of_plugin().items()} == dict.fromkeys(set(ALL) - {"measure"}, 1)
    for kind, names in cards_of_plugin().items():
        catalogue.arguments(catalogue.card(kind, names[0]))
    assert [a.name for a in catalogue.arguments(catalogue.card("optimizer", "ExampleSign"))] == ["lr", "lr_scale"]
    assert "cphloc_example" not in sys.modules


def test_a_recipe_that_uses_all_of_them_trains(plugin):
    assert main(["check", str(RECIPE)]) == 0
    run = cphloc.train(RECIPE, {"train.steps": 2, "train.validate_every": 1})
    assert run.metrics["val/example_area_error"] >= 0
    assert used_plugins(run.recipe) == {"cphloc-example": "1.0.0"}


def test_a_recipe_of_cphloc_alone_uses_no_plug_in():
    assert used_plugins(load("demo")) == {}


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "message"),
    [
        ("neck", "example_mix", "class Mix(", "class Mixed(", "cannot be imported"),
        ("neck", "example_mix", "class Mix(nn.Module)", "class Mix(object)", "is not a torch.nn.Module"),
        ("neck", "example_mix", "self, levels: Levels, ch", "self, pyramid: Levels, ch", "takes no argument 'levels'"),
        ("neck", "example_mix", "        self.levels = tuple", "        self.given = tuple", "has no levels"),
        ("neck", "example_mix", "Level(channels, level.stride) for", "channels for", "publishes levels = (16, 16)"),
        ("neck", "example_mix", "channels, 1) for level", "channels, 'x') for level", "raised "),
        ("head", "example_pixels", "def decode", "def decoded", "has no decode"),
        ("loss", "example_l1", "def forward(self, logits", "def loss(self, logits", "has no forward"),
        ("optimizer", "ExampleSign", "lr: float = 1e-3", "rate: float = 1e-3", "takes no argument 'lr'"),
        ("schedule", "example_halves", "def __call__", "def at", "has no __call__"),
    ],
)  # fmt: skip
def test_a_class_that_breaks_the_contract_of_its_kind_is_one_clear_line(plugin, kind, name, old, new, message):
    from cphloc.structures.levels import Level

    source = plugin / "models.py"
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new))
    importlib.invalidate_caches()
    arguments = {"classes": ["disc"]} if kind == "head" else {}
    with pytest.raises(InputError) as caught:
        construct(kind, name, arguments, levels=(Level(4, (1, 1)), Level(8, (2, 2))), params=[])
    assert message in str(caught.value)
    assert f"the {kind} '{name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_metric_or_schedule_that_gives_no_number_is_one_clear_line(plugin):
    card = catalogue.card("metric", "example_area_error")
    with pytest.raises(InputError, match=r"metric 'example_area_error' of plug-in 'cphloc-example' .* gave 'good'"):
        call_for_number(card, lambda: "good")
    with pytest.raises(InputError, match="raised ZeroDivisionError"):
        call_for_number(card, lambda: 1 / 0)


def test_a_transform_without_a_method_is_one_clear_line(plugin):
    source = plugin / "data.py"
    source.write_text(source.read_text().replace("def __call__(self, image", "def invert(self, image"))
    with pytest.raises(InputError, match=r"transform 'ExampleInvert' .* has no draw or with_annotation or __call__"):
        construct("transform", "ExampleInvert", {})


def test_an_entry_says_which_plug_in_to_install(tmp_path, put_entry, own_folders, monkeypatch, capsys):
    folder = put_entry(tmp_path / "zoo", "discs", "1.0.0")
    facts = yamlio.load(folder / "entry.yaml").plain
    facts["origin"]["plugins"] = {"cphloc-example": "1.0.0"}
    (folder / "entry.yaml").write_text(yamlio.dump(facts))
    monkeypatch.setenv("CPHLOC_ZOO", str(tmp_path / "zoo"))
    with pytest.raises(InputError, match=r"pip install cphloc-example==1.0.0"):
        cphloc.load("discs")
    assert main(["check", str(folder / "recipe.yaml")]) == 2
    assert "pip install cphloc-example==1.0.0" in capsys.readouterr().out
