"""How a MONAI bundle brings an image to its grid and its results back, as values of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class MonaiSteps(BaseModel):
    """Preparation of images exactly as MONAI's transforms do it, for weights that were trained with them.

    Axes are those of MONAI, x before y before z, towards ``axcodes``. The image is resampled linearly without smoothing
    such that the first voxel keeps its place, and padded with 0 on both sides to the window. Class probabilities are
    resampled to the image.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    axcodes: Annotated[str, Field(pattern="^[LRAPSI]{3}$")] | None = Field(
        None, description="direction of each axis, such as RAS; null: as in the file"
    )
    scaled: Literal["before", "after"] = Field("after", description="intensities are scaled before or after resampling")
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.25, description="overlap of neighbouring windows")
    weight: Literal["constant", "gaussian"] = Field("constant", description="weight of the voxels of a window")
