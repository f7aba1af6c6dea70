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
    framework_seconds: Positive | None = None
    seconds: Positive | None = None


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
        parts = []
        if self.proof.outputs is not None:
            most = f" of at most {self.proof.scale:.3g}" if self.proof.scale else ""
            parts.append(f"outputs{most} differ by {self.proof.outputs:.1e}")
        if self.proof.voxels:
            parts.append(f"{self.proof.differing:,} of {self.proof.voxels:,} voxels of masks differ")
        if self.proof.rounding:
            parts.append(f"its own half precision changes {self.proof.rounding:,}")
        if self.proof.seconds and self.proof.framework_seconds:
            parts.append(f"{self.proof.framework_seconds:.1f} s there, {self.proof.seconds:.1f} s here")
        version = f" {self.proof.version}" if self.proof.version else ""
        return f"**Proven equal to {self.framework}{version}** on {self.proof.cases} inputs: {'; '.join(parts)}."
