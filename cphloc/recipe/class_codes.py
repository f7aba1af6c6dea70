"""What a recipe states of a class besides its name: ``classes: {1: {name: tumour, code: ..., of: [...]}}``.

``code`` is a code such as ``SCT:10200004:Liver``. ``of`` lists the classes of the data set that a class of a head
stands for.
"""

from __future__ import annotations

from collections.abc import Iterator

from cphloc.config.nodes import Node
from cphloc.errors import InputError
from cphloc.structures.segment_codes import parse_code

_KEYS = {"name", "code"}


def move_class_facts(root: Node) -> None:
    """Replace classes with a name, a code and ``of`` by their names, in place.

    The codes move to the recipe's ``codes``, and the lists of ``of`` to ``model.merged_classes``. A class with other
    keys is left as it is, so that its check reports it.
    """
    _move_merged(root)
    for classes in _places(root):
        for key, node in classes.children.items():
            name, code = node.children.get("name"), node.children.get("code")
            if not isinstance(node.value, dict) or set(node.value) - _KEYS or name is None:
                continue
            _replace(classes, key, name)
            if code is not None:
                codes = root.children.setdefault("codes", Node({}, node.where, node.key_where))
                codes.children.setdefault(str(name.value), code)


def _move_merged(root: Node) -> None:
    """Move ``of`` of the classes of heads to ``model.merged_classes``, by head and class name."""
    model, heads = root.get(("model",)), root.get(("model", "heads"))
    for head, block in (heads.children if heads is not None else {}).items():
        classes = block.children.get("classes")
        for node in (classes.children if classes is not None else {}).values():
            name, of = node.children.get("name"), node.children.get("of")
            if model is None or of is None or name is None or not isinstance(node.value, dict):
                continue
            merged = model.children.setdefault("merged_classes", Node({}, node.where, node.key_where))
            by_class = merged.children.setdefault(head, Node({}, node.where, node.key_where))
            by_class.children.setdefault(str(name.value), of)
            del node.value["of"]


def valid_codes(codes: dict[str, str]) -> dict[str, str]:
    """Check codes by class name; see `cphloc.structures.segment_codes`.

    Raises:
        ValueError: one is not a code.
    """
    for code in codes.values():
        try:
            parse_code(code)
        except InputError as error:
            raise ValueError(str(error)) from None
    return codes


def _places(root: Node) -> Iterator[Node]:
    """Every list or mapping of classes: of the data set and of each head."""
    heads = root.get(("model", "heads"))
    blocks = [root.get(("data",)), *(heads.children.values() if heads is not None else ())]
    for block in blocks:
        classes = block.children.get("classes") if block is not None else None
        if classes is not None:
            yield classes


def _replace(classes: Node, key: object, name: Node) -> None:
    if isinstance(classes.value, list):
        classes.value[int(str(key))] = name
    elif isinstance(classes.value, dict):
        classes.value[key] = name  # pyright: ignore[reportArgumentType]  # a key of this mapping
