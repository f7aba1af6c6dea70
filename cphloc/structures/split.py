"""The splits of a data set."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "val", "test"]
"""Name of a split."""

SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""Every split: cases to train on, to choose the best weights with, and to measure the chosen weights on."""

OUT_OF_FOLD = "out_of_fold"
"""In place of a split: training and validation cases, each predicted by the network of the fold that held it out."""
