"""Match the classes and channels of two models by name, and find the parts of their tensors that belong to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.modeling.build import blueprint
from cphloc.modeling.model import Model
from cphloc.recipe.fields import Block
from cphloc.recipe.recipe import Recipe
from cphloc.structures.annotation import class_names

_EXTRA = "(one more)"


@dataclass(frozen=True)
class NamedAxis:
    """An axis of a tensor along which each class or channel has indices of its own.

    Args:
        axis: the axis.
        fixed: number of indices before the first class, such as 1 for a background.
        each: number of indices of each class.
        major: whether the indices of a class follow each other; otherwise the classes alternate.
        old: names in the model whose weights are given, in order.
        new: names in the model to initialize, in order.
    """

    axis: int
    fixed: int
    each: int
    major: bool
    old: tuple[str, ...]
    new: tuple[str, ...]

    def place(self, given: Tensor, fresh: Tensor) -> Tensor | None:
        """Copy the values of equal names into a copy of the initial values; ``None`` where the lengths do not fit.

        Args:
            given: tensor of the other model, with its length along the axis.
            fresh: initial tensor; names that only the new model has keep its values.
        """
        lengths = self.fixed + self.each * len(self.old), self.fixed + self.each * len(self.new)
        if (given.shape[self.axis], fresh.shape[self.axis]) != lengths:
            return None
        shared = [name for name in self.new if name in self.old]
        to = [*range(self.fixed), *(i for name in shared for i in self._indices(self.new, name))]
        source = [*range(self.fixed), *(i for name in shared for i in self._indices(self.old, name))]
        given = given.to(fresh.device, fresh.dtype)
        here, there = (torch.tensor(i, dtype=torch.long, device=fresh.device) for i in (to, source))
        return fresh.index_copy(self.axis, here, given.index_select(self.axis, there))

    def _indices(self, names: tuple[str, ...], name: str) -> list[int]:
        place, count = names.index(name), len(names)
        inside = [place * self.each + k if self.major else place + k * count for k in range(self.each)]
        return [self.fixed + index for index in inside]


def named_axes(recipe: Recipe, old: Recipe) -> tuple[dict[str, NamedAxis], list[str]]:
    """Find the tensors of a recipe's model that depend on the names of classes or channels.

    Args:
        recipe: recipe of the model to initialize.
        old: recipe of the model whose weights are given.

    Returns:
        axis by tensor name, for classes and channels that differ between the recipes in names or order; and a sentence
        for each head, and for the channels, about what is taken over.
    """
    model, axes, notes = blueprint(recipe), {}, []
    here, there = recipe.channels, old.channels
    if here != there:
        wider = recipe.data.model_copy(update={"channels": [*here, _EXTRA]})
        grown = blueprint(recipe.model_copy(update={"data": wider}))
        axes |= _grown_axes(model, grown, "", there, here)
        notes.append(_note("channels", there, here))
    for name in recipe.model.heads:
        new_names, old_names = _classes(recipe, name), _classes(old, name)
        if new_names and old_names and new_names != old_names:
            grown = _with_one_more_class(recipe, name)
            axes |= _grown_axes(model, grown, f"heads.{name}.", old_names, new_names)
            notes.append(_note(f"head '{name}': classes", old_names, new_names))
    return axes, notes


def _classes(recipe: Recipe, head: str) -> tuple[str, ...]:
    """Names of the classes of a head in the order of their numbers; empty where it has none."""
    block = recipe.model.heads.get(head)
    stated = block.args.get("classes") if block is not None else None
    return tuple(name for _, name in sorted(class_names(stated).items())) if stated else ()


def _with_one_more_class(recipe: Recipe, head: str) -> Model | None:
    """Build a model whose head has one more class; ``None`` where other arguments fix their number."""
    block = recipe.model.heads[head]
    classes = dict(enumerate((*_classes(recipe, head), _EXTRA), start=1))
    heads = {**recipe.model.heads, head: Block(type=block.type, **{**block.args, "classes": classes})}
    try:
        return blueprint(recipe.with_model(recipe.model.model_copy(update={"heads": heads})))
    except InputError:
        return None


def _grown_axes(
    model: Model, grown: Model | None, prefix: str, old: Sequence[str], new: Sequence[str]
) -> dict[str, NamedAxis]:
    """Find the tensors that one more name makes longer, by how much, and their axis.

    Without a ``grown`` model, these are the tensors as long as the names, with or without a background.
    """
    found = {}
    larger: Mapping[str, Tensor] = {} if grown is None else grown.state_dict()
    for name, value in model.state_dict().items():
        shape, other = value.shape, larger[name].shape if name in larger else value.shape
        differing = [i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b]
        if grown is None and value.ndim and shape[0] - len(new) in (0, 1):
            differing, other = [0], (shape[0] + 1, *shape[1:])
        if name.startswith(prefix) and differing:
            axis = differing[0]
            each = other[axis] - shape[axis]
            major = each == 1 or _is_class_major(model, name)
            # An unknown order has a number of fixed indices that no tensor has, so that nothing is copied.
            fixed = shape[axis] - each * len(new) if major is not None else -1
            found[name] = NamedAxis(axis, fixed, each, bool(major), tuple(old), tuple(new))
    return found


def _is_class_major(model: nn.Module, name: str) -> bool | None:
    """Whether the outputs of a layer are ordered class by class, by the attribute ``class_major`` of its head."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        owner = model.get_submodule(".".join(parts[:length]))
        layers = getattr(owner, "class_major", None)
        if isinstance(layers, tuple):
            return parts[length] in layers
    return None


def _note(what: str, old: Sequence[str], new: Sequence[str]) -> str:
    """Sentence about which names are taken over, which are new, and which are left out."""
    shared = [name for name in new if name in old]
    fresh = [name for name in new if name not in old]
    dropped = [name for name in old if name not in new]
    parts = [f"{', '.join(shared)} taken over by name" if shared else "none taken over"]
    parts += [f"{', '.join(fresh)} initialized anew"] if fresh else []
    parts += [f"{', '.join(dropped)} left out"] if dropped else []
    hint = "; if they are the same, give them the same names" if fresh and dropped and not shared else ""
    return f"{what}: {', '.join(parts)}{hint}"
