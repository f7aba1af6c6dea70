"""Predict an image of any size with a sliding window and optional mirroring, and merge all views into one result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial, reduce
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from cphloc.distributed.machine import reuse_freed_memory
from cphloc.inference.air import AirThreshold
from cphloc.inference.views import Forward, predict_views
from cphloc.modeling.model import Model
from cphloc.ops.instance_masks import merged_detections
from cphloc.ops.layers import fit, resize
from cphloc.ops.sliding_window import EVEN, Blend, Layout, corners
from cphloc.ops.targets import Detections, Prediction
from cphloc.structures.padding import Fill

AGREE_IOU = 0.3
"""Boxes of different views whose IoU exceeds this value are merged into one."""

LOG_LEAST = math.log(1e-12)
"""Log-probabilities are clamped to at least this value."""

OnMaskRows = Callable[[str, int, Tensor], None]
"""Callback for rows (slices) of a mask that no later window changes.

Its arguments are the name of the head, the first row, and a tensor ``(K + 1, rows, *S[1:])`` of log-probabilities up to
a constant per voxel, which is overwritten after the call.
"""


class ImageSource(Protocol):
    """A tensor ``(1, C, *S)``, or an object that computes parts of it when sliced along the first axis of S."""

    @property
    def shape(self) -> Sequence[int]:
        """``(1, C, *S)``."""
        ...

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the rows ``image[:, :, first:stop]``."""
        ...


@torch.inference_mode()
def infer(
    model: Model,
    image: ImageSource,
    patch: Sequence[int] | None = None,
    overlap: float = 0.5,
    mirror: Sequence[int] = (),
    progress: Callable[[Iterable], Iterable] = iter,
    *,
    swap: Mapping[int, int] | None = None,
    fill: Fill = "zero",
    forward: Forward | None = None,
    air: AirThreshold | None = None,
    on_mask_rows: OnMaskRows | None = None,
    window_batch: int = 1,
    layout: Layout = EVEN,
) -> dict[str, Prediction]:
    """Predict one image window by window.

    The predictions of all views (windows, mirrored or not) are merged: masks are the softmax of the mean
    log-probability, each window weighted by a Gaussian around its centre. Boxes are merged by weighted box clustering.
    Label probabilities are the maximum over windows. Attention is summed over windows, each weighted by its largest
    label probability.

    With ``on_mask_rows``, masks need memory only for the rows (slices) of one window:
    ``4 (K + 2) patch[0] prod(S[1:])`` bytes.

    Args:
        model: in evaluation mode.
        image: ``(1, C, *S)``, resampled and normalized for the model.
        patch: window size per axis; ``None`` predicts the whole image at once. A smaller image is padded at the far
            end to this size.
        overlap: fraction of a window that overlaps with the next one, in [0, 1).
        mirror: axes to flip; all combinations are predicted and averaged, two views per axis. Only axes that were
            flipped in training make sense.
        progress: wraps each list of windows that begin at the same row, to show a progress bar.
        swap: class -> class with which it changes places in a view that is mirrored along the last axis (left-right).
        fill: values beyond the edge of an image that is smaller than the window.
        forward: computes the outputs of a window; default ``model.outputs``.
        air: skip windows that contain only air, unless the whole image is air.
        on_mask_rows: called with rows of the masks as soon as they are final; the predictions then contain no masks.
        layout: where windows begin, and the weights of their voxels.
        window_batch: windows, of those that begin at the same row, that are computed at once.

    Returns:
        a `Prediction` per head with N = 1; attention is ``(1, *S)`` and sums to 1.
    """
    reuse_freed_memory()
    size = tuple(image.shape[2:])
    patch = size if patch is None else tuple(patch)
    full = tuple(max(n, p) for n, p in zip(size, patch, strict=True))
    device = next(model.parameters()).device
    merging: dict[str, _Merge] = {}

    def add(row: int, group: list[tuple[tuple[int, ...], Tensor]]) -> None:
        """Predict windows that begin at the same row, and merge them with those before."""
        batch = group[0][1] if len(group) == 1 else torch.cat([window for _, window in group])
        for name, views in predict_views(model, forward or model.outputs, batch, mirror, swap).items():
            if name not in merging:
                on_rows = partial(on_mask_rows, name) if on_mask_rows else None
                merging[name] = _Merge(size, full, patch, on_rows, layout=layout)
            for number, (corner, _) in enumerate(group):
                merging[name].add((row, *corner), [_of_window(view, number) for view in views])

    for skipped in (air, None):  # an image of air only is computed whole
        for row in layout.steps(full[0], patch[0], overlap):
            slab = fit(image[:, :, row : row + patch[0]].to(device), (patch[0], *full[1:]), fill)
            windows = _windows(slab, patch[1:], progress(_corners(slab, patch[1:], overlap, skipped, layout)), skipped)
            while group := list(islice(windows, window_batch)):
                add(row, group)
        if merging:
            break
    return {name: merge.result() for name, merge in merging.items()}


def _corners(
    slab: Tensor, patch: tuple[int, ...], overlap: float, air: AirThreshold | None, layout: Layout
) -> list[tuple[int, ...]]:
    """First voxel of each window of a slab along all axes but the first; the windows cover all voxels but air."""
    box = [(0, n) for n in slab.shape[3:]] if air is None else air.body_box(slab, patch)
    if not box and patch:
        return []
    inside = corners(tuple(stop - first for first, stop in box), patch, overlap, layout)
    return [tuple(c + first for c, (first, _) in zip(corner, box, strict=True)) for corner in inside]


def _windows(
    slab: Tensor, patch: tuple[int, ...], corners: Iterable[tuple[int, ...]], air: AirThreshold | None
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Yield the corner and the voxels ``(1, C, *patch)`` of each window that does not contain only air."""
    for corner in corners:
        window = slab[(..., slice(None), *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))]
        if air is None or not air.is_air(window):
            yield corner, window


def _of_window(prediction: Prediction, number: int) -> Prediction:
    """The prediction of one window of a batch, with N = 1."""
    one = slice(number, number + 1)
    parts = {f.name: getattr(prediction, f.name) for f in fields(prediction) if f.name != "extra"}
    extra = {key: value[one] for key, value in prediction.extra.items()}
    return Prediction(**{name: None if part is None else part[one] for name, part in parts.items()}, extra=extra)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.float().log().clamp_(min=LOG_LEAST)


@dataclass
class _Merge:
    """Merges the predictions of one head for all windows of an image.

    Args:
        size: ``(*S)`` of the image.
        full: ``(*S)`` of the padded image.
        patch: window size.
        on_rows: called with rows of the mask as they become final; ``None`` to keep them.
    """

    size: tuple[int, ...]
    full: tuple[int, ...]
    patch: tuple[int, ...]
    on_rows: Callable[[int, Tensor], None] | None = None
    masks: Blend | None = None
    probabilities: list[Tensor] = field(default_factory=list)
    attention: Tensor | None = None
    labels: list[Tensor] = field(default_factory=list)
    extras: dict[str, list[Tensor]] = field(default_factory=dict)
    detections: list[tuple[Detections, Tensor]] = field(default_factory=list)
    views: int = 0
    corners: list[tuple[int, ...]] = field(default_factory=list)
    layout: Layout = EVEN

    def add(self, corner: tuple[int, ...], views: list[Prediction]) -> None:
        """Add the views of the window at ``corner``."""
        self.corners.append(corner)
        self.views = len(views)
        masks = [view.mask_probabilities[0] for view in views if view.mask_probabilities is not None]
        if masks:
            self._add_masks(corner, masks)
        present = torch.ones(())
        labels = [view.label_probabilities[0] for view in views if view.label_probabilities is not None]
        if labels:
            probabilities = torch.stack(labels).mean(dim=0)
            self.labels.append(probabilities)
            present = probabilities.max().clamp(min=1e-6)  # above 0, so that attention can be normalized
        attention = [view.attention[0] for view in views if view.attention is not None]
        if attention:
            self._add_attention(corner, torch.stack(attention).mean(dim=0) * present)
        for key in views[0].extra:
            self.extras.setdefault(key, []).append(torch.stack([v.extra[key][0] for v in views]).mean(dim=0))
        for view in views:
            for detections in view.detections or ():
                shift = torch.tensor(corner * 2, device=detections.boxes.device)
                moved = replace(detections, boxes=detections.boxes + shift)
                self.detections.append((moved, self._centre_weight(detections.boxes)))

    def _add_masks(self, corner: tuple[int, ...], masks: Sequence[Tensor]) -> None:
        """Add the class probabilities of a window, averaged over its views."""
        logs = reduce(torch.add, map(_log, masks))
        logs = logs.div_(len(masks)) if len(masks) > 1 else logs
        self.masks = self.masks or Blend(len(logs), self.full, self.patch, logs.device, self.layout)
        self._take_rows(self.masks, corner[0])
        self.masks.add(corner, logs)

    def _take_rows(self, masks: Blend, stop: int) -> None:
        """Pass on the rows of the mask before ``stop``; voxels that no window covered become background."""
        for row, mean, seen in masks.rows(stop):
            mean[0].masked_fill_(~seen, -LOG_LEAST)  # the other classes are 0 there
            within = mean[(slice(None), slice(max(self.size[0] - row, 0)), *(slice(n) for n in self.size[1:]))]
            if self.on_rows is not None:
                self.on_rows(row, within)
            else:
                self.probabilities.append(within.softmax(dim=0))

    def _add_attention(self, corner: tuple[int, ...], attention: Tensor) -> None:
        """Add the attention of a window, interpolated to its voxels without changing its sum."""
        if self.attention is None:
            self.attention = torch.zeros(self.full, device=attention.device)
        window = tuple(slice(c, c + p) for c, p in zip(corner, self.patch, strict=True))
        spread = resize(attention[None, None].float(), self.patch)[0, 0]
        self.attention[window] += spread * (attention.sum() / spread.sum().clamp(min=1e-12))

    def _centre_weight(self, boxes: Tensor) -> Tensor:
        """Weight the boxes of a window by a Gaussian of the distance of their centres from that of the window."""
        dims = len(self.patch)
        centres = ((boxes[:, :dims] + boxes[:, dims:]) / 2).long()
        index = tuple(centres[:, a].clamp(0, p - 1) for a, p in enumerate(self.patch))
        return self.layout.weight(self.patch).to(boxes.device)[index]

    def result(self) -> Prediction:
        """Merge all views into the prediction of the whole image."""
        if self.masks is not None:
            self._take_rows(self.masks, self.full[0])
        attention = self.attention
        if attention is not None:
            attention = attention[tuple(slice(n) for n in self.size)][None]
            attention = attention / attention.sum().clamp(min=1e-12)
        return Prediction(
            mask_probabilities=torch.cat(self.probabilities, dim=1)[None] if self.probabilities else None,
            detections=[self._merged_boxes()] if self.detections else None,
            attention=attention,
            label_probabilities=torch.stack(self.labels).amax(dim=0)[None] if self.labels else None,
            extra={key: torch.stack(values).amax(dim=0)[None] for key, values in self.extras.items()},
        )

    def _merged_boxes(self) -> Detections:
        """Merge the boxes of all views by weighted box clustering."""
        if len(self.detections) == 1:
            return self.detections[0][0]
        found, weights = zip(*self.detections, strict=True)
        covering = self._covering(torch.cat([detections.boxes for detections in found]))
        return merged_detections(found, covering, AGREE_IOU, torch.cat(weights))

    def _covering(self, boxes: Tensor) -> Tensor:
        """Count the views whose window contains the centre of each box."""
        dims = len(self.patch)
        centres = (boxes[:, :dims] + boxes[:, dims:]) / 2
        first = torch.tensor(self.corners, device=boxes.device)[:, None]
        inside = (centres >= first) & (centres < first + torch.tensor(self.patch, device=boxes.device))
        return inside.all(dim=-1).sum(dim=0) * self.views
