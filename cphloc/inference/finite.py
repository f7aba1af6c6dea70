"""Refuse windows that a network cannot compute, and outputs that are not finite, which would read as no finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cphloc.errors import DataError, one_line

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
        DataError: the network cannot compute the window, or an output is NaN or infinite.
    """
    from torch.utils._pytree import tree_leaves

    try:
        outputs = forward(window)
    except (RuntimeError, ValueError, MemoryError) as error:  # of torch, and of the runtimes
        size = " x ".join(map(str, window.shape[2:]))
        reason = one_line(str(error).strip().split("\n")[0][:200]) or type(error).__name__
        msg = (
            f"{source}: the network cannot compute a window of {size} voxels ({reason}); check data.patch of its recipe"
        )
        raise DataError(msg) from error
    for name, output in outputs.items():
        if not all(leaf.isfinite().all() for leaf in tree_leaves(output)):
            msg = (
                f"{source}: the outputs of head '{name}' are not finite numbers, so there is no result; check the "
                "image's values and unit, and predict with --backend torch"
            )
            raise DataError(msg)
    return outputs
