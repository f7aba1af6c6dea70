"""Export networks to ONNX (from preprocessed images to outputs of the heads), checked against torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cphloc import __version__
from cphloc.config import jsonio
from cphloc.errors import CphlocError, InputError, needs
from cphloc.files import atomic
from cphloc.modeling.model import Model
from cphloc.recipe.recipe import Recipe
from cphloc.registry import catalogue

INPUT = "image"
"""Name of the input of every exported model."""

TOLERANCE = 1e-4
"""Largest allowed deviation of ONNX Runtime from torch, relative to the largest magnitude of an output (at least 1)."""


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Args:
        path: the file or folder.
        inputs: shape of each input by name; ``N`` is the batch axis, of any size.
        outputs: shape of each output by name.
        difference: largest deviation of the exported network from the model, relative to the largest magnitude of an
            output.
        tolerance: largest deviation that was allowed.
        proof: what else was compared, as one phrase.
    """

    path: Path
    inputs: dict[str, tuple[str | int, ...]]
    outputs: dict[str, tuple[str | int, ...]]
    difference: float
    tolerance: float
    proof: str = ""


def export_onnx(
    network: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a network as ONNX, and check that ONNX Runtime computes the same as torch for two batch sizes.

    Args:
        network: any module; it is put into evaluation mode. Of a `Model`, the outputs of all heads are exported.
        example: an input ``(N, C, *S)``, or a tuple of such levels for a neck or head. The exported network accepts
            any N, but only these C and S.
        path: file to write; an existing file is only replaced after the check has passed.
        metadata: key-value pairs to store in the file's ``metadata_props``.
        tolerance: largest deviation to accept, relative to the largest magnitude of an output (at least 1).

    Returns:
        names and shapes of inputs and outputs; nested outputs are named by their path, such as ``boxes.scores.0``.

    Raises:
        MissingExtraError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
        CphlocError: the network cannot be exported, or the check fails; then no file is written.

    >>> import tempfile
    >>> done = export_onnx(nn.Conv2d(1, 4, 3), torch.zeros(1, 1, 8, 8), Path(tempfile.mkdtemp(), "conv.onnx"))
    >>> done.inputs, done.outputs
    ({'image': ('N', 1, 8, 8)}, {'output': ('N', 4, 6, 6)})
    """
    single = isinstance(example, Tensor)
    given = {INPUT: example} if single else {f"level{i}": level for i, level in enumerate(example)}
    flat, inputs = Flat(network, single).eval(), drawn(given, batch=2)  # a batch of one becomes a constant
    with torch.no_grad():
        outputs = flat.named(*inputs.values())
    program = _program(flat, inputs, list(outputs))
    program.model.metadata_props.update({"cphloc": __version__, **(metadata or {})})
    with atomic(path) as temporary:
        program.save(str(temporary), external_data=False)
        difference = max(_difference(flat, temporary, drawn(given, batch)) for batch in (1, 3))
        if not difference <= tolerance:
            msg = (
                f"{path}: ONNX Runtime differs from torch by {difference:.1e}, tolerance {tolerance:.0e}; "
                "nothing was written, because the network contains an operator that ONNX computes differently"
            )
            raise CphlocError(msg)
        program.model.metadata_props["difference"] = f"{difference:.1e}"
        program.save(str(temporary), external_data=False)
    return Exported(Path(path), shapes(inputs), shapes(outputs), difference, tolerance)


def export_model(
    model: Model, recipe: Recipe, path: str | Path, source: str | None = None, tolerance: float = TOLERANCE
) -> Exported:
    """Write a recipe's model as ONNX, for windows of the recipe's patch size; see `export_onnx`.

    The model computes the outputs of the heads; decoding them (such as suppressing duplicate boxes) is not included.
    The metadata describe how to preprocess images and interpret the outputs: channels, spacing, intensity (with its
    constants), patch and classes as JSON, and the SHA-256 of the recipe.

    Args:
        model: with trained weights.
        recipe: the recipe of the model.
        path: file to write.
        source: name to store as the origin of the model; by default that of the recipe.
        tolerance: see `export_onnx`.

    Raises:
        InputError: the recipe has no patch size, or a head's computation depends on the content of the image.
        CphlocError: as `export_onnx`.
    """
    example, metadata = described(model, recipe, source)
    return export_onnx(model.cpu(), example, path, metadata, tolerance)


def described(model: Model, recipe: Recipe, source: str | None = None) -> tuple[Tensor, dict[str, str]]:
    """Return an input of a recipe's model, and what an exported file states of it.

    Args:
        model: with trained weights.
        recipe: the recipe of the model.
        source: name to store as the origin of the model; by default that of the recipe.

    Raises:
        InputError: the recipe has no patch size, or a head's computation depends on the content of the image.
    """
    for name, block in recipe.model.heads.items():
        if (reason := catalogue.card("head", block.type).not_exported) is not None:
            msg = f"head '{name}' ({block.type}) cannot be exported: {reason}; export a model with another head"
            raise InputError(msg)
    if recipe.data.patch is None:
        msg = f"{recipe.name}: has no data.patch, so the input size of the model is undefined; set data.patch"
        raise InputError(msg)
    data = recipe.to_plain()["data"]
    facts = {key: data[key] for key in ("spacing_mm", "intensity", "patch", "fit", "pad", "nnunet")}
    facts |= {"channels": list(recipe.channels), "classes": model.classes, "task": recipe.task}
    metadata = {key: value if isinstance(value, str) else jsonio.dumps(value) for key, value in facts.items()}
    metadata |= {"source": source or recipe.name, "recipe_sha256": recipe.sha256}
    return torch.zeros(1, len(recipe.channels), *recipe.data.patch), metadata


def named(outputs: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in nested outputs with its name, such as ``boxes.scores.0``.

    >>> [name for name, _ in named({"boxes": (torch.zeros(1), torch.zeros(1)), "mask": torch.zeros(1)})]
    ['boxes.0', 'boxes.1', 'mask']
    """
    if isinstance(outputs, Tensor):
        yield name or "output", outputs
        return
    keys = outputs if isinstance(outputs, Mapping) else getattr(outputs, "_fields", range(len(outputs)))
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    for key, value in zip(keys, values, strict=True):
        yield from named(value, f"{name}.{key}" if name else str(key))


class Flat(nn.Module):
    """Wraps a network so that inputs are tensors and the output is a flat tuple of tensors, as ONNX needs."""

    def __init__(self, network: nn.Module, single: bool) -> None:
        super().__init__()
        self.network = network
        self.single = single

    def named(self, *given: Tensor) -> dict[str, Tensor]:
        """Outputs of the network by name."""
        call = self.network.outputs if isinstance(self.network, Model) else self.network
        argument: Any = given[0] if self.single else given  # a neck or head takes all levels at once
        return dict(named(call(argument)))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network in the order of their names."""
        return tuple(self.named(*given).values())


def _program(flat: Flat, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    """Convert the network to an ONNX program in memory."""
    with needs("an ONNX export"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    given = tuple(inputs.values())
    try:
        with warnings.catch_warnings(action="ignore"):
            graph = traced(flat, given)
            return torch.onnx.export(graph, given, verbose=False, input_names=list(inputs), output_names=list(outputs))
    except Exception as error:  # each part of the exporter raises errors of its own
        msg = f"the network cannot be exported to ONNX: {str(error).strip().splitlines()[0]}"
        raise CphlocError(msg) from error


def traced(flat: Flat, given: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Trace a network for inputs like those given, with a batch of any size."""
    batch = torch.export.Dim("N")
    return torch.export.export(flat, given, dynamic_shapes=(tuple({0: batch} for _ in given),), strict=False)


def drawn(like: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
    """Draw random inputs of the same shapes, with another batch size."""
    draw = torch.Generator().manual_seed(batch)
    return {name: torch.randn(batch, *x.shape[1:], generator=draw) for name, x in like.items()}


def _difference(flat: Flat, path: Path, inputs: Mapping[str, Tensor]) -> float:
    """Largest deviation of ONNX Runtime from torch, relative to the largest magnitude of an output (at least 1)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    actual = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    with torch.no_grad():
        expected = flat(*inputs.values())
    pairs = [(torch.from_numpy(a), e) for a, e in zip(actual, expected, strict=True)]
    return max(float((a - e).abs().max() / e.abs().max().clamp(min=1)) for a, e in pairs)


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str | int, ...]]:
    """Return the shape of each tensor, with ``N`` for the batch."""
    return {name: ("N", *x.shape[1:]) for name, x in tensors.items()}
