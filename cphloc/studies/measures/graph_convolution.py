"""Comparison of graph convolutions on the voxel grid with ordinary convolutions."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.graph_conv import GraphConvolutions
from cphloc.components.head.gap import GlobalAveragePool
from cphloc.config.argument_types import NonNegativeFloat, PositiveInt
from cphloc.modeling.model import Model
from cphloc.structures.annotation import Annotation
from cphloc.studies.measured import Trained, Values
from cphloc.studies.small_training import Batch, auc_of, learn

Question = Literal["direction", "edge"]


class GraphConvolution:
    """Compare graph convolutions with shared and with directed edge weights to an ordinary convolution.

    ``convolution_error`` is the largest difference from a convolution with the same kernel (all nine weights equal for
    shared weights), at least two voxels from the border. ``shuffle_error`` is the change of the output when the eight
    neighbours of a voxel are permuted, relative to the standard deviation of the output. Each layer is then trained on
    two classification tasks of noisy images: whether there is an edge (``auc_edge``), and whether the right side of
    the edge is brighter (``auc_direction``).

    Args:
        size: voxels of the images along each axis.
        width: number of features per voxel.
        noise: standard deviation of the noise; an edge is a step of height 1.
        steps: training steps, each on 32 images.
        tested: number of test images.
    """

    def __init__(
        self,
        size: PositiveInt = 16,
        width: PositiveInt = 16,
        noise: NonNegativeFloat = 0.3,
        steps: PositiveInt = 100,
        tested: PositiveInt = 500,
    ) -> None:
        self.size, self.width, self.noise, self.steps, self.tested = size, width, noise, steps, tested

    def __call__(self, trained: Trained) -> Values:
        """Return the metrics of each kind of layer."""
        torch.manual_seed(trained.seed)
        found = {}
        for name in ("one weight", "a weight a direction", "convolution"):
            layer = _backbone(name, [self.width] * 2)
            known = {"convolution_error": convolution_error(layer)} if isinstance(layer, GraphConvolutions) else {}
            learned = {f"auc_{question}": self._learned(name, question) for question in ("direction", "edge")}
            found[name] = {**known, "shuffle_error": shuffle_error(layer), **learned}
        return found

    def _learned(self, name: str, question: Question) -> float:
        backbone = _backbone(name, [self.width] * 3)
        model = Model(backbone, None, {"answer": GlobalAveragePool(backbone.levels, classes=["yes"])})
        draw = partial(pictures, question, size=self.size, noise=self.noise)
        learn(model, partial(draw, 32), self.steps)
        return auc_of(model, draw(self.tested))


def _backbone(name: str, widths: list[int]) -> ConvEncoder | GraphConvolutions:
    """Build an encoder: a layer for single voxels, then a layer over neighbours for each further width."""
    if name == "convolution":
        kernels = [1] + [3] * (len(widths) - 1)
        style = {"convolutions": 1, "norm": "none", "activation": "relu"}
        return ConvEncoder(1, 2, widths=widths, strides=[1] * len(widths), kernels=kernels, **style)
    return GraphConvolutions(1, 2, cell=1, widths=widths, edges="shared" if name == "one weight" else "directed")


def convolution_error(layer: GraphConvolutions) -> float:
    """Compute the largest difference of a graph convolution from `torch.nn.functional.conv2d` away from the border.

    >>> convolution_error(GraphConvolutions(1, 2, cell=1, widths=[4, 4])) < 1e-5
    True
    """
    picture = torch.randn(1, 1, 12, 12)
    graph: Any = layer.layers[0]
    weights = [linear.weight for linear in graph.linears]
    taps = torch.stack(weights * 9 if len(weights) == 1 else weights, dim=2).unflatten(2, (3, 3))
    with torch.no_grad():
        convolved = functional.conv2d(layer.read(picture).relu(), taps / (9 / len(weights)), graph.bias, padding=1)
        difference = layer(picture)[-1] - convolved.relu()
    return float(difference[..., 2:-2, 2:-2].abs().max())


def shuffle_error(layer: nn.Module) -> float:
    """Compute the RMS change of the output at a voxel when its neighbours are permuted, over the output's std."""
    picture = torch.randn(64, 1, 7, 7)
    around = [(row, column) for row in (2, 3, 4) for column in (2, 3, 4) if (row, column) != (3, 3)]
    rows, columns = torch.tensor(around).T
    shuffled, order = picture.clone(), torch.randperm(8)
    shuffled[..., rows, columns] = picture[..., rows[order], columns[order]]
    with torch.no_grad():
        before, after = (layer(x)[-1][..., 3, 3] for x in (picture, shuffled))
    return float((after - before).square().mean().sqrt() / before.std())


def pictures(question: Question, count: int, size: int, noise: float) -> Batch:
    """Draw noisy images ``(count, 1, size, size)`` of mean 0 with a vertical edge; every other label is positive.

    Args:
        question: ``direction``: is the right side of the edge brighter? ``edge``: is there an edge?
        count: number of images.
        size: voxels along each axis.
        noise: standard deviation of the noise.
    """
    yes = torch.arange(count) % 2 == 1
    place = torch.randint(1, size, (count, 1))
    step = (torch.arange(size) >= place).float()
    right_is_brighter = yes if question == "direction" else torch.rand(count) < 0.5
    row = torch.where(right_is_brighter[:, None], step, -step)
    if question == "edge":
        row = row * yes[:, None]
    drawn = row[:, None, None] + noise * torch.randn(count, 1, size, size)
    labels = [Annotation(label=np.array([answer], np.float32)) for answer in yes.tolist()]
    return drawn - drawn.mean((2, 3), keepdim=True), labels
