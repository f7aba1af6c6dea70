"""Write the files of a new entry, then load it and check that it predicts what the run predicts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from torch import Tensor

from cphloc.config import jsonio
from cphloc.config.nodes import from_plain
from cphloc.config.problems import problems_of
from cphloc.data.fingerprint import content_hash, image_hashes
from cphloc.data.io.source_files import source_files
from cphloc.data.pipeline.seen import SeenCase, SeenData
from cphloc.errors import InputError, NotFoundError, RecipeError
from cphloc.files import atomic
from cphloc.inference.localization import Localization
from cphloc.inference.localizer import Localizer
from cphloc.inference.pipeline import localizer_of_recipe
from cphloc.publishing import sample as samples
from cphloc.publishing.agreement import disagreements
from cphloc.publishing.card import CASES_FILE, PICTURES_FOLDER, model_card
from cphloc.publishing.facts import entry_facts, evaluated_options
from cphloc.publishing.material import SPLIT, Material
from cphloc.publishing.onnx_parity import onnx_parity
from cphloc.publishing.patient import write_pixels, write_rows
from cphloc.publishing.sbom import bill_of_materials
from cphloc.publishing.verify import check_sample
from cphloc.recipe import recipe as recipes
from cphloc.recipe.formats import FORMAT
from cphloc.recipe.recipe import Recipe
from cphloc.zoo.entries import Listing
from cphloc.zoo.entry import Entry, File, Weights
from cphloc.zoo.listing import cached_path
from cphloc.zoo.load import build_with_weights, open_listing, trained_weights
from cphloc.zoo.names import BASELINE_FILE, CARD_FILE, ENTRY_FILE, RECIPE_FILE, SBOM_FILE, WEIGHTS_FILE
from cphloc.zoo.weights import precision_of, published_precision, write_weights

if TYPE_CHECKING:
    from cphloc.data.case import Case

PICTURE_BYTES = 400_000
"""Larger pictures are left out of an entry."""
TRIED_SAMPLES = 5
"""Number of test cases tried as sample until one has a detection."""


def freeze(
    folder: Path,
    material: Material,
    name: str,
    version: str,
    because: str | None = None,
    below_baseline: str | None = None,
    sample: str | None = None,
    urls: Sequence[str] = (),
    most_bytes: int | None = None,
    supersedes: Sequence[str] = (),
    onnx: bool = False,
) -> Entry:
    """Write the files of an entry.

    Weights are stored in half precision, or in single precision where half would change the prediction of the sample.

    Args:
        folder: an empty folder for the files.
        material: from `cphloc.publishing.material.gather`.
        name: of the entry.
        version: ``1.2.0``.
        because: reason to publish a version that is worse than the one before.
        below_baseline: reason to publish a version that is not above its baseline.
        sample: id of the test case to ship; by default the smallest with a detection.
        urls: where the weights will be uploaded.
        most_bytes: larger weights are kept in the cache, and the entry names their ``urls`` only.
        supersedes: versions of other names, as ``name@1.2.0``, that this one should be used instead of.
        onnx: whether to state how far ONNX Runtime differs from torch.

    Raises:
        RecipeError: the entry is not valid.
        InputError: it does not predict what the run predicts, or its weights are too large.
        NotFoundError: no such sample case.
    """
    trained, weights = trained_weights(material.run, material.members)
    recipe = entry_recipe(trained)
    (folder / RECIPE_FILE).write_text(recipe.to_yaml(), encoding="utf-8")
    write_rows(material.rows, folder / CASES_FILE)
    if (baseline := material.run.folder / BASELINE_FILE).is_file():
        shutil.copyfile(baseline, folder / BASELINE_FILE)
    published_cases(material).write(folder)
    _copy_pictures(material.run.folder / "pictures", folder / PICTURES_FOLDER)
    localizer = _localizer(recipe, weights, material)
    read, result = _write_sample(folder / samples.SAMPLE_FOLDER, localizer, _candidates(material, sample))
    small = published_precision(recipe, weights)
    found = _localizer(recipe, small, material).predict(*read)
    changed = samples.differences(samples.facts_of(result), result.masks, found)
    stored = weights if changed else small
    write_weights(folder / WEIGHTS_FILE, stored)
    facts = entry_facts(material, localizer, name, version, because, below_baseline, supersedes)
    facts["onnx"] = onnx_parity(localizer) if onnx else None
    facts["weights"] = stored_weights(folder, precision_of(stored), urls, most_bytes)
    entry = write_entry(facts, folder, recipe)
    check_frozen(Listing(name, version, folder))
    return entry


def check_frozen(listing: Listing) -> None:
    """Check that a new entry predicts what its run predicts, and that its files agree, such as metrics and cases."""
    localizer = open_listing(listing, "cpu")
    if differing := check_sample(listing, localizer):
        msg = f"{listing} does not predict what its run predicts: {'; '.join(differing)}"
        raise InputError(msg)
    if wrong := list(disagreements(listing, localizer.recipe)):
        lines = [f"  - {file}: {text}" for file, text in wrong]
        raise InputError("\n".join([f"{listing} contradicts itself; evaluate the run again:", *lines]))


def published_cases(material: Material) -> SeenData:
    """Collect the hashes of the cases that the run was trained, validated and tested on, without their names."""
    seen = SeenData.read(material.run.folder) or SeenData({}, {})
    if material.run.is_cross_validation:
        return seen.without_names()
    evaluated, contents = set(material.evaluation["cases"]), material.evaluation.get("contents") or {}
    tested, unused = {}, []
    for case in material.dataset.cases(SPLIT):
        if case.id in evaluated:
            content = contents.get(case.id) or content_hash(case)
            tested[case.id] = SeenCase(case.patient, content, image_hashes(case))
        else:
            unused.append(case.id)
    known = replace(seen, cases={**seen.cases, SPLIT: tested}, unused={**seen.unused, SPLIT: unused})
    return known.without_names()


def entry_recipe(recipe: Recipe) -> Recipe:
    """Make the recipe that an entry stores: every default written, no downloads, no local paths, no folds.

    Because every default is written, a recipe of an earlier format has the same meaning in the current one.
    """
    plain = _without_downloads(recipe.to_plain())
    if recipe.stages:
        return recipes.load({**plain, "format": FORMAT, "data": {**plain["data"], "root": None}})
    plain["train"]["teacher"] = None
    return recipes.load(
        {**plain, "format": FORMAT, "data": {**plain["data"], "root": None, "folds": None}, "from": None, "freeze": []}
    )


def _without_downloads(value: Any) -> Any:
    """Remove the initial weights of every component, which loading the entry would replace anyway."""
    if isinstance(value, list):
        return [_without_downloads(inner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    kept = {key: _without_downloads(inner) for key, inner in value.items()}
    start = {"pretrained": False} if "pretrained" in kept else {}
    return kept | start | ({"weights": None} if isinstance(kept.get("weights"), str) else {})


def _copy_pictures(source: Path, target: Path) -> None:
    """Copy pictures of at most `PICTURE_BYTES`, of test cases rather than validation cases, reduced to 256 colours."""
    from PIL import Image

    visible = [p for p in sorted(source.glob("*.png")) if not p.name.startswith(".")]
    pictures = [p for p in visible if p.stat().st_size <= PICTURE_BYTES]
    pictures = [p for p in pictures if not (source / f"test-{p.name}").is_file() and not p.name.startswith("val-")]
    if pictures:
        target.mkdir()
    for picture in pictures:
        with Image.open(picture) as colours:
            colours.convert("RGB").quantize(256).save(target / picture.name, optimize=True)


def _candidates(material: Material, sample: str | None) -> list[Case]:
    """List the cases to try as sample: the one named, else all evaluated cases from small files to large."""
    cases = {case.id: case for case in material.evaluated}
    if sample is None:
        return sorted(cases.values(), key=_bytes_of)
    if sample not in cases:
        kind = "case" if material.run.is_cross_validation else "test case"
        msg = f"no evaluated {kind} '{sample}'; {material.rows} lists them"
        raise NotFoundError(msg)
    return [cases[sample]]


def _bytes_of(case: Case) -> int:
    return sum(file.stat().st_size for image in case.images for file in source_files(image))


def _write_sample(
    folder: Path, localizer: Localizer, candidates: Sequence[Case]
) -> tuple[tuple[Any, Sequence[float] | None], Localization]:
    """Write the pixels of the first case with a detection as sample, with their prediction in single precision.

    Returns:
        the source and voxel size to predict, and the prediction.
    """
    results = []
    for case in candidates[:TRIED_SAMPLES]:
        results.append((case, _predict(localizer, case)))
        if _has_detection(results[-1][1]):
            break
    case = (results[-1] if _has_detection(results[-1][1]) else results[0])[0]
    folder.mkdir()
    volume = localizer.read(_source(localizer, case), case.spacing_mm)
    inputs = write_pixels(folder, volume, localizer.recipe.channels)
    source = samples.source_of({"inputs": inputs}, {name: folder / name for name in inputs.values()})
    spacing_mm = case.spacing_mm if str(source).endswith(".png") else None
    result = localizer.predict(source, spacing_mm)
    samples.write_expected(folder, case.id, inputs, spacing_mm, result)
    return (source, spacing_mm), result


def _source(localizer: Localizer, case: Case) -> Any:
    images = case.images
    return images[0] if len(images) == 1 else dict(zip(localizer.recipe.channels, images, strict=True))


def _predict(localizer: Localizer, case: Case) -> Localization:
    return localizer.predict(_source(localizer, case), spacing_mm=case.spacing_mm)


def _has_detection(result: Localization) -> bool:
    masked = result.masks is not None and result.masks.any()
    return bool(masked or result.boxes or (result.masks is None and result.boxes is None))


def _localizer(recipe: Recipe, weights: Mapping[str, Tensor], material: Material) -> Localizer:
    """Build the model as it was evaluated, with its options."""
    localizer = localizer_of_recipe(build_with_weights(recipe, weights, str(material.run.folder)), recipe)
    chosen = evaluated_options(material.evaluation)
    localizer.options, localizer.sizes = chosen.options, chosen.sizes
    return localizer


def stored_weights(
    folder: Path, precision: Literal["float16", "float32"], urls: Sequence[str], most_bytes: int | None
) -> dict[str, Any]:
    """Describe the weights for the entry; those too large to ship are moved to the cache until they are uploaded."""
    weights = folder / WEIGHTS_FILE
    file = File.of(weights)
    stored = WEIGHTS_FILE
    if most_bytes is not None and file.bytes > most_bytes:
        if not urls:
            room = f"{max(most_bytes, 0) / 1e6:.1f} MB may ship with cphloc"
            msg = (
                f"the weights have {file.bytes / 1e6:.1f} MB and {room}; "
                "give their URL with --url, publish --to a zoo of your own, or make the model smaller"
            )
            raise InputError(msg)
        kept = cached_path(file)
        with atomic(kept) as temporary:
            shutil.copyfile(weights, temporary)
        weights.unlink()
        stored = None
    return Weights(file=stored, urls=list(urls), precision=precision, **dict(file)).model_dump()


def write_entry(facts: dict[str, Any], folder: Path, recipe: Recipe) -> Entry:
    """Pin the files, write the card and ``entry.yaml``.

    Card and bill of materials show the entry, and the entry pins both, so they are written from an entry that does not
    pin them yet.
    """
    pinned = {
        path.relative_to(folder).as_posix(): File.of(path).model_dump()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != WEIGHTS_FILE
    }
    entry = _valid({**facts, "files": pinned})
    (folder / CARD_FILE).write_text(model_card(entry), encoding="utf-8")
    bill = bill_of_materials(entry, recipe)
    (folder / SBOM_FILE).write_text(jsonio.dumps(bill, indent=1) + "\n", encoding="utf-8")
    pinned |= {name: File.of(folder / name).model_dump() for name in (CARD_FILE, SBOM_FILE)}
    entry = _valid({**facts, "files": pinned})
    (folder / ENTRY_FILE).write_text(entry.to_yaml(), encoding="utf-8")
    return entry


def _valid(facts: dict[str, Any]) -> Entry:
    """Validate the content of ``entry.yaml``.

    Raises:
        RecipeError: with every problem and what to do, such as an empty name of a class.
    """
    try:
        return Entry.model_validate(facts)
    except ValidationError as error:
        raise RecipeError(problems_of(error, Entry, from_plain(facts, f"the new {ENTRY_FILE}"))) from None
