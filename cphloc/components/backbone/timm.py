"""Any timm model that gives feature maps, as a backbone; in 3-D by inflation."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from cphloc import paths
from cphloc.config.argument_types import NonNegativeInt, PositiveInt
from cphloc.download import DownloadError, download, unreachable
from cphloc.errors import CphlocError, InputError, did_you_mean, one_line, without_secrets
from cphloc.ops.inflate import with_input_channels
from cphloc.ops.inflate_network import Inflation, inflate_network, plan_slice_strides, slice_stride_at
from cphloc.ops.layers import with_safe_convolutions
from cphloc.ops.weights import in_order_of, read_weights
from cphloc.structures.levels import Level, Levels

if TYPE_CHECKING:
    from timm.models import FeatureInfo

INFLATABLE = "resnet, resnext, regnet, efficientnet, mobilenetv3, convnext and densenet"
"""Families whose inflation is tested; other convolutional models often work too."""


class Timm(nn.Module):
    """Feature pyramid of a timm model; convolutional models also in 3-D.

    Args:
        in_channels: image channels (set when the model is built). A grey image copied into all of them gives the same
            features as in the pretrained colour model.
        dims: spatial axes (set when the model is built). In 3-D the convolutions, norms and pools of the 2-D model are
            inflated.
        name: timm model name, such as ``resnet18`` or ``tf_efficientnet_lite0``.
        pretrained: start from timm's weights (downloaded by timm when they are not in its cache).
        weights: start from a file of weights of this model, or from ``package:name``, the file in an installed package.
        out_indices: which of the model's stages to give, fine to coarse; default all.
        inflation: 3-D only; ``centre`` starts as the 2-D model on every slice, ``average`` blurs over slices.
        slice_stride: 3-D only; stride along the slices of the coarsest stage, a divisor of its in-plane stride; the
            first reductions spare the slices. Default: the in-plane stride.

    Shapes:
        ``(N, in_channels, *S)`` to one ``(N, C_i, *S / stride_i)`` per stage. Transformers for images of one size take
        any multiple of their coarsest stride where timm can free them of it (vit, swin), else that size alone.

    Raises:
        InputError: a name timm does not know, a model without feature maps or that cannot be inflated, or weights of
            another model.

    Reference: Wightman, PyTorch Image Models, doi 10.5281/zenodo.4414861; inflation Carreira & Zisserman 2017,
    arXiv:1705.07750.

    >>> [level.stride for level in Timm(1, 3, "resnet10t", slice_stride=4, out_indices=[2, 4]).levels]
    [(1, 8, 8), (4, 32, 32)]
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        name: str,
        pretrained: bool = False,
        weights: str | None = None,
        out_indices: Sequence[NonNegativeInt] | None = None,
        inflation: Inflation = "centre",
        slice_stride: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        if dims == 2 and slice_stride is not None:
            msg = f"slice_stride is {slice_stride} but the model is 2-D and has no slices; remove it"
            raise InputError(msg)
        self.body = _create(name, _initial(name, pretrained, weights), out_indices)
        _drop_unused(self.body)
        _adapt_stem(self.body, in_channels)
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        strides = _stages(self.body).reduction()
        per_level = [(stride,) * dims for stride in strides]
        if dims == 3:
            along = slice_stride or strides[-1]
            self.body = _inflate(self.body, name, in_channels, inflation, along)
            per_level = [(slice_stride_at(s, strides[-1], along), s, s) for s in strides]
        with_safe_convolutions(self.body)
        self.levels: Levels = tuple(
            Level(channels, stride) for channels, stride in zip(_stages(self.body).channels(), per_level, strict=True)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, fine to coarse."""
        maps = tuple(self.body(x))
        return tuple(each.movedim(-1, 1) for each in maps) if self.channels_last else maps


def _stages(body: nn.Module) -> FeatureInfo:
    """Channels and strides of the stages of a timm model with ``features_only``."""
    return cast("FeatureInfo", body.feature_info)


def _initial(name: str, pretrained: bool, weights: str | None) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` for the weights to start from."""
    import timm

    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "timm.list_models() names them all"
        msg = f"timm has no model '{name}'; {hint}"
        raise InputError(msg)
    if weights is None:
        return _downloaded(name) if pretrained else {"pretrained": False}
    if pretrained:
        msg = f"give either pretrained: true or weights: {weights}, not both"
        raise InputError(msg)
    model = timm.create_model(name)
    state, reference = read_weights(weights), model.state_dict()
    classifier = tuple(f"{part}." for part in _as_tuple(cast("Any", model.pretrained_cfg).get("classifier", ())))
    if any(key not in state for key in reference if not key.startswith(classifier)):
        state = in_order_of(reference, state, weights)
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state, "source": ""}}


def _downloaded(name: str) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` for its own weights: from a cache, or downloaded.

    timm would wait for a slow server without limit, and contact it even with ``CPHLOC_OFFLINE``.

    Raises:
        InputError: the weights are not in a cache and cannot be downloaded.
    """
    import timm

    cfg: Any = timm.get_pretrained_cfg(name)
    hub, url = getattr(cfg, "hf_hub_id", None), getattr(cfg, "url", None)
    found: Path | None = None
    try:
        if hub:
            found = _from_hub(name, hub, getattr(cfg, "hf_hub_filename", None))
        elif url:
            found = _from_url(name, url)
    except CphlocError as error:
        reason = one_line(without_secrets(str(error)))
        msg = f"weights of timm model '{name}' are not in its cache: {reason}; give weights: a file or package:name"
        raise InputError(msg) from error
    return {"pretrained": True} | ({} if found is None else {"pretrained_cfg_overlay": {"file": str(found)}})


def _from_hub(name: str, hub: str, file: str | None) -> Path:
    """Return a file of a Hugging Face repository: from its cache, or downloaded to that of cphloc."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    repository, _, revision = hub.partition("@")
    files = [file] if file else ["model.safetensors", "pytorch_model.bin"]
    kept = (try_to_load_from_cache(repository, each, revision=revision or None) for each in files)
    if known := next((Path(path) for path in kept if isinstance(path, str)), None):
        return known
    for each in files:
        address = hf_hub_url(repository, each, revision=revision or None, endpoint=os.environ.get("HF_ENDPOINT"))
        path = paths.cached("timm", hashlib.sha256(address.encode()).hexdigest(), each)
        try:
            return _fetched(address, path, name)
        except DownloadError as error:
            if not error.missing or each == files[-1]:
                raise
    raise AssertionError  # the last file was returned or raised


def _from_url(name: str, url: str) -> Path:
    """Return the file at an address: from the cache of torch.hub, or downloaded to it."""
    return _fetched(url, Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name, name)


def _fetched(url: str, path: Path, name: str) -> Path:
    if path.is_file():
        return path
    reason = "CPHLOC_OFFLINE forbids downloading them" if paths.offline() else unreachable(url)
    if reason:
        raise CphlocError(reason)
    return download([url], path, f"timm model '{name}'")


def _create(name: str, initial: dict[str, Any], out_indices: Sequence[int] | None) -> nn.Module:
    from safetensors import SafetensorError

    chosen: dict[str, Any] = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    try:
        with _without_classifier():
            return _created(name, {"features_only": True, **initial, **chosen})
    except OSError as error:
        msg = f"weights of timm model '{name}' could not be fetched ({error}); give weights: a file or package:name"
        raise InputError(msg) from error
    except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
        file = initial["pretrained_cfg_overlay"]["file"]
        msg = f"weights of timm model '{name}' are damaged ({error}); remove {file}"
        raise InputError(msg) from error
    except (RuntimeError, AttributeError, AssertionError, IndexError) as error:
        msg = f"timm model '{name}' gives no such feature pyramid ({error}); choose another model or out_indices"
        raise InputError(msg) from error


def _created(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Create a timm model; a transformer for images of one size, so that it takes others, where it can."""
    import timm

    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    ways: list[dict[str, Any]] = [{"strict_img_size": False}, {"dynamic_img_size": True}]
    for freed in ways if fixed else ():
        with suppress(TypeError):  # the constructor has no such argument
            return timm.create_model(name, **arguments, **freed)
    return timm.create_model(name, **arguments)


@contextmanager
def _without_classifier() -> Iterator[None]:
    """Silence timm's warning about the unused weights of the classifier."""
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _drop_unused(body: nn.Module) -> None:
    """Remove the stages after the last returned one, which timm's EfficientNets and MobileNets would compute."""
    stages = [info["stage"] for info in cast("list[dict[str, Any]]", _stages(body).get_dicts()) if "stage" in info]
    if stages and hasattr(body, "blocks"):
        body.blocks = cast("nn.Sequential", body.blocks)[: max(stages)]


def _adapt_stem(body: nn.Module, in_channels: int) -> None:
    stem = next(layer for layer in body.modules() if isinstance(layer, nn.Conv2d))
    stem.weight = nn.Parameter(with_input_channels(stem.weight.detach(), in_channels))
    stem.in_channels = in_channels


def _inflate(body: nn.Module, name: str, in_channels: int, inflation: Inflation, slice_stride: int) -> nn.Module:
    """Inflate, and run once on the meta device, so that a model whose own code assumes two axes is refused here."""
    coarsest = _stages(body).reduction()[-1]
    if coarsest % slice_stride:
        msg = f"slice_stride {slice_stride} does not divide the in-plane stride {coarsest} of '{name}'; give a divisor"
        raise InputError(msg)
    try:
        body = inflate_network(body, inflation, plan_slice_strides(body, in_channels, coarsest, slice_stride))
        trial = copy.deepcopy(body).to("meta").eval()
        trial(torch.zeros(1, in_channels, slice_stride, 2 * coarsest, 2 * coarsest, device="meta"))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        msg = f"timm model '{name}' cannot be inflated to 3-D ({error}); models of the families {INFLATABLE} can"
        raise InputError(msg) from error
    return body


def _as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
