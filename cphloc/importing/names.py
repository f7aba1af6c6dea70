"""Rename the tensors of another framework's network to ours, by one table per architecture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cphloc.errors import DataError

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """One row of a table of names.

    Args:
        theirs: pattern of names; ``#`` stands for a number and ``*`` for the rest of the name.
        ours: our name, with ``{0}``, ``{1}``, ... for the numbers and ``*`` for the rest; ``{-0}`` counts from the
            other end of the levels. ``None``: the tensor has no effect and is left out.
        change: what is done with the values, such as a permutation of channels.
    """

    theirs: str
    ours: str | None
    change: Change | None = None

    def match(self, name: str, levels: int) -> str | None:
        """Return our name for a tensor, an empty one for a tensor that is left out, ``None`` where the row differs."""
        pattern = re.escape(self.theirs).replace(r"\#", r"(\d+)").replace(r"\*", "(.*)")
        found = re.fullmatch(pattern, name)
        if found is None or self.ours is None:
            return None if found is None else ""
        result = self.ours
        for place, text in enumerate(found.groups()):
            result = result.replace(f"{{{place}}}", text)
            if text.isdigit():
                result = result.replace(f"{{-{place}}}", str(levels - 1 - int(text)))
        return result.replace("*", found.groups()[-1] if found.groups() else "")

    def back(self, name: str, levels: int) -> str | None:
        """Return their name for a tensor of ours; ``None`` where the row differs."""
        if self.ours is None:
            return None
        places = re.findall(r"\{(-?\d)\}|(\*)", self.ours)
        pattern = re.escape(self.ours).replace(r"\*", "(.*)")
        found = re.fullmatch(re.sub(r"\\\{(?:\\-)?\d\\\}", r"(\\d+)", pattern), name)
        if found is None:
            return None
        result = self.theirs
        for (place, rest), text in zip(places, found.groups(), strict=True):
            number = str(levels - 1 - int(text)) if place.startswith("-") else text
            result = result.replace("*", text) if rest else result.replace("#", number, 1)
        return result


def renamed(state: Mapping[str, Tensor], rules: Sequence[Rule], levels: int = 0) -> dict[str, Tensor]:
    """Rename the tensors of a network; the first rule that matches a name decides.

    Args:
        state: tensors by the other framework's name.
        rules: the table of the architecture.
        levels: number of levels, for names that count from the other end.

    Raises:
        DataError: a tensor is in no row of the table, so the network is of another architecture.

    >>> renamed({"up.0.weight": torch.ones(1)}, [Rule("up.#.*", "heads.mask.up.{-0}.*")], levels=3)
    {'heads.mask.up.2.weight': tensor([1.])}
    """
    found: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        matches = ((rule.match(name, levels), rule) for rule in rules)
        target, rule = next(((ours, rule) for ours, rule in matches if ours is not None), (None, None))
        if target is None or rule is None:
            unknown.append(name)
        elif target:
            found[target] = value if rule.change is None else rule.change(value)
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        msg = f"the checkpoint has '{unknown[0]}'{more}, which the architecture it states has not"
        raise DataError(f"{msg}; import a checkpoint of that architecture")
    return found


def renamed_back(state: Mapping[str, Tensor], rules: Sequence[Rule], levels: int = 0) -> dict[str, Tensor]:
    """Undo `renamed`, for tables whose changes are their own inverse and whose numbers stand in one order."""
    found = {}
    for name, value in state.items():
        matches = ((rule.back(name, levels), rule) for rule in rules)
        target, rule = next((theirs, rule) for theirs, rule in matches if theirs is not None)
        found[target] = value if rule.change is None else rule.change(value)
    return found


def swapped_halves(weight: Tensor) -> Tensor:
    """Exchange the halves of the input channels: U-Nets concatenate the skip before or behind the up-sampled map."""
    first, second = weight.chunk(2, dim=1)
    return torch.cat([second, first], dim=1)


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what data parallel and compiled modules put before every name."""
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): value for name, value in state.items()}
