"""Detection transformer: a fixed number of queries, each at most one object; nothing has to be suppressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.components.loss.focal import Focal
from cphloc.config.argument_types import NonNegativeFloat, PositiveInt, UnitInterval
from cphloc.errors import InputError
from cphloc.ops.assign_hungarian import assign_hungarian
from cphloc.ops.boxes import from_centre_size, overlap, to_centre_size
from cphloc.ops.deformable_attention import DeformableAttention
from cphloc.ops.dense_prediction import PRIOR_BIAS
from cphloc.ops.detections import best, with_volume
from cphloc.ops.layers import carries_graph, conv_type
from cphloc.ops.partial_labels import silenced
from cphloc.ops.targets import Detections, Prediction, Targets
from cphloc.structures.annotation import class_names
from cphloc.structures.levels import Levels

CELLS_ACROSS = 4
"""Size of the box that a cell proposes before it is refined, in cells, as that of RetinaNet's anchors."""


class DETROutput(NamedTuple):
    """Class logits ``(N, Q, K)`` and boxes ``(N, Q, 2 D)`` in image voxels, of the last decoder layer first.

    In training those of the earlier layers follow, then those of the cells that the queries start from.
    """

    scores: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]


class DETR(nn.Module):
    """Decoder of RT-DETR: the best cells of the pyramid become queries, which layers of attention refine.

    Each layer lets the queries attend to each other and, by deformable attention, to the pyramid, and corrects their
    boxes. In training each object is matched to exactly one query (Hungarian matching), so that a second query on the
    same object learns to be background and no suppression is needed. The neck takes the place of RT-DETR's encoder.

    Args:
        levels: pyramid levels of the backbone or neck, set when the model is built.
        classes: foreground classes, ``{1: nodule}`` or ``[nodule]``.
        queries: number of queries, the largest number of detections; more than the objects of any image.
        channels: channels of queries and maps, a multiple of ``attention_heads``.
        layers: decoder layers.
        attention_heads: attention heads.
        points: points that a head reads at each level.
        loss: classification loss; default ``focal``.
        score_weight: weight of the classification loss.
        box_weight: weight of the L1 distance of boxes, in fractions of the image.
        iou_weight: weight of 1 - GIoU.
        score: detections at or below this score are dropped.

    Shapes:
        pyramid to class logits ``(N, Q, K)`` and boxes ``(N, Q, 2 D)`` in voxels.

    Raises:
        InputError: ``channels`` is not a multiple of ``attention_heads``.

    Reference: Carion et al. 2020, arXiv:2005.12872; Zhu et al. 2021, arXiv:2010.04159; Zhao et al. 2024, RT-DETR,
    arXiv:2304.08069, without its denoising queries.

    >>> from cphloc.structures.levels import Level
    >>> head = DETR((Level(8, (4, 4)),), classes=["cell"], queries=5, channels=8, layers=1)
    >>> head.eval()((torch.zeros(1, 8, 8, 8),)).boxes[0].shape
    torch.Size([1, 5, 4])
    """

    def __init__(
        self,
        levels: Levels,
        classes: Mapping[int, str] | Sequence[str],
        queries: PositiveInt = 100,
        channels: PositiveInt = 256,
        layers: PositiveInt = 3,
        attention_heads: PositiveInt = 8,
        points: PositiveInt = 4,
        loss: nn.Module | None = None,
        score_weight: NonNegativeFloat = 1.0,
        box_weight: NonNegativeFloat = 5.0,
        iou_weight: NonNegativeFloat = 2.0,
        score: UnitInterval = 0.05,
    ) -> None:
        super().__init__()
        if channels % attention_heads:
            msg = f"detr needs channels that are a multiple of attention_heads, got {channels} and {attention_heads}"
            raise InputError(msg)
        self.classes, self.levels, self.queries, self.minimum = class_names(classes), levels, queries, score
        self.criterion = loss or Focal()
        self.score_weight, self.box_weight, self.iou_weight = score_weight, box_weight, iou_weight
        dims = levels[0].dims
        self.entries = nn.ModuleList(
            nn.Sequential(conv_type(dims)(level.channels, channels, 1), nn.GroupNorm(1, channels)) for level in levels
        )
        self.cell = nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels))
        self.layers = nn.ModuleList(_Layer(channels, len(levels), dims, attention_heads, points) for _ in range(layers))
        scores = [nn.Linear(channels, len(self.classes)) for _ in range(layers + 1)]
        for layer in scores:
            nn.init.constant_(layer.bias, PRIOR_BIAS)
        self.score = nn.ModuleList(scores)
        self.correction = nn.ModuleList(_correction(channels, dims) for _ in range(layers + 1))

    def forward(self, pyramid: tuple[Tensor, ...]) -> DETROutput:
        """Predict classes and boxes of all queries."""
        maps = [entry(x) for entry, x in zip(self.entries, pyramid, strict=True)]
        extent = [n * s for n, s in zip(pyramid[0].shape[2:], self.levels[0].stride, strict=True)]
        cells = self.cell(torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1))
        logits = self.score[0](cells)
        chosen = logits.amax(-1).topk(min(self.queries, logits.shape[1]), dim=1).indices[..., None]
        queries = cells.gather(1, chosen.expand(-1, -1, cells.shape[2]))
        first = self._cell_boxes(maps, extent).expand(cells.shape[0], -1, -1)
        first = first.gather(1, chosen.expand(-1, -1, first.shape[2])) + self.correction[0](queries).float()
        scores, boxes = [logits.gather(1, chosen.expand(-1, -1, logits.shape[2]))], [first.sigmoid()]
        queries = queries.detach()
        for layer, score, correction in zip(self.layers, self.score[1:], self.correction[1:], strict=True):
            start = boxes[-1].detach()
            queries = layer(queries, start, maps)
            scores.append(score(queries))
            boxes.append((start.logit(1e-4) + correction(queries).float()).sigmoid())
        if not self.training:
            scores, boxes = scores[-1:], boxes[-1:]
        size = torch.tensor(extent * 2, dtype=torch.float32, device=boxes[0].device)
        voxels = (from_centre_size(*(x * size).chunk(2, dim=-1)) for x in reversed(boxes))
        return DETROutput(tuple(reversed(scores)), tuple(voxels))

    def _cell_boxes(self, maps: Sequence[Tensor], extent: Sequence[int]) -> Tensor:
        """Box of every cell ``(1, cells, 2 D)`` before sigmoid: centre and size in fractions of the image."""
        boxes = []
        for x, level in zip(maps, self.levels, strict=True):
            axes = [(torch.arange(n, device=x.device) + 0.5) / n for n in x.shape[2:]]
            centre = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
            size = centre.new_tensor([CELLS_ACROSS * s / n for s, n in zip(level.stride, extent, strict=True)])
            boxes.append(torch.cat([centre, size.expand_as(centre)], dim=1))
        return torch.cat(boxes)[None].clamp(0.01, 0.99).logit()

    def loss(self, outputs: DETROutput, targets: Targets) -> dict[str, Tensor]:
        """Return ``{"score", "box", "iou"}`` over the images with boxes, summed over the decoder layers and cells."""
        rows = targets.has_boxes.nonzero()[:, 0].tolist()
        divisor = max(1, sum(len(targets.boxes[row]) for row in rows))
        zero = carries_graph(*outputs.scores, *outputs.boxes)
        total = {"score": zero, "box": zero, "iou": zero}
        for scores, boxes in zip(outputs.scores, outputs.boxes, strict=True):
            for row in rows:
                for name, value in self._image_loss(scores[row], boxes[row], targets, row).items():
                    total[name] = total[name] + value / divisor
        weights = {"score": self.score_weight, "box": self.box_weight, "iou": self.iou_weight}
        return {name: weights[name] * value for name, value in total.items()}

    def _image_loss(self, scores: Tensor, boxes: Tensor, targets: Targets, row: int) -> dict[str, Tensor]:
        """Sums of the losses of one image: classes over all queries, boxes over those matched to an object."""
        true, classes = targets.boxes[row], targets.box_classes[row] - 1
        size = torch.tensor(targets.size * 2, dtype=torch.float32, device=boxes.device)
        found, wanted = (torch.cat(to_centre_size(x), dim=-1) / size for x in (boxes, true))
        distance = (found[:, None] - wanted).abs().sum(-1)
        query, target = assign_hungarian(scores, boxes, distance, true, classes, self.box_weight, self.iou_weight)
        truth = torch.zeros_like(scores, dtype=torch.float32)
        truth[query, classes[target]] = 1
        known = targets.known_at([row], to_centre_size(boxes)[0].detach())[0].expand_as(truth)
        logits = silenced(scores.float(), known | (truth > 0))
        return {
            "score": self.criterion(logits, truth).sum(),
            "box": distance[query, target].sum(),
            "iou": (1 - overlap(boxes[query], true[target], "giou")).sum(),
        }

    def decode(self, outputs: DETROutput) -> Prediction:
        """Return the detections of every image; boxes are not clipped to the image."""
        return Prediction(
            detections=[self._detect(*each) for each in zip(outputs.scores[0], outputs.boxes[0], strict=True)]
        )

    def _detect(self, scores: Tensor, boxes: Tensor) -> Detections:
        at, classes, value = best(scores.float().sigmoid(), self.minimum, self.queries)
        return with_volume(boxes[at], value, classes)


class _Layer(nn.Module):
    """Self-attention of the queries, deformable attention to the pyramid, a small network; each added and normed."""

    def __init__(self, channels: int, levels: int, dims: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Sequential(nn.Linear(2 * dims, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.across = DeformableAttention(channels, levels, dims, heads, points)
        self.feed = nn.Sequential(nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Refine queries ``(N, Q, C)`` with boxes ``(N, Q, 2 D)``, centre and size in fractions of the image."""
        place = self.place(boxes.to(queries.dtype))
        given = (self.query(queries + place), self.key(queries + place), self.value(queries))
        wide = queries.shape[-1] // self.heads  # stated, because an empty batch leaves it undetermined
        heads = (x.unflatten(-1, (self.heads, wide)).transpose(1, 2) for x in given)
        attended = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        queries = self.norms[0](queries + self.out(attended))
        queries = self.norms[1](queries + self.across(queries + place, boxes, maps))
        return self.norms[2](queries + self.feed(queries))


def _correction(channels: int, dims: int) -> nn.Sequential:
    """Network that computes the change of a box, small at first."""
    last = nn.Linear(channels, 2 * dims)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)
