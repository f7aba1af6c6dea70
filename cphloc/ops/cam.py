"""Class activation maps of a classifier: CAM and Grad-CAM, and their normalization to an attention map."""

from __future__ import annotations

import torch
from torch import Tensor


def class_activation(features: Tensor, weight: Tensor) -> Tensor:
    """Compute CAM ``M_c = sum_k w_ck f_k`` for a network that ends in global average pooling and a linear layer.

    Args:
        features: ``(N, C, *S')`` before the pooling.
        weight: ``(K, C)`` of the linear layer.

    Returns:
        ``(N, K, *S')``; its mean over the cells is the logit without bias. Zhou et al. 2016, arXiv:1512.04150.
    """
    return torch.einsum("nc...,kc->nk...", features, weight)


def grad_cam(features: Tensor, logit: Tensor) -> Tensor:
    """Compute Grad-CAM ``relu(sum_k a_k f_k)``, with ``a_k`` the mean over all cells of ``d logit / d f_k``.

    After global average pooling and a linear layer it equals ``relu(CAM) / cells``. Selvaraju et al. 2017,
    arXiv:1610.02391.

    Args:
        features: ``(N, C, *S')`` that ``logit`` was computed from, with a graph; the network in eval mode.
        logit: ``(N,)`` of one class, before the sigmoid, which would flatten the gradient.

    Returns:
        ``(N, *S')``, not negative, without a graph.
    """
    gradient = torch.autograd.grad(logit.sum(), features, retain_graph=True)[0]
    weight = gradient.flatten(2).mean(2)
    return torch.einsum("nc...,nc->n...", features.detach(), weight).relu()


def as_attention(activation: Tensor) -> Tensor:
    """Scale maps ``(N, *S')`` to sum to 1 over each case.

    Negative values are set to 0; maps without positive values become uniform.
    """
    positive = activation.float().relu().flatten(1)
    total = positive.sum(1, keepdim=True)
    even = torch.full_like(positive, 1 / positive.shape[1])
    share = torch.where(total > 0, positive / total.clamp_min(torch.finfo(total.dtype).tiny), even)
    return share.view(activation.shape)
