"""The architecture, read off the source: who may import whom, and where things are."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cphloc"

LAYERS = [
    ("errors",),
    ("files", "progress", "renamed"),
    ("structures", "config", "distributed", "paths"),
    ("ops", "metrics", "registry", "download"),
    ("components", "recipe"),
    ("data", "modeling", "tracking"),
    ("inference",),
    ("zoo",),
    ("evaluation",),
    ("training",),
    ("studies", "publishing"),
    ("importing",),  # writes entries as publishing does, from weights of other frameworks; no package but cli needs it
    ("cli",),
]
"""From the bottom to the top; a package imports only packages of lower layers."""

TORCH_FREE = {
    "errors",
    "files",
    "progress",
    "renamed",
    "paths",
    "download",
    "structures",
    "config",
    "registry",
    "recipe",
}
HEAVY = {"torch", "timm", "mlflow", "monai", "lightning", "albumentations"}


def modules(root: Path) -> dict[str, Path]:
    """Every module below a package folder by its dotted name."""
    files = [p for p in sorted(root.rglob("*.py")) if "_data" not in p.parts]
    dotted = (".".join((root.name, *p.relative_to(root).with_suffix("").parts)) for p in files)
    return {name.removesuffix(".__init__"): path for name, path in zip(dotted, files, strict=True)}


def named_imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that code imports: inside functions and under ``TYPE_CHECKING`` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(root: Path) -> dict[str, set[str]]:
    """For every module of a package, the modules of the package that it imports."""
    found = modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in found.items():
        imported = {i if i in found else i.rpartition(".")[0] for i in named_imports(ast.parse(path.read_text()))}
        # The package itself holds the version and lazy names only, so importing it is no tie.
        graph[name] = (imported & set(found)) - {name, root.name}
    return graph


def package_of(module: str) -> str:
    """The top-level package, or top-level module, that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def folder_of(module: str, found: dict[str, Path]) -> str:
    """Dotted name of the folder that a module lies in."""
    return module if found[module].stem == "__init__" else module.rpartition(".")[0]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def upward(root: Path, layers: list[tuple[str, ...]]) -> list[str]:
    """Imports between packages of one layer, or of a higher one."""
    layer = {name: i for i, names in enumerate(layers) for name in names}
    ties = [(a, b) for a, imported in import_graph(root).items() for b in sorted(imported)]
    return [
        f"{a} -> {b}"
        for a, b in ties
        if package_of(a) in layer and package_of(a) != package_of(b) and layer[package_of(b)] >= layer[package_of(a)]
    ]


def folder_graph(root: Path) -> dict[str, set[str]]:
    """For every folder, sub-packages included, the folders that its files import."""
    found, graph = modules(root), {}
    for module, imported in import_graph(root).items():
        own = folder_of(module, found)
        if own != root.name:
            graph.setdefault(own, set()).update(folder_of(i, found) for i in imported)
    return {folder: ties - {folder, root.name} for folder, ties in graph.items()}


def test_a_package_imports_only_lower_layers():
    assert upward(PACKAGE, LAYERS) == []


def test_no_circle_between_files():
    assert circle(import_graph(PACKAGE)) == []


def test_no_circle_between_folders():
    assert circle(folder_graph(PACKAGE)) == []


def test_every_package_has_its_layer():
    known = {name for names in LAYERS for name in names} | {"cphloc", "__main__"}
    assert {package_of(module) for module in modules(PACKAGE)} == known


def test_at_most_ten_modules_stand_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def made(root: Path, **files: str) -> Path:
    """A package of files, given as ``folder__name="code"``."""
    for name, code in files.items():
        path = root / "cphloc" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        (path.parent / "__init__.py").touch()
    return root / "cphloc"


def test_a_circle_between_files_is_seen_even_where_one_import_is_lazy(tmp_path):
    lazy = "def f():\n    from cphloc.ops import boxes\n"
    root = made(tmp_path, ops__boxes="from cphloc.ops.nms import nms\n", ops__nms=lazy)
    assert set(circle(import_graph(root))) == {"cphloc.ops.boxes", "cphloc.ops.nms"}
    assert upward(root, LAYERS) == []


def test_a_circle_between_folders_is_seen_even_where_one_import_is_for_types_only(tmp_path):
    typing_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cphloc.data.io.read import Image\n"
    root = made(tmp_path, data__io__read="from cphloc.data.case import Case\n", data__io__x="", data__case=typing_only)
    assert set(circle(folder_graph(root))) == {"cphloc.data", "cphloc.data.io"}


def test_an_import_of_the_same_layer_or_a_higher_one_is_seen(tmp_path):
    files = {
        "ops__boxes": "import cphloc.metrics.froc\n",
        "metrics__froc": "",
        "structures__a": "from cphloc import ops",
    }
    root = made(tmp_path, **files)
    assert upward(root, LAYERS) == ["cphloc.ops.boxes -> cphloc.metrics.froc", "cphloc.structures.a -> cphloc.ops"]


@pytest.mark.parametrize("package", sorted(TORCH_FREE))
def test_the_front_imports_nothing_heavy(package):
    for module, path in modules(PACKAGE).items():
        if package_of(module) == package:
            top_level = ast.Module([n for n in ast.parse(path.read_text()).body if not isinstance(n, ast.If)], [])
            names = [n for n in top_level.body if isinstance(n, ast.Import | ast.ImportFrom)]
            heavy = {i.split(".")[0] for n in names for i in named_imports(ast.Module([n], []))} & HEAVY
            assert heavy == set(), path


@pytest.mark.parametrize(
    ("library", "places"),
    [
        (
            "mlflow",
            {
                "tracking/server.py",
                "tracking/model_registry.py",
                "tracking/published.py",
                "tracking/zoo_register.py",
                "tracking/zoo_experiment.py",
                "tracking/system.py",
                "tracking/ui.py",
                "zoo/served.py",
            },
        ),
        ("albumentations", {"data/augment/albumentations.py"}),
    ],
)
def test_a_library_lives_in_one_place(library, places):
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules(PACKAGE).values()
        if any(i.split(".")[0] == library for i in named_imports(ast.parse(path.read_text())))
    }
    assert users <= places


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

    assert set(cphloc.__all__) & {package_of(module) for module in modules(PACKAGE)} == set()
