"""Checks of the stages of a pipeline: that they fit each other, and the data set that the pipeline is evaluated on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cphloc.config.nodes import KeyPath, Node, dotted
from cphloc.config.problems import position
from cphloc.errors import InputError, Problem, did_you_mean
from cphloc.recipe.stages import NOT_OF_PIPELINES, PIPELINE, PREPARED_BY_STAGES
from cphloc.registry import catalogue
from cphloc.structures.units import ChannelInput, ScaledUnit

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CROPPED_TO = ("boxes", "mask")


def stage_problems(root: Node) -> list[Problem]:
    """List what is wrong with the stages of a recipe, and with a recipe that has both stages and a model, or neither.

    A check yields nothing where a value it needs is missing or of the wrong type, which is reported elsewhere.
    """
    stages, task = _mapping(root, ("stages",)), root.get(("task",))
    is_pipeline = task is not None and task.value == PIPELINE
    if not is_pipeline:
        return [*_no_stages(root, stages), *_needs_model(root)]
    problems = list(_not_of_pipelines(root))
    if not stages:
        what, fix = "a pipeline without stages", "list them: stages: {find: {entry: retina3d-petct@0.2.0}, ...}"
        return [*problems, Problem(position(root, ("stages",)), "stages", what, fix)]
    known = {name: _facts(node) for name, node in stages.items()}
    for number, (name, node) in enumerate(stages.items()):
        earlier = {key: known[key] for key in list(stages)[:number]}
        problems += [*_names(root, name), *_references(root, name, node, earlier, stages), *_fits(root, name, known)]
    return problems + list(_last_fits(root, list(stages)[-1], known))


@dataclass(frozen=True)
class _Facts:
    """What the entry of a stage states.

    Args:
        dims: number of spatial axes.
        inputs: modality and unit of each channel.
        classes: by part that it predicts (mask, boxes, attention, labels), names of the classes.
        numbers: classes of its data set, number -> name.
        is_pipeline: whether it has stages itself.
    """

    dims: Any
    inputs: Mapping[str, ChannelInput]
    classes: Mapping[str, Sequence[str]]
    numbers: Mapping[int, str]
    is_pipeline: bool


def _facts(stage: Node) -> _Facts | None:
    """Read what the stored entry of a stage states; ``None`` where it was not looked up, or is not complete."""
    stored = stage.get(("stored",))
    plain: Any = None if stored is None else stored.plain
    try:
        recipe = plain["recipe"] if isinstance(plain, dict) else {}
        heads = (recipe.get("model") or {}).get("heads") or {}
        given = {name: ScaledUnit(of["unit"], of["factor"]) for name, of in plain["inputs"].items()}
        inputs = {name: ChannelInput(plain["inputs"][name]["modality"], unit) for name, unit in given.items()}
        gives = {name: catalogue.card("head", block["type"]).gives for name, block in heads.items()}
        named = {part: _names_of(heads[name]) for name, parts in gives.items() for part in parts}
        first = next(iter(heads.values()), {})
        numbers = first.get("classes") or {}
        numbered = numbers if isinstance(numbers, dict) else dict(enumerate(numbers, 1))
        return _Facts(recipe.get("dims"), inputs, named, numbered, bool(recipe.get("stages")))
    except (KeyError, TypeError, AttributeError, InputError):
        return None


def _names_of(head: Mapping[str, Any]) -> list[str]:
    classes = head.get("classes") or {}
    return list(classes.values() if isinstance(classes, dict) else classes)


def _no_stages(root: Node, stages: Mapping[Any, Node]) -> Iterator[Problem]:
    if stages:
        where = position(root, ("stages",), of_key=True)
        yield Problem(where, "stages", "stages of another task", "write 'task: pipeline', or remove them")


def _needs_model(root: Node) -> Iterator[Problem]:
    if root.get(("model",)) is None and isinstance(root.value, dict) and not _misspelt(root, "model"):
        yield Problem(position(root, ("model",)), "model", "missing", "add 'model:' with a block")


def _misspelt(root: Node, key: str) -> bool:
    return any(did_you_mean(str(other), [key]) for other in root.children)


def _not_of_pipelines(root: Node) -> Iterator[Problem]:
    """Refuse keys about the training or the preparation of images, which the stages have from their entries."""
    paths = [(key,) for key in NOT_OF_PIPELINES] + [("data", key) for key in PREPARED_BY_STAGES]
    for path in paths:
        node = root.get(path)
        if node is not None and node.value is not None and not node.where.source.startswith("default"):
            what = "of a pipeline, whose stages were trained and published before"
            fix = "remove it; each stage has that of its entry"
            yield Problem(str(node.key_where), dotted(path), what, fix)


def _names(root: Node, name: Any) -> Iterator[Problem]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        where = position(root, ("stages", name), of_key=True)
        yield Problem(where, dotted(("stages", name)), f"the stage name '{name}'", "use a-z, 0-9 and _, a letter first")


def _references(
    root: Node, name: Any, stage: Node, earlier: Mapping[Any, _Facts | None], stages: Mapping[Any, Node]
) -> Iterator[Problem]:
    """Check the stages and classes that ``crop`` and ``when`` of a stage name."""
    for key, parts in (("crop", _CROPPED_TO), ("when", ("labels",))):
        named = stage.get((key, "stage"))
        if named is None or not isinstance(named.value, str):
            continue
        path = ("stages", name, key, "stage")
        if named.value not in earlier:
            if named.value in stages:
                what = f"'{named.value}' does not run before '{name}'"
                fix = f"earlier stages: {', '.join(map(str, earlier)) or 'none'}; change the order"
            else:
                what = f"no stage '{named.value}'"
                fix = did_you_mean(named.value, map(str, earlier)) or f"stages: {', '.join(map(str, stages))}"
            yield Problem(str(named.where), dotted(path), what, fix)
            continue
        facts = earlier[named.value]
        if facts is None:
            continue
        given = [facts.classes[part] for part in parts if part in facts.classes]
        if not given:
            what = f"'{named.value}' predicts {' and '.join(facts.classes) or 'nothing'}, not {' or '.join(parts)}"
            yield Problem(str(named.where), dotted(path), what, "name a stage that does")
            continue
        yield from _classes_exist(stage, name, key, [class_name for names in given for class_name in names])


def _classes_exist(stage: Node, name: Any, key: str, known: Sequence[str]) -> Iterator[Problem]:
    paths: list[KeyPath] = [(key, "label")]
    listed = stage.get((key, "classes"))
    paths += [(key, "classes", number) for number in (listed.children if listed is not None else {})]
    for path in paths:
        node = stage.get(path)
        if node is not None and isinstance(node.value, str) and node.value not in known:
            fix = did_you_mean(node.value, known) or f"its classes: {', '.join(dict.fromkeys(known))}"
            where, what = str(node.where), f"the stage '{stage.children[key].children['stage'].value}' has no class"
            yield Problem(where, dotted(("stages", name, *path)), f"{what} '{node.value}'", fix)


def _fits(root: Node, name: Any, known: Mapping[Any, _Facts | None]) -> Iterator[Problem]:
    """Check axes, channels, modality and units of a stage against those of the whole pipeline."""
    facts, path = known[name], ("stages", name, "entry")
    if facts is None:
        return
    where, dims = position(root, path), root.get(("dims",))
    if facts.is_pipeline:
        yield Problem(where, dotted(path), "is a pipeline itself", "list its stages instead")
    if dims is not None and dims.value in (2, 3) and facts.dims != dims.value:
        what = f"the entry is {facts.dims}-D in a pipeline with dims: {dims.value}"
        yield Problem(where, dotted(path), what, "choose another: cphloc list zoo")
    available = _available(root) or {}
    for channel, taken in facts.inputs.items() if available else ():
        if channel not in available:
            what = f"the entry takes the channel '{channel}', which the data do not have"
            fix = f"channels: {', '.join(available)}"
            yield Problem(where, dotted(path), what, fix)
            continue
        given = available[channel]
        if given.unit != taken.unit:
            what = f"the entry takes '{channel}' in {taken.unit}, and the data have it in {given.unit}"
            yield Problem(where, dotted(path), what, "state its unit with data.units, or choose another entry")
        if None not in (given.modality, taken.modality) and given.modality != taken.modality:
            what = f"the entry takes '{channel}' of modality {taken.modality}, and the data have {given.modality}"
            yield Problem(where, dotted(path), what, "choose another entry")


def _available(root: Node) -> Mapping[str, ChannelInput] | None:
    """Channels of the data set of the pipeline; ``None`` where they are not known, which is reported elsewhere."""
    data = root.get(("data",))
    plain = data.plain if data is not None else None
    try:
        card = catalogue.card("dataset", (plain or {})["type"])
        names = (plain or {}).get("channels") or catalogue.channels(card)
        about = (plain or {}).get("about") or {}
        return catalogue.inputs(card, names, (plain or {}).get("units"), about.get("modality") or ()) or None
    except (KeyError, TypeError, AttributeError, InputError):
        return None


def _last_fits(root: Node, name: Any, known: Mapping[Any, _Facts | None]) -> Iterator[Problem]:
    """Check that the classes of the last stage are those of the data set, by number and name, to be evaluated there."""
    facts, data = known[name], root.get(("data",))
    if facts is None or data is None:
        return
    stated = data.plain.get("classes") if isinstance(data.plain, dict) else None
    try:
        declared = stated or catalogue.card("dataset", data.plain["type"]).classes
    except (KeyError, TypeError, InputError):
        return
    if not isinstance(declared, dict | list) or not declared:
        return
    classes = declared if isinstance(declared, dict) else dict(enumerate(declared, 1))
    wrong = [f"{number} {label}" for number, label in facts.numbers.items() if classes.get(number) != label]
    if wrong:
        what = f"the last stage predicts {', '.join(wrong)}, which are no classes of the data"
        fix = f"classes of the data: {', '.join(f'{number} {label}' for number, label in classes.items())}"
        yield Problem(position(root, ("stages", name, "entry")), dotted(("stages", name, "entry")), what, fix)


def _mapping(root: Node, path: KeyPath) -> Mapping[Any, Node]:
    node = root.get(path)
    return node.value if node is not None and isinstance(node.value, dict) else {}
