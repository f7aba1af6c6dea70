"""Consistency checks between several values of a recipe, one function each.

A check yields nothing if a value it needs is missing or of the wrong type, since that is reported elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cphloc.config.nodes import KeyPath, Node, dotted
from cphloc.errors import InputError, Problem, did_you_mean, without_secrets
from cphloc.recipe.blocks import BlockAt, blocks
from cphloc.recipe.seeds import seed_problems
from cphloc.registry import catalogue
from cphloc.registry.card import Card
from cphloc.registry.timm_names import timm_names
from cphloc.structures.rung import RUNGS
from cphloc.structures.units import ScaledUnit

Check = Callable[[Node], Iterator[Problem]]
_CHECKS: list[Check] = []


def cross_problems(root: Node) -> list[Problem]:
    """Run every consistency check on a recipe and return the problems."""
    return [problem for check in _CHECKS for problem in check(root)]


def _check(function: Check) -> Check:
    _CHECKS.append(function)
    return function


@_check
def _one_value_per_axis(root: Node) -> Iterator[Problem]:
    dims = _value(root, "dims")
    for key in ("patch", "spacing_mm"):
        node = root.get(("data", key))
        if dims in (2, 3) and node is not None and isinstance(node.value, list) and len(node.value) != dims:
            what = f"{len(node.value)} values for dims: {dims}"
            order = "[height, width]" if dims == 2 else "[depth, height, width]"
            yield _problem(node, ("data", key), what, f"give one value per axis, {order}")


@_check
def _one_intensity_per_channel(root: Node) -> Iterator[Problem]:
    channels, intensity = root.get(("data", "channels")), root.get(("data", "intensity"))
    if channels is None or intensity is None:
        return
    if isinstance(channels.value, list) and isinstance(intensity.value, list):
        expected, given = len(channels.value), len(intensity.value)
        if expected != given:
            what = f"{given} scalings for {expected} channels"
            yield _problem(intensity, ("data", "intensity"), what, "give one per channel, or a single one for all")


@_check
def _classes_are_numbered_from_one(root: Node) -> Iterator[Problem]:
    for block in _heads(root):
        node = block.node.children.get("classes")
        if node is None or not node.children:
            continue
        path, names = (*block.path, "classes"), [str(n.plain) for n in node.children.values()]
        numbers = list(node.value) if isinstance(node.value, dict) else []
        if all(isinstance(n, int) for n in numbers) and sorted(numbers) != list(range(1, len(numbers) + 1)):
            fix = f"number the classes 1 to {len(numbers)}; 0 is the background"
            yield _problem(node, path, f"class numbers {', '.join(map(str, numbers))}", fix)
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            yield _problem(node, path, f"the class name '{twice}' is used twice", "give every class a different name")


@_check
def _classes_exist_in_the_data(root: Node) -> Iterator[Problem]:
    card = _card(root, "dataset", ("data",))
    if card is None:
        return
    stated = root.get(("data", "classes"))
    declared = stated.plain if stated is not None else card.classes or []
    listed = list(declared.values()) if isinstance(declared, dict) else declared if isinstance(declared, list) else []
    known = [name for name in listed if isinstance(name, str)]
    for block in _heads(root):
        if root.get(("model", "merged_classes", block.path[-1])) is not None:
            continue  # its classes are matched with those of the data set when the model is built
        classes = block.node.children.get("classes")
        for key, node in (classes.children if classes is not None else {}).items():
            if known and isinstance(node.value, str) and node.value not in known:
                what = f"the data set '{card.name}' has no class '{node.value}'"
                fix = did_you_mean(node.value, known) or f"its classes: {', '.join(known)}"
                yield _problem(node, (*block.path, "classes", key), what, fix)


@_check
def _merged_classes_are_of_heads(root: Node) -> Iterator[Problem]:
    heads, merged = root.get(("model", "heads")), root.get(("model", "merged_classes"))
    if heads is None or merged is None:
        return
    known = {str(name): block for name, block in heads.children.items()}
    for head, node in merged.children.items():
        block = known.get(str(head))
        if block is None or block.children.get("classes") is None:
            fix = did_you_mean(str(head), known) or "name a head that has classes"
            yield _problem(node, ("model", "merged_classes", head), f"there is no head '{head}' with classes", fix)


@_check
def _one_average_of_weights(root: Node) -> Iterator[Problem]:
    ema, swa = root.get(("train", "ema")), root.get(("train", "swa"))
    if ema is not None and swa is not None and ema.value and swa.value:
        what = "train.ema averages the weights already"
        yield _problem(swa, ("train", "swa"), what, "set one of the two to null")


@_check
def _rung_is_available(root: Node) -> Iterator[Problem]:
    data = _card(root, "dataset", ("data",))
    available = [RUNGS.index(rung) for rung in data.gives] if data is not None else []
    for block in _heads(root):
        head = _card_of(block)
        if data is None or not available or head is None or head.rung is None:
            continue
        if min(RUNGS.index(rung) for rung in (head.rung, *_weaker(root, block))) <= max(available):
            continue
        what = f"the head '{head.name}' learns from {head.rung}, and '{data.name}' has {RUNGS[max(available)]} at most"
        yield _problem(block.node.children["type"], (*block.path, "type"), what, "choose another head or data set")


def _weaker(root: Node, block: BlockAt) -> Iterator[str]:
    """Weaker rungs from which a head learns too: that of its loss, and the label where its masks are seeded."""
    node = block.node.children.get("loss")
    loss = None if node is None else _card_of(BlockAt("loss", (*block.path, "loss"), node))
    if loss is not None and loss.rung is not None:
        yield loss.rung
    if root.get(("model", "seeds", str(block.path[-1]))) is not None:
        yield "label"


@_check
def _loss_fits_the_head(root: Node) -> Iterator[Problem]:
    for block in _heads(root):
        head, node = _card_of(block), block.node.children.get("loss")
        if head is None or head.loss is None or node is None or not isinstance(node.value, dict):
            continue
        inner = BlockAt("loss", (*block.path, "loss"), node)
        loss = _card_of(inner)
        if loss is not None and loss.takes and head.loss not in loss.takes:
            fitting = [name for name, c in catalogue.cards("loss").items() if head.loss in c.takes]
            what = f"the loss '{loss.name}' takes {', '.join(loss.takes)}, and '{head.name}' gives {head.loss}"
            fix = f"losses that fit: {', '.join(fitting) or 'none'}"
            yield _problem(node.children["type"], (*inner.path, "type"), what, fix)


@_check
def _channels_exist_in_the_data(root: Node) -> Iterator[Problem]:
    card, node = _card(root, "dataset", ("data",)), root.get(("data", "channels"))
    if card is None or card.channels is None or node is None:
        return
    for index, channel in node.children.items():
        if isinstance(channel.value, str) and channel.value not in card.channels:
            what = f"the data set '{card.name}' has no channel '{channel.value}'"
            fix = did_you_mean(channel.value, card.channels) or f"its channels: {', '.join(card.channels)}"
            yield _problem(channel, ("data", "channels", index), what, fix)


@_check
def _channels_are_known(root: Node) -> Iterator[Problem]:
    card, node = _card(root, "dataset", ("data",)), root.get(("data", "type"))
    if card is None or node is None or _value(root, "data", "channels") or catalogue.channels(card):
        return
    what = f"the channels of the images are not known: the data set '{card.name}' takes any"
    yield _problem(node, ("data", "channels"), what, "add channels: [...] with their names in order")


@_check
def _units_exist(root: Node) -> Iterator[Problem]:
    """Check that each unit exists and belongs to a channel."""
    node, card = root.get(("data", "units")), _card(root, "dataset", ("data",))
    listed = root.get(("data", "channels"))
    stated = None if listed is None else listed.plain
    channels = stated if isinstance(stated, list) else [] if card is None else catalogue.channels(card)
    for name, child in {} if node is None else node.children.items():
        path = ("data", "units", name)
        if channels and name not in channels:
            fix = did_you_mean(str(name), map(str, channels)) or f"the channels are {', '.join(map(str, channels))}"
            yield _problem(child, path, f"no channel '{name}'", fix)
        if isinstance(child.value, str):
            try:
                ScaledUnit.parse(child.value)
            except InputError as error:
                what, _, fix = str(error).partition("; ")
                yield _problem(child, path, what, fix)


@_check
def _modalities_fit_the_channels(root: Node) -> Iterator[Problem]:
    """Check that one's own data state one modality, or one per channel."""
    node, listed = root.get(("data", "about", "modality")), root.get(("data", "channels"))
    stated, channels = (None if found is None else found.plain for found in (node, listed))
    if node is None or not isinstance(stated, list) or not isinstance(channels, list) or not channels:
        return
    if len(stated) not in (0, 1, len(channels)):
        what = f"{len(stated)} modalities for {len(channels)} channels"
        fix = f"state one for all, or one for each of {', '.join(map(str, channels))}"
        yield _problem(node, ("data", "about", "modality"), what, fix)


@_check
def _timm_has_the_model(root: Node) -> Iterator[Problem]:
    named = root.get(("model", "backbone", "name"))
    if _value(root, "model", "backbone", "type") == "timm" and named is not None and isinstance(named.value, str):
        model = named.value.split(".")[0]
        if model not in timm_names():
            fix = did_you_mean(model, timm_names()) or "list them: cphloc list timm"
            yield _problem(named, ("model", "backbone", "name"), f"timm has no model '{named.value}'", fix)


@_check
def _weights_name_heads(root: Node) -> Iterator[Problem]:
    heads, weights = root.get(("model", "heads")), root.get(("model", "weights"))
    if heads is None or weights is None:
        return
    names = [str(name) for name in heads.children]
    for key, node in weights.children.items():
        if key not in heads.children:
            fix = did_you_mean(str(key), names) or f"heads: {', '.join(names)}"
            yield Problem(str(node.key_where), dotted(("model", "weights", key)), f"no head '{key}'", fix)


@_check
def _seeds_come_from_attention(root: Node) -> Iterator[Problem]:
    yield from seed_problems(root)


@_check
def _warmup_is_shorter_than_training(root: Node) -> Iterator[Problem]:
    node, steps = root.get(("train", "warmup_steps")), _value(root, "train", "steps")
    if (
        node is not None
        and isinstance(node.value, int)
        and isinstance(steps, int)
        and node.value >= steps > 0 < node.value
    ):
        yield _problem(node, ("train", "warmup_steps"), f"{node.value} of {steps} steps", "make it less than 'steps'")


@_check
def _no_address_holds_a_secret(root: Node) -> Iterator[Problem]:
    for path, node in root.leaves():
        if isinstance(node.value, str) and "://" in node.value and without_secrets(node.value) != node.value:
            what = "an address with a password or token, which the record of the run would keep"
            yield _problem(node, path, what, "remove it")


def _problem(node: Node, path: KeyPath, what: str, fix: str) -> Problem:
    return Problem(str(node.where), dotted(path), what, fix)


def _value(root: Node, *path: str) -> Any:
    node = root.get(path)
    return node.value if node is not None else None


def _heads(root: Node) -> Iterator[BlockAt]:
    return (block for block in blocks(root) if block.kind == "head")


def _card(root: Node, kind: str, path: KeyPath) -> Card | None:
    node = root.get(path)
    return _card_of(BlockAt(kind, path, node)) if node is not None else None


def _card_of(block: BlockAt) -> Card | None:
    named = block.node.children.get("type")
    try:
        return catalogue.card(block.kind, named.value) if named is not None and isinstance(named.value, str) else None
    except InputError:
        return None
