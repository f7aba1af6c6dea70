"""Compute the receptive field, effective stride and padding of a network's outputs, per axis.

The network is run once on the meta device, where nothing is computed, and every operation is recorded. A `Field` is a
function from the index of a cell to the interval of input indices it depends on; a layer composes that function with
its own, a sum or concatenation takes the smallest interval that contains those of its operands. This is the recurrence
of Araujo et al. 2019 (Distill, "Computing receptive fields of convolutional neural networks"). It is exact for
transposed convolutions too, where the size differs from cell to cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

Interval = Callable[[int], tuple[float, float]]

_GLOBAL = ("bmm", "baddbmm", "_scaled_dot_product")
"""Operations that mix all cells: attention."""


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of a cell of an output along one axis.

    Args:
        size: input voxels; infinite where the whole input is pooled.
        stride: input voxels from one cell to the next; 1/2 where the output is finer than the input.
        padding: voxels by which the field of cell 0 begins before the input.
        aligned: whether all paths through the network have the same stride and centre.
    """

    size: float
    stride: Fraction
    padding: float
    aligned: bool


@dataclass(frozen=True)
class Field:
    """Dependence of a tensor on the input along one axis; cell ``i`` depends on the closed interval ``see(i)``."""

    see: Interval
    cells: int
    stride: Fraction = Fraction(1)
    aligned: bool = True

    def window(self, kernel: int, stride: int, padding: int, dilation: int, cells: int) -> Field:
        """Return the field after a convolution or pooling."""
        see = self.see

        @cache
        def interval(i: int) -> tuple[float, float]:
            """Return the input interval seen by cell ``i``."""
            first = i * stride - padding
            return see(first)[0], see(first + dilation * (kernel - 1))[1]

        return Field(interval, cells, self.stride * stride, self.aligned)

    def transposed(self, kernel: int, stride: int, padding: int, dilation: int, cells: int) -> Field:
        """Return the field after a transposed convolution: cell ``j * stride - padding + tap`` depends on ``j``."""
        see = self.see

        @cache
        def interval(i: int) -> tuple[float, float]:
            """Return the input interval seen by cell ``i``."""
            first = -((dilation * (kernel - 1) - i - padding) // stride)
            return see(first)[0], see((i + padding) // stride)[1]

        return Field(interval, cells, self.stride / stride, self.aligned)

    def resampled(self, cells: int, linear: bool) -> Field:
        """Return the field after interpolation to ``cells`` cells, voxel edges aligned."""
        see, step = self.see, Fraction(self.cells, cells)

        @cache
        def interval(i: int) -> tuple[float, float]:
            """Return the input interval seen by cell ``i``."""
            at = (i + Fraction(1, 2)) * step - Fraction(1, 2) if linear else i * step
            whole = at.__floor__()
            return see(whole)[0], see(whole + (linear and at != whole))[1]

        return Field(interval, cells, self.stride * step, self.aligned)

    def everything(self, cells: int) -> Field:
        """Return the field after global pooling or attention."""
        return Field(lambda _: (-float("inf"), float("inf")), cells, self.stride * Fraction(self.cells, cells))

    def joined(self, other: Field) -> Field:
        """Return the field after adding or concatenating two paths."""
        if other.see is self.see:
            return self
        a, b = self.see, other.see

        @cache
        def interval(i: int) -> tuple[float, float]:
            """Return the input interval seen by cell ``i``."""
            (lo_a, hi_a), (lo_b, hi_b) = a(i), b(i)
            return min(lo_a, lo_b), max(hi_a, hi_b)

        same_centre = self.stride == other.stride and sum(a(0)) == sum(b(0))
        return Field(interval, self.cells, self.stride, self.aligned and other.aligned and same_centre)

    def summary(self) -> ReceptiveField:
        """Return the largest field of any cell; cells differ only after transposed convolution or interpolation."""
        period = self.stride.denominator
        size = max(hi - lo + 1 for lo, hi in map(self.see, range(period)))
        return ReceptiveField(size, self.stride, -self.see(0)[0], self.aligned)


def receptive_fields(
    module: nn.Module, channels: int, size: Sequence[int]
) -> tuple[tuple[ReceptiveField, ...] | None, ...]:
    """Compute the receptive field of every tensor that ``module`` returns for one image.

    Norms count as pointwise, and so do gates that broadcast one number per channel (squeeze and excitation).

    Args:
        module: takes ``(1, channels, *size)``; runs in evaluation mode on the meta device; it is not changed.
        channels: image channels.
        size: voxels per axis; only interpolation to a fixed size depends on it.

    Returns:
        one `ReceptiveField` per axis for each returned tensor, in order; ``None`` for a tensor without spatial axes.

    >>> fields = receptive_fields(nn.Conv2d(1, 1, 3, stride=2, padding=1), 1, (32, 32))
    >>> fields[0][0]
    ReceptiveField(size=3, stride=Fraction(2, 1), padding=1, aligned=True)
    """
    weightless = {name: torch.empty_like(t, device="meta") for name, t in module.state_dict(keep_vars=True).items()}
    training = module.training
    with _Trace(len(size)) as trace, torch.no_grad(), torch.device("meta"):
        image = torch.empty(1, channels, *size)
        trace.fields[image] = tuple(Field(lambda i: (i, i), n) for n in size)
        outputs = torch.func.functional_call(module.eval(), weightless, (image,))
    module.train(training)
    return tuple(
        tuple(field.summary() for field in trace.fields[out]) if out.dim() == len(size) + 2 else None
        for out in tree_leaves(outputs)
        if isinstance(out, Tensor)
    )


class _Trace(TorchDispatchMode):
    """Record every operation and keep the `Field` per axis of each tensor."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.fields: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = [x for x in tree_leaves(args) if isinstance(x, Tensor) and x in self.fields]
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if seen and results:
            fields = self._after(func.overloadpacket.__name__, args, seen, results[0])
            for result in results:
                self.fields[result] = fields
        return out

    def _after(self, name: str, args: Sequence[Any], seen: list[Tensor], out: Tensor) -> tuple[Field, ...]:
        fields, cells = self.fields[seen[0]], tuple(out.shape[2:])
        if name == "convolution":
            weight, _, stride, padding, dilation, transposed = args[1:7]
            along = zip(fields, weight.shape[2:], stride, padding, dilation, cells, strict=True)
            return tuple((f.transposed if transposed else f.window)(*layer) for f, *layer in along)
        if name.startswith(("max_pool", "avg_pool")):
            along = zip(fields, *_pooling(name, args[1:], self.dims), cells, strict=True)
            return tuple(f.window(*layer) for f, *layer in along)
        if name.startswith("upsample"):
            return tuple(f.resampled(n, "linear" in name) for f, n in zip(fields, cells, strict=True))
        if name == "view" and seen[0].dim() == self.dims + 3 and out.dim() == self.dims + 2:  # repeat_interleave
            return tuple(f.resampled(n, linear=False) for f, n in zip(fields, cells, strict=True))
        if name == "slice" and 2 <= args[1] < len(fields) + 2:
            return _replaced(fields, args[1] - 2, 1, args[4] if len(args) > 4 else 1, -(args[2] or 0), cells)
        if name.endswith(("pad_nd", "pad1d", "pad2d", "pad3d")):
            before = list(reversed(args[1][::2]))[: self.dims]  # of channels last, which transformers have, not theirs
            for axis, voxels in enumerate(before, start=self.dims - len(before)):
                fields = _replaced(fields, axis, 1, 1, voxels, cells)
            return fields
        if (projected := self._projected(name, args, seen[0], out)) is not None:
            return projected
        if self._is_global(name, args, seen):
            return tuple(f.everything(1) for f in fields)
        return self._joined(seen)

    def _projected(self, name: str, args: Sequence[Any], seen: Tensor, out: Tensor) -> tuple[Field, ...] | None:
        """Fields of a map from which an axis is projected away, or to which it is added again; ``None`` for others."""
        fields, cells = self.fields[seen], tuple(out.shape[2:])
        axis = args[1][0] - 2 if name in ("mean", "amax") and 3 <= out.dim() < seen.dim() else -1
        if axis >= 0:
            return (*fields[:axis], *fields[axis + 1 :])
        if name == "unsqueeze" and len(fields) < self.dims and (axis := args[1] - 2) >= 0:
            return (*fields[:axis], fields[0].everything(1), *fields[axis:])
        if name == "expand" and len(cells) == len(fields) and any(f.cells > 1 for f in fields):
            return tuple(f if f.cells == n else f.everything(n) for f, n in zip(fields, cells, strict=True))
        return None

    def _is_global(self, name: str, args: Sequence[Any], seen: list[Tensor]) -> bool:
        if name in ("mean", "amax", "sum") or name.startswith(("_adaptive", "adaptive")):
            return seen[0].dim() == self.dims + 2
        cells = torch.Size(f.cells for f in self.fields[seen[0]]).numel()
        flattened = name in ("mm", "addmm") and seen[0].shape[0] < cells
        return flattened or name.startswith(_GLOBAL)

    def _joined(self, seen: list[Tensor]) -> tuple[Field, ...]:
        """Join the fields of the operands, except one of a single cell, which only scales the others."""
        paths = [self.fields[x] for x in seen]
        full = [p for p in paths if all(f.cells > 1 for f in p)] or paths
        joined = full[0]
        for path in full[1:]:
            joined = tuple(a.joined(b) for a, b in zip(joined, path, strict=True))
        return joined


def _pooling(name: str, args: Sequence[Any], dims: int) -> Iterator[Sequence[int]]:
    """Yield kernel, stride, padding and dilation per axis from the arguments of a pooling operation."""
    kernel = _per_axis(args[0], dims)
    yield kernel
    yield _per_axis(args[1], dims) if len(args) > 1 and args[1] else kernel
    yield _per_axis(args[2] if len(args) > 2 else 0, dims)
    yield _per_axis(args[3] if name.startswith("max") and len(args) > 3 else 1, dims)


def _per_axis(value: int | Sequence[int], dims: int) -> Sequence[int]:
    value = [value] if isinstance(value, int) else value
    return value if len(value) == dims else list(value) * dims


def _replaced(
    fields: tuple[Field, ...], axis: int, kernel: int, stride: int, padding: int, cells: tuple[int, ...]
) -> tuple[Field, ...]:
    moved = fields[axis].window(kernel, stride, padding, 1, cells[axis])
    return (*fields[:axis], moved, *fields[axis + 1 :])
