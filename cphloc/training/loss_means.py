"""Means of the losses between two entries of the log, over the cases that they were computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Any]
"""Sum a tensor over all processes."""


class LossMeans:
    """Mean of each loss, in which every case counts the same, however the cases were divided into micro-batches.

    >>> means = LossMeans()
    >>> means.add({"mask/dice": torch.tensor(0.5)}, {"mask/dice": 3.0})
    >>> means.add({"mask/dice": torch.tensor(0.0)}, {"mask/dice": 0.0})  # no case with a mask
    >>> means.values(torch.clone, {"mask": 2.0})
    {'mask/dice': 0.5, 'loss': 1.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._cases: dict[str, float] = {}

    def add(self, losses: Mapping[str, Tensor], cases: Mapping[str, float]) -> None:
        """Add the losses of a micro-batch.

        Args:
            losses: detached value of each loss; ``loss`` is their sum.
            cases: number of cases that each loss is a mean of; 1 where none is given.
        """
        for name, value in losses.items():
            number = cases.get(name, 1.0)
            self._sums[name] = self._sums.get(name, 0) + value.float() * (number or 1.0)
            self._cases[name] = self._cases.get(name, 0.0) + number

    def values(self, reduce: Reduce, weights: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each loss over all processes; losses that no case contributed to are left out.

        Args:
            reduce: sums a tensor over all processes.
            weights: weight of each head in ``loss``; empty for a model whose losses are no sum over heads.
        """
        sums, cases = self._totals(reduce)
        means = {name: sums[name] / cases[name] for name in sums if cases[name] and not (weights and name == "loss")}
        parts = [weights[head] * value for name, value in means.items() if (head := name.partition("/")[0]) in weights]
        return means | ({"loss": sum(parts)} if parts else {})

    def to_plain(self, reduce: Reduce) -> dict[str, Any]:
        """Return sums and numbers of cases over all processes as a JSON-serializable dict, for `restored`."""
        sums, cases = self._totals(reduce)
        return {name: [sums[name], cases[name]] for name in sums}

    @classmethod
    def restored(cls, plain: Mapping[str, Any] | None, first: bool = True) -> LossMeans:
        """Restore the means of a checkpoint.

        Args:
            plain: result of `to_plain`; ``None`` for a checkpoint of an earlier version.
            first: whether this is the first process; the others start from 0, because their part is in its sums.
        """
        means = cls()
        for name, (total, cases) in (plain or {}).items():
            means._sums[name] = torch.tensor(total if first else 0.0)
            means._cases[name] = cases if first else 0.0
        return means

    def _totals(self, reduce: Reduce) -> tuple[dict[str, float], dict[str, float]]:
        """Sums and numbers of cases over all processes."""
        names = sorted(self._sums)
        if not names:
            return {}, {}
        sums = torch.stack([self._sums[name] for name in names])
        cases = sums.new_tensor([self._cases[name] for name in names])
        totals = reduce(torch.cat([sums, cases])).tolist()
        return dict(zip(names, totals[: len(names)], strict=True)), dict(zip(names, totals[len(names) :], strict=True))
