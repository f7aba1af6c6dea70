"""State on an entry how far its network differs in ONNX Runtime from torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cphloc.errors import CphlocError, MissingExtraError
from cphloc.inference.export import export_model
from cphloc.inference.localizer import Localizer


def onnx_parity(localizer: Localizer) -> str:
    """Export a network to a temporary ONNX file and return, in words, how far it differs from torch.

    Returns:
        the largest difference relative to the largest output, or the reason why the network cannot be exported.

    Raises:
        MissingExtraError: the extra ``onnx`` is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = export_model(localizer.model, localizer.recipe, Path(folder) / "model.onnx")
        except MissingExtraError:
            raise
        except CphlocError as error:
            return f"not exported: {str(error).splitlines()[0]}"
    shape = " x ".join(map(str, next(iter(done.inputs.values()))))
    return f"ONNX Runtime equals torch within {done.difference:.0e} of the largest output (windows of {shape})"
