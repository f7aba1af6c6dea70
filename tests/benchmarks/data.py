"""Augmentation of training patches, and reading them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .measure import Comparison, Contender, times_less

SIDE = 96
AFFINE = {"rotate": [-15, 15], "scale": [0.85, 1.2], "p": 1.0}
ROTATE, SCALE, GAMMA, SIGMA = np.deg2rad(15), (0.85, 1.2), (0.7, 1.5), (0.0, 0.2)


def comparisons(full: bool) -> list[Comparison]:
    """Random transforms of an image and its mask; the draws differ, so outputs are not compared."""
    affine = [{"type": "Affine", **AFFINE}]
    chain = [*affine, {"type": "Flip"}, {"type": "Gamma", "p": 1.0}, {"type": "GaussNoise", "p": 1.0}]
    peers = {"MONAI": _monai, "TorchIO": _torchio, "batchgeneratorsv2": _batchgenerators}

    def against(job: str, blocks: list[dict[str, Any]], goal: float, whole: bool) -> Comparison:
        others = [Contender(name, lambda make=make: make(whole)) for name, make in peers.items()]
        return Comparison(job, Contender("cphloc", lambda: _ours(blocks)), others, times_less(goal))

    return [
        against(f"affine, {SIDE}^3 image + mask", affine, 4, whole=False),
        against(f"affine + flip + gamma + noise, {SIDE}^3 image + mask", chain, 3, whole=True),
        Comparison(
            f"elastic, {SIDE}^3 image + mask",
            Contender("cphloc", lambda: _ours([{"type": "Elastic", "p": 1.0}])),
            [Contender(name, make) for name, make in ELASTIC.items()],
            times_less(3),
        ),
        Comparison(
            f"a {SIDE}^3 patch of a 192 x 192 x 96 volume: prepared case against .nii.gz",
            Contender("cphloc", _prepared),
            (Contender("SimpleITK", _simpleitk), Contender("nibabel", _nibabel)),
            times_less(10),
            same=lambda ours, theirs: np.array_equal(ours, theirs),
        ),
    ]


def _pair() -> tuple[np.ndarray, np.ndarray]:
    """Return an image and the mask of a ball, as an organ is; cphloc interpolates it, its peers take the nearest."""
    image = np.random.default_rng(0).standard_normal((1, SIDE, SIDE, SIDE), dtype=np.float32)
    place = np.linspace(-1, 1, SIDE) ** 2
    ball = place[:, None, None] + place[:, None] + place < 0.25
    return image, ball[None].astype(np.uint8)


def _ours(blocks: list[dict[str, Any]]) -> Callable[[], None]:
    from cphloc.data.augment.augmentation import Augmentation
    from cphloc.data.augment.warp import warp_image_and_mask
    from cphloc.structures.annotation import Annotation

    augmentation, random = Augmentation(blocks, dims=3), np.random.default_rng(0)
    image, mask = _pair()
    centre = np.full(3, SIDE / 2)

    def job() -> None:
        drawn = augmentation.draw(random, mask.shape[1:], (1.0, 1.0, 1.0))
        patch, patch_mask = warp_image_and_mask(image, mask[0], drawn.warp, centre, mask.shape[1:])
        augmentation.apply(patch, Annotation(mask=patch_mask), random)

    return job


def _monai(whole: bool) -> Callable[[], None]:
    import torch
    from monai import transforms as t

    both = ["image", "mask"]
    steps = [
        t.RandAffined(
            both,
            prob=1.0,
            rotate_range=[ROTATE] * 3,
            scale_range=[(SCALE[0] - 1, SCALE[1] - 1)] * 3,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        )
    ]
    if whole:
        steps += [t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)]
        steps += [
            t.RandAdjustContrastd("image", prob=1.0, gamma=GAMMA),
            t.RandGaussianNoised("image", 1.0, std=SIGMA[1]),
        ]
    transform = t.Compose(steps)
    image, mask = (torch.from_numpy(a) for a in _pair())
    return lambda: transform({"image": image, "mask": mask}) and None


def _torchio(whole: bool) -> Callable[[], None]:
    import torch
    import torchio as tio

    steps = [tio.RandomAffine(scales=SCALE, degrees=15)]
    if whole:
        steps += [tio.RandomFlip((0, 1, 2), 0.5), tio.RandomGamma((-0.36, 0.4)), tio.RandomNoise(0, SIGMA)]
    transform = tio.Compose(steps)
    image, mask = (torch.from_numpy(a) for a in _pair())
    subject = tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))
    return lambda: transform(subject) and None


def _batchgenerators(whole: bool) -> Callable[[], None]:
    import torch
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    size = (SIDE,) * 3
    steps = [SpatialTransform(size, 0, False, p_rotation=1, rotation=(-ROTATE, ROTATE), p_scaling=1, scaling=SCALE)]
    if whole:
        gamma = GammaTransform(GAMMA, p_invert_image=0, synchronize_channels=False, p_per_channel=1, p_retain_stats=0)
        steps += [MirrorTransform((0, 1, 2)), gamma, GaussianNoiseTransform(SIGMA)]
    transform = ComposeTransforms(steps)
    image, mask = (torch.from_numpy(a) for a in _pair())
    return lambda: transform(image=image.clone(), segmentation=mask.to(torch.int16)) and None


def _monai_elastic() -> Callable[[], None]:
    import torch
    from monai.transforms import Rand3DElasticd

    modes = ("bilinear", "nearest")
    transform = Rand3DElasticd(["image", "mask"], (5, 8), (100, 200), prob=1.0, mode=modes, padding_mode="zeros")
    image, mask = (torch.from_numpy(a) for a in _pair())
    return lambda: transform({"image": image, "mask": mask}) and None


def _torchio_elastic() -> Callable[[], None]:
    import torch
    import torchio as tio

    transform = tio.RandomElasticDeformation()
    image, mask = (torch.from_numpy(a) for a in _pair())
    subject = tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))
    return lambda: transform(subject) and None


def _batchgenerators_elastic() -> Callable[[], None]:
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform((SIDE,) * 3, 0, False, p_elastic_deform=1, p_rotation=0, p_scaling=0)
    image, mask = (torch.from_numpy(a) for a in _pair())
    return lambda: transform(image=image.clone(), segmentation=mask.to(torch.int16)) and None


def _scipy_elastic() -> Callable[[], None]:
    from scipy import ndimage

    image, mask = _pair()
    random, grid = np.random.default_rng(0), np.indices((SIDE,) * 3, dtype=np.float32)

    def job() -> None:
        coarse = random.standard_normal((3, 7, 7, 7), dtype=np.float32)
        where = grid + np.stack([ndimage.zoom(axis, SIDE / 7, order=3) for axis in coarse])
        ndimage.map_coordinates(image[0], where, order=1)
        ndimage.map_coordinates(mask[0], where, order=0)

    return job


ELASTIC = {
    "MONAI": _monai_elastic,
    "TorchIO": _torchio_elastic,
    "batchgeneratorsv2": _batchgenerators_elastic,
    "SciPy": _scipy_elastic,
}


def _folder() -> tuple[tempfile.TemporaryDirectory, np.ndarray]:
    """A smooth volume as a scanner gives it, and a folder to write it to."""
    grid = np.linspace(0, 12, 192)[:, None, None] + np.linspace(0, 9, 192)[:, None] + np.linspace(0, 5, 96)
    noise = np.random.default_rng(0).normal(0, 20, grid.shape)
    return tempfile.TemporaryDirectory(), (400 * np.sin(grid) + noise).astype(np.int16)


def _prepared() -> Callable[[], np.ndarray]:
    """The array file of a prepared case, opened and cut as the training pipeline does."""
    from cphloc.data.augment.warp import Warp
    from cphloc.data.pipeline.cache import PreparedCase
    from cphloc.data.pipeline.patches import cut
    from cphloc.structures.annotation import Annotation
    from cphloc.structures.geometry import Geometry

    folder, volume = _folder()
    path, geometry = Path(folder.name, "image.npy"), Geometry.regular(volume.shape, (1.0, 1.0, 1.0))
    np.save(path, volume[None].astype(np.float32))

    def job() -> np.ndarray:
        assert folder.name
        image = np.load(path, mmap_mode="r").view(np.ndarray)
        case = PreparedCase("case", image, Annotation(), geometry, geometry, np.zeros((0, 4), np.int32), "")
        return cut(case, (48, 48, 0), (SIDE,) * 3, Warp.identity(3))[0][0]

    return job


def _simpleitk() -> Callable[[], np.ndarray]:
    import SimpleITK as sitk

    folder, volume = _folder()
    path = str(Path(folder.name, "image.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(volume), path)

    def job() -> np.ndarray:
        assert folder.name
        return sitk.GetArrayFromImage(sitk.ReadImage(path))[48:144, 48:144, :].astype(np.float32)

    return job


def _nibabel() -> Callable[[], np.ndarray]:
    import nibabel

    folder, volume = _folder()
    path = Path(folder.name, "image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)

    def job() -> np.ndarray:
        assert folder.name
        return np.asarray(nibabel.load(path).dataobj)[48:144, 48:144, :].astype(np.float32)

    return job
