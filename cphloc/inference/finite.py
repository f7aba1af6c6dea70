"""Refuse outputs of a network that are not finite numbers, which would read as "nothing found"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cphloc.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from cphloc.inference.views import Forward


def finite_outputs(forward: Forward, source: str, window: Tensor) -> dict[str, Any]:
    """Compute the outputs of a window and check that they are finite, before any decoding hides it.

    Args:
        forward: computes the outputs of a window by head name.
        source: the image, for messages.
        window: ``(1, C, *S)``.

    Raises:
        DataError: an output is NaN or infinite.
    """
    from torch.utils._pytree import tree_leaves

    outputs = forward(window)
    for name, output in outputs.items():
        if not all(leaf.isfinite().all() for leaf in tree_leaves(output)):
            msg = (
                f"{source}: the outputs of head '{name}' are not finite numbers, so there is no result; check the "
                "image's values and unit, and predict with --backend torch"
            )
            raise DataError(msg)
    return outputs
