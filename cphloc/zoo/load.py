"""From an entry to a model that predicts. Weights and recipe are hashed at every load; nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cphloc import recipe as recipes
from cphloc import yamlio
from cphloc.backend import BackendName
from cphloc.errors import DataError
from cphloc.model import Model
from cphloc.predict import Localizer
from cphloc.recipe import Recipe
from cphloc.wiring import build_model
from cphloc.zoo.entries import Listing, find_entry
from cphloc.zoo.entry import File
from cphloc.zoo.lock import find_locked
from cphloc.zoo.names import RECIPE_FILE, sha256_of

if TYPE_CHECKING:
    from cphloc.ensemble import Ensemble


@overload
def load(
    spec: str | Path, device: str | torch.device | None = None, verify: bool = True, backend: BackendName = "auto"
) -> Localizer: ...


@overload
def load(
    spec: Sequence[str | Path],
    device: str | torch.device | None = None,
    verify: bool = True,
    backend: BackendName = "auto",
) -> Ensemble: ...


def load(spec, device=None, verify=True, backend="auto"):
    """Load a published model, ready to predict; of a list of models, an ensemble that predicts their average.

    Args:
        spec: ``name``, ``name@1.2.0``, ``name@^1`` and so on, an entry's folder, the URL of one inside a zoo, or
            ``models:/name/3`` (MLflow). The working folder's ``cphloc.lock`` decides between versions where it names
            the entry.
        device: where to put it; by default the GPU where there is one.
        verify: check the sha256 of recipe and weights. Leave it on, except to try out a folder you changed yourself.
        backend: what computes windows: ``torch``, ``compile``, ``onnxruntime``, ``openvino``, or ``auto`` for the
            quickest of those installed, where a prediction takes long enough; see `cphloc.backend`.

    Raises:
        NotFoundError: no such entry or version.
        InputError: the version needs another cphloc, the lock file pins another one, or the models of an ensemble
            differ in task, channels or classes.
        DataError: a file is not the one that was published.
        DownloadError: it has to be downloaded and cannot be.
    """
    if isinstance(spec, str | Path):
        return open_listing(_find(spec), device, verify, backend)
    from cphloc.ensemble import Ensemble

    return Ensemble([open_listing(_find(one), device, verify, backend) for one in spec])


def open_listing(
    listing: Listing,
    device: str | torch.device | None = None,
    verify: bool = True,
    backend: BackendName = "torch",
) -> Localizer:
    """The model of a listed version; see `load`."""
    entry = listing.entry
    content = _content(listing.path(RECIPE_FILE), entry.files[RECIPE_FILE], f"{listing}: {RECIPE_FILE}", verify)
    recipe = recipes.load(yamlio.read(content, f"{listing}/{RECIPE_FILE}").plain)
    weights = _content(listing.weights_path(), entry.weights, f"{listing}: weights", verify)
    model = model_of(recipe, read_weights(weights, f"{listing}: weights"), str(listing))
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Localizer(model, recipe, entry, backend).to(device).eval()


def model_of(recipe: Recipe, weights: Mapping[str, Tensor], source: str) -> Model:
    """A recipe's model with these weights, as float32; its own initialization is skipped.

    Raises:
        DataError: the weights are not those of the recipe's model.
    """
    with _WithoutInitialization():
        model = build_model(recipe)
    state = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        msg = f"{source}: the weights are not those of the recipe's model: {str(error).replace(chr(10), ' ')}"
        raise DataError(msg) from None
    return model


def read_weights(content: bytes, source: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        DataError: it is not one.
    """
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        msg = f"{source}: not a safetensors file ({error}); download or publish it again"
        raise DataError(msg) from None


def _find(spec: str | Path) -> Listing:
    if isinstance(spec, str) and spec.startswith("models:/"):
        from cphloc.training import tracking

        return find_entry(Path(tracking.download_entry(spec)))
    return find_locked(spec)


def _content(path: Path, expected: File, what: str, verify: bool) -> bytes:
    """Content of a file, hashed in memory: what was checked is what is used."""
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{what}: {path} cannot be read ({error.strerror}); download or publish the entry again"
        raise DataError(msg) from None
    if verify and sha256_of(content) != expected.sha256:
        msg = (
            f"{what}: {path} has sha256 {sha256_of(content)[:12]}... but {expected.sha256[:12]}... was published; "
            "it is damaged or was changed: remove it, then download or publish the entry again"
        )
        raise DataError(msg)
    return content


class _WithoutInitialization(TorchFunctionMode):
    """Leave parameters as they are allocated: drawing random weights is most of a build's time, and they get replaced.

    Unlike building on the meta device this leaves buffers and constants, which no weights file replaces, correct.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        random = getattr(func, "__module__", "") == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_)
        target = kwargs.get("tensor", args[0] if args else None)
        if random and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)
