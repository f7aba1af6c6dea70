"""Losses for images in which only some of the classes were annotated.

A class that nobody looked for is unknown, not absent. Its logits are changed before the loss such that the loss does
not depend on whether the class is there.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST = -1e4
"""Logit of a class that cannot be: its probability is exactly 0, and so are the gradients."""


def marginalized(logits: Tensor, known: Tensor) -> Tensor:
    """Merge unknown classes with the background, for losses on a softmax over background and classes.

    The probability of the background becomes that of "background or an unknown class", and those of the unknown classes
    become 0. A target of 0 then means exactly what is known. This is the target adaptive loss of Fang & Yan 2020
    (doi 10.1109/TMI.2020.3001036) and the marginal loss of Shi et al. 2021 (doi 10.1016/j.media.2021.101979); it works
    with any loss.

    Args:
        logits: ``(N, K + 1, *S)``, background first.
        known: ``(N, K)`` bool, classes that were looked for.

    >>> merged = marginalized(torch.zeros(1, 3), torch.tensor([[True, False]]))
    >>> [round(p, 3) for p in merged.softmax(1)[0].tolist()]
    [0.667, 0.333, 0.0]
    """
    if known.all():
        return logits
    logits = logits.float()
    unknown = ~known.view(*known.shape, *(1,) * (logits.dim() - 2))
    classes = logits[:, 1:]
    rest = torch.cat([logits[:, :1], classes.masked_fill(~unknown, -torch.inf)], dim=1).logsumexp(1, keepdim=True)
    return torch.cat([rest, classes.masked_fill(unknown, LOWEST)], dim=1)


def possible(logits: Tensor) -> Tensor:
    """Return which classes can be, False for those that `marginalized` or `silenced` have excluded.

    >>> possible(marginalized(torch.zeros(1, 3), torch.tensor([[True, False]]))).tolist()
    [[True, True, False]]
    """
    return logits > LOWEST


def silenced(logits: Tensor, known: Tensor) -> Tensor:
    """Replace the logits of unknown classes by `LOWEST`, for losses on one sigmoid per class.

    With a target of 0, cross-entropy and focal loss of such a logit are 0.

    Args:
        logits: any shape.
        known: bool, classes that were looked for, in a shape that can be broadcast to that of ``logits``.
    """
    return logits if known.all() else logits.masked_fill(~known, LOWEST)
