"""How nnU-Net brings an image to its grid and its results back, as values of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Order = Annotated[int, Field(ge=0, le=5)]
"""Order of a spline: 0 nearest neighbour, 1 linear, 3 cubic."""


class NnUNetSteps(BaseModel):
    """Preparation of images exactly as nnU-Net does it, for weights that were trained with it.

    The image is reoriented, its axes permuted, it is cropped to the voxels that are not 0, scaled, resampled with
    splines without smoothing, and padded with 0 on both sides to the patch. Logits are resampled to the cropped image.
    """

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    orientation: Literal["stored", "RAS"] = Field("stored", description="axes as in the file, or towards R, A and S")
    axes: list[Annotated[int, Field(ge=0, le=2)]] = Field(description="order of the axes (`transpose_forward`)")
    kept: list[Annotated[int, Field(ge=0, le=2)]] = Field([], description="permuted axes that keep their voxel size")
    image_order: Order = Field(3, description="order of the spline that resamples images")
    result_order: Order = Field(1, description="order of the spline that resamples logits")
    separate: bool | None = Field(
        None, description="resample the axis of the largest voxel size by nearest neighbour; null: above 3 times others"
    )

    @model_validator(mode="after")
    def _all_axes(self) -> NnUNetSteps:
        if sorted(self.axes) != list(range(len(self.axes))) or len(self.axes) not in (2, 3):
            msg = f"axes must name each axis once, such as [0, 1, 2], got {self.axes}"
            raise ValueError(msg)
        return self
