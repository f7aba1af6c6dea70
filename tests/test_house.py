"""The rules of the house, read off the source: who may import whom, and where things are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cphloc"

ROWS = [
    {"errors", "paths", "download", "__init__"},
    {"yamlio", "levels", "nodes", "geometry", "argument_types"},
    {
        *(
            "annotation",
            "report",
            "card",
            "registry",
            "signature",
            "argument_schema",
            "timm_names",
            "schema",
            "migrate",
        ),
        *("recipe", "recipe_blocks", "recipe_checks", "recipe_merge"),
    },
    {"targets", "model", "inference", "components", "ops", "data"},
    {"wiring", "advice", "describe", "metrics"},
    {"zoo", "training", "studies", "predict", "backend", "localization", "ensemble", "export"},
    {"cli", "commands", "__main__"},
]
TORCH_FREE = set().union(*ROWS[:3])
HEAVY = {"torch", "timm", "mlflow", "monai", "lightning", "albumentations"}


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if "_data" not in p.parts)


def room(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def row(name):
    return next(i for i, names in enumerate(ROWS) if name in names)


def imports(path, top_level_only=False):
    """Modules that a file imports; those under ``TYPE_CHECKING`` are not imports."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in tree.body if top_level_only else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "cphloc":
                yield from (f"cphloc.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_its_own_row_or_lower(path):
    own = row(room(path))
    above = [m for m in imports(path) if m.startswith("cphloc.") and _known(m) and row(m.split(".")[1]) > own]
    assert above == []


def _known(module):
    name = module.split(".")[1]
    return any(name in names for names in ROWS)


def test_every_module_has_its_row():
    assert {room(path) for path in modules()} - set().union(*ROWS) == set()


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_the_front_imports_nothing_heavy(name):
    path = PACKAGE / f"{name}.py"
    if path.is_file():
        assert {m.split(".")[0] for m in imports(path, top_level_only=True)} & HEAVY == set()


@pytest.mark.parametrize(
    ("library", "places"),
    [("mlflow", {"training/tracking.py", "zoo/served.py"}), ("albumentations", {"data/augment_albumentations.py"})],
)
def test_a_library_lives_in_one_place(library, places):
    users = {str(p.relative_to(PACKAGE)) for p in modules() if any(m.split(".")[0] == library for m in imports(p))}
    assert users <= places


def test_components_know_neither_recipe_nor_registry_nor_build():
    forbidden = {"cphloc.recipe", "cphloc.registry", "cphloc.wiring"}
    for path in (PACKAGE / "components").rglob("*.py"):
        assert not forbidden & set(imports(path)), path


def component_cards():
    return [p for p in sorted((ROOT / "registry").glob("*/*.yaml")) if p.parent.name != "dataset"]


@pytest.mark.parametrize("card", component_cards(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_one_name_in_four_places(card):
    kind, name = card.parent.name, card.stem
    module = yaml.safe_load(card.read_text())["import"].split(":")[0]
    assert module.startswith(f"cphloc.components.{kind}.")
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
    assert list((ROOT / "tests" / "components" / kind).glob("test_*.py")), f"no test of {kind}s"
    named = "".join(p.read_text() for p in (ROOT / "tests" / "components" / kind).glob("test_*.py"))
    class_name = yaml.safe_load(card.read_text())["import"].split(":")[1]
    assert class_name in named or name in named, f"no test names {class_name}"


def test_every_component_file_has_a_card():
    carded = {yaml.safe_load(card.read_text())["import"].split(":")[0] for card in component_cards()}
    files = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in (PACKAGE / "components").rglob("*.py")
        if p.stem != "__init__"
    }
    assert files - carded == set()


def test_importing_cphloc_imports_no_torch():
    code = "import cphloc, sys; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_can_be_imported():
    import cphloc

    for name in cphloc.__all__:
        assert getattr(cphloc, name) is not None


def test_no_module_hides_a_public_name():
    """Importing ``cphloc.x`` binds the module to the name ``x``, so no public function may be called like a module."""
    import cphloc

    assert set(cphloc.__all__) & {room(path) for path in modules()} == set()
