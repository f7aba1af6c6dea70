"""What ``entry.yaml`` states of weights that another framework trained: where they come from, and the proof."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cphloc.zoo.fields import Count, Finite, Positive, Strict, Text


class Proof(Strict):
    """How far predictions of the entry differ from those of the framework that trained it.

    Args:
        by: ``prove``: the framework predicted in an environment of its own; ``reference``: its outputs were given.
        version: version of the framework, where it is known.
        cases: number of inputs that were compared.
        outputs: largest difference of the network's outputs for the same input.
        scale: largest magnitude of these outputs.
        voxels: voxels of the masks that were compared.
        differing: voxels of these masks with another class.
        rounding: voxels whose class the framework's own half precision changes, against its single precision.
        boxes: number of boxes that were compared.
        box_pixels: largest difference of the sides of boxes, in pixels.
        box_scores: largest difference of their scores.
        framework_seconds: time of the framework for all cases, where it was measured.
        seconds: time of the entry for the same cases.
    """

    by: Literal["prove", "reference"]
    version: Text | None = None
    cases: Annotated[int, Field(gt=0)]
    outputs: Finite | None = None
    scale: Finite | None = None
    voxels: Count = 0
    differing: Count = 0
    rounding: Count = 0
    boxes: Count = 0
    box_pixels: Finite | None = None
    box_scores: Finite | None = None
    framework_seconds: Positive | None = None
    seconds: Positive | None = None

    @property
    def agreement(self) -> str:
        """The differences as one phrase."""
        parts = []
        if self.outputs is not None:
            most = f" of at most {self.scale:.3g}" if self.scale else ""
            parts.append(f"outputs{most} differ by {self.outputs:.1e}")
        if self.voxels:
            parts.append(f"{self.differing:,} of {self.voxels:,} voxels of masks differ")
        if self.boxes:
            parts.append(f"{self.boxes} boxes differ by {self.box_pixels:.1e} pixels, scores by {self.box_scores:.1e}")
        if self.rounding:
            parts.append(f"its own half precision changes {self.rounding:,}")
        if self.seconds and self.framework_seconds:
            parts.append(f"{self.framework_seconds:.1f} s there, {self.seconds:.1f} s here")
        return "; ".join(parts)


class ImportedFrom(Strict):
    """Origin of imported weights; ``proof`` is ``None`` where nothing was compared."""

    framework: Text
    architecture: Text
    licence: Text
    citation: Text
    origin: Text
    proof: Proof | None = None

    @property
    def verdict(self) -> str:
        """One sentence for the card: proven equal, with the differences, or not proven."""
        if self.proof is None:
            return f"**Not proven**: no prediction of {self.framework}, which trained the weights, was compared."
        version = f" {self.proof.version}" if self.proof.version else ""
        return f"**Proven equal to {self.framework}{version}** on {self.proof.cases} inputs: {self.proof.agreement}."
