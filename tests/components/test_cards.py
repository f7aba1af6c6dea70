"""What every card promises, asked of all of them by one walk, in each of its dims.

A component added by a card, a file and a test of its own is walked here without a further line, unless its defaults
are too large for a test (`SMALL`) or it has a reason to differ (the tables of exceptions).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cphloc.inference.export import export_onnx
from cphloc.ops.targets import Prediction, Targets
from cphloc.registry import catalogue
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIDE = 16
CLASSES = ["a", "b"]
STRIDES = (2, 4)
WIDTHS = (4, 6)

REGIONS = {"pool": 2, "width": 8, "channels": 4, "samples": 8}

SMALL: dict[str, dict[str, Any]] = {
    "backbone/conv_encoder": {"widths": [4, 8]},
    "backbone/graph_conv": {"widths": [4, 8]},
    "backbone/mlp": {"size": [SIDE] * 3, "widths": [8]},
    "backbone/monai_segresnet": {"filters": 8, "blocks": [1, 1]},
    "backbone/monai_mednext": {"filters": 4, "blocks": [1, 1]},
    "backbone/monai_swin_unetr": {
        "filters": 12,
        "depths": [1, 1, 1, 1],
        "heads": [1, 1, 1, 1],
        "window": 2,
        "norm": "group",
    },
    "backbone/parallel_conv": {"filters": 2},
    "backbone/projections": {"widths": [4, 8]},
    "backbone/siamese": {"widths": [4, 8]},
    "backbone/residual_encoder": {"widths": [4, 8], "blocks": [1, 2]},
    "backbone/timm": {"name": "test_resnet", "out_indices": [0, 1]},
    "neck/bifpn": {"channels": 4},
    "neck/fpn": {"channels": 4, "extra_levels": 1},
    "neck/pyramid_sum": {"channels": 4},
    "head/smp_unet": {"widths": [6, 4]},
    "head/semantic_fpn": {"channels": 4, "norm": "instance"},
    "head/manet": {"attention_channels": 4, "reduction": 2},
    "head/deeplabv3plus": {"channels": 8, "detail_channels": 8, "rates": [1, 2]},
    "head/upernet": {"channels": 8},
    "head/segformer": {"channels": 8, "norm": "instance"},
    "head/rcnn": {"proposal_sizes": [[8.0] * 3], "widths": [8], "crop": 4, "samples": 8},
    "head/fast_rcnn": {"proposal_sizes": [[8.0] * 3], **REGIONS},
    "head/faster_rcnn": {"proposals": 8, **REGIONS},
    "head/mask_rcnn": {"proposals": 8, **REGIONS, "mask_pool": 2, "mask_channels": 8, "mask_convolutions": 1},
    **{f"head/{name}": {"channels": 8, "convolutions": 1} for name in ("dense_box", "retina", "fcos", "centernet")},
    "head/yolox": {"channels": 8, "convolutions": 1},
    "head/detr": {"queries": 6, "channels": 8, "layers": 1, "attention_heads": 2, "points": 2},
}
"""Arguments that make a component tiny; one number per axis is given for three and cut to the dims."""

NO_PARAMETERS = {"backbone/identity": "gives the image on as it is"}

WHOLE_NETWORKS = {
    "head/monai_network": "takes the image itself; tests/importing/test_monai.py compares it with MONAI",
    "head/monai_retinanet": "only predicts; tests/importing/test_monai_detection.py compares it with MONAI",
    "head/torchvision_detector": "takes colours and only predicts; tests/importing/test_torchvision.py compares it",
}
"""Networks of other frameworks, whole, for imported weights: they are not walked here, with the reason."""

ZERO_GRADIENTS = {
    "backbone/timm": ("layer1.0.", "a residual branch that starts at zero passes nothing back in the first step"),
    "backbone/monai_swin_unetr": ("relative_position_bias_table", "a window of one cell has no relative positions"),
    "head/attention_pool": ("score.bias", "a constant added to every cell's score changes no attention"),
    "head/fast_rcnn": ("entry.entries.1.", "in so small an image no region is read from the coarser level"),
    "head/faster_rcnn": ("entry.entries.1.", "in so small an image no region is read from the coarser level"),
    "head/mask_rcnn": ("entry.entries.1.", "in so small an image no region is read from the coarser level"),
}
"""Parameters, by a part of their name, whose first gradient may be all zeros, with the reason."""

CARDS = [
    (f"{kind}/{name}", dims)
    for kind in ("backbone", "neck", "head", "loss")
    for name, card in catalogue.cards(kind).items()
    for dims in card.dims
    if f"{kind}/{name}" not in WHOLE_NETWORKS
]

every_card = pytest.mark.parametrize(("card", "dims"), CARDS, ids=[f"{card}-{dims}d" for card, dims in CARDS])
PARTS = [(card, dims) for card, dims in CARDS if not card.startswith("loss/")]
every_part = pytest.mark.parametrize(("card", "dims"), PARTS, ids=[f"{card}-{dims}d" for card, dims in PARTS])
every_head = pytest.mark.parametrize(
    ("card", "dims"),
    [(card, dims) for card, dims in CARDS if card.startswith("head/")],
    ids=[f"{card}-{dims}d" for card, dims in CARDS if card.startswith("head/")],
)
TENSOR_PARTS = [(card, dims) for card, dims in PARTS if catalogue.card(*card.split("/")).not_exported is None]
every_tensor_part = pytest.mark.parametrize(
    ("card", "dims"), TENSOR_PARTS, ids=[f"{card}-{dims}d" for card, dims in TENSOR_PARTS]
)


def make(card: str, dims: int, seed: int = 0) -> nn.Module:
    """The component of a card, tiny, as the build would wire it."""
    torch.manual_seed(seed)
    kind, name = card.split("/")
    made = catalogue.resolve(kind, name)
    wired = {"in_channels": 2, "dims": dims, "levels": levels(dims), "classes": CLASSES}
    wanted = inspect.signature(made).parameters
    args = {key: _cut(key, value, dims) for key, value in SMALL.get(card, {}).items()}
    return made(**args, **{key: value for key, value in wired.items() if key in wanted})


def _cut(key: str, value: Any, dims: int) -> Any:
    if key == "size":
        return value[:dims]
    return [each[:dims] for each in value] if key == "proposal_sizes" else value


def levels(dims: int) -> tuple[Level, ...]:
    return tuple(Level(width, (stride,) * dims) for width, stride in zip(WIDTHS, STRIDES, strict=True))


def inputs(card: str, dims: int) -> tuple[Any, ...]:
    """What ``forward`` takes, drawn at random; losses get predictions that want a gradient."""
    torch.manual_seed(1)
    kind, name = card.split("/")
    if kind == "backbone":
        return (torch.randn(3, 2, *[SIDE] * dims),)
    if kind in ("neck", "head"):
        layout = zip(WIDTHS, STRIDES, strict=True)
        return (tuple(torch.randn(3, width, *[SIDE // stride] * dims) for width, stride in layout),)
    (takes,) = catalogue.card(kind, name).takes
    return {"mask": _masks, "scores": _scores, "boxes": _boxes, "attention": _attention}[takes](dims)


def _masks(dims: int) -> tuple[Tensor, Tensor]:
    target = torch.randint(0, 3, (2, *[8] * dims))
    target[:, 0] = 255
    return torch.randn(2, 3, *[8] * dims, requires_grad=True), target


def _scores(dims: int) -> tuple[Tensor, Tensor]:
    return torch.randn(4, 5, requires_grad=True), torch.randint(0, 2, (4, 5)).float()


def _boxes(dims: int) -> tuple[Tensor, Tensor]:
    low, size = torch.rand(5, dims) * 4, torch.rand(5, dims) * 4 + 1
    target = torch.cat([low, low + size], 1)
    return (target + 0.3).requires_grad_(), target


def _attention(dims: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    scores = torch.randn(2, *[4] * dims, requires_grad=True)
    region = torch.zeros(2, *[4] * dims)
    region[..., :2] = 1
    return scores.flatten(1).log_softmax(1).view(scores.shape), region, list(region[:, None])


def annotations(dims: int) -> list[Annotation]:
    """Three cases: two objects with their mask; a coarse region and its label; nothing at all."""
    mask = np.zeros((SIDE,) * dims, np.uint8)
    mask[(slice(2, 9),) * dims], mask[(slice(11, 15),) * dims] = 1, 2
    region = np.zeros((SIDE,) * dims, np.float32)
    region[..., : SIDE // 2] = 1
    coarse = Annotation(region=region, label=np.array([1, 0], np.float32))
    return [Annotation(mask=mask), coarse, Annotation()]


def objective(card: str, module: nn.Module, outputs: Any, dims: int, cases: list[Annotation] | None = None) -> Tensor:
    """A head's own losses of ``cases``, by default `annotations`; for other components the squares of their outputs."""
    if card.startswith("head/"):
        cases = annotations(dims) if cases is None else cases
        return sum(module.loss(outputs, Targets.collate(cases, (SIDE,) * dims, classes=2)).values())
    return sum(x.float().square().sum() / max(1, x.numel()) for x in tensors(outputs))


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors inside tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from tensors([getattr(value, each.name) for each in dataclasses.fields(value)])
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)


@every_card
def test_forward_loss_and_backward_reach_every_parameter(card, dims):
    module, given = make(card, dims), inputs(card, dims)
    loss = objective(card, module, module(*given), dims)
    assert loss.isfinite()
    wanting = {"input": given[0]} if card.startswith("loss/") else dict(module.named_parameters())
    assert bool(wanting) == (card not in NO_PARAMETERS)
    gradients = torch.autograd.grad(loss, list(wanting.values()), allow_unused=True) if wanting else ()
    missing = [name for name, g in zip(wanting, gradients, strict=True) if g is None or not g.isfinite().all()]
    assert missing == []
    excused, _ = ZERO_GRADIENTS.get(card, ("nothing", ""))
    assert [n for n, g in zip(wanting, gradients, strict=True) if not g.any() and excused not in n] == []


@pytest.mark.parametrize(
    ("card", "dims"), [c for c in CARDS if c[0].split("/")[0] in ("backbone", "neck")], ids=lambda v: str(v)
)
def test_published_levels_are_what_comes_out(card, dims):
    module = make(card, dims).eval()
    out = module(*inputs(card, dims))
    assert [(x.shape[1], tuple(x.shape[2:])) for x in out] == [
        (level.channels, level.size((SIDE,) * dims)) for level in module.levels
    ]


@every_head
def test_decode_gives_what_the_card_says(card, dims):
    module = make(card, dims).eval()
    with torch.no_grad():
        found = module.decode(module(*inputs(card, dims)))
    assert isinstance(found, Prediction)
    gives = catalogue.card(*card.split("/")).gives
    assert (found.mask_probabilities is not None) == ("mask" in gives)
    assert (found.detections is not None) == ("boxes" in gives)
    assert (found.attention is not None) == ("attention" in gives)
    assert (found.label_probabilities is not None) == ("labels" in gives)
    if found.mask_probabilities is not None:
        assert found.mask_probabilities.shape == (3, 3, *[SIDE] * dims)
        torch.testing.assert_close(found.mask_probabilities.sum(1), torch.ones(3, *[SIDE] * dims))
    if found.attention is not None:
        torch.testing.assert_close(found.attention.flatten(1).sum(1), torch.ones(3))
    if found.label_probabilities is not None:
        assert found.label_probabilities.shape == (3, 2)
        assert ((found.label_probabilities >= 0) & (found.label_probabilities <= 1)).all()
    assert found.detections is None or [each.boxes.shape[1] for each in found.detections] == [2 * dims] * 3


@every_part
def test_half_precision_is_finite(card, dims):
    module, given = make(card, dims), inputs(card, dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = module(*given)
        loss = objective(card, module, outputs, dims)
    assert loss.isfinite()


@every_card
def test_an_empty_batch_gives_empty_outputs_a_loss_of_zero_and_zero_gradients(card, dims):
    module, given = make(card, dims), _of_no_image(inputs(card, dims))
    outputs = module(*given)
    loss = objective(card, module, outputs, dims, cases=[])
    assert loss == 0
    wanting = [given[0]] if card.startswith("loss/") else list(module.parameters())
    gradients = torch.autograd.grad(loss, wanting) if wanting else []
    assert not any(g.any() for g in gradients)
    assert all(value.isfinite().all() for value in module.state_dict().values())
    if card.startswith("head/"):
        found = module.eval().decode(outputs)
        assert found.detections in (None, [])
        assert all(len(each) == 0 for each in tensors(found))


def _of_no_image(value: Any) -> Any:
    """Inputs of `inputs`, cut to a batch of no images."""
    if isinstance(value, Tensor):
        return value[:0].detach().requires_grad_(value.requires_grad)
    return [] if isinstance(value, list) else tuple(map(_of_no_image, value))


@every_part
def test_a_state_dict_restores_the_output(card, dims):
    module, other = make(card, dims).eval(), make(card, dims, seed=7).eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        one, two = (list(tensors(answer(card, each, inputs(card, dims)))) for each in (module, other))
    assert len(one) == len(two) > 0
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def answer(card: str, module: nn.Module, given: tuple[Any, ...]) -> Any:
    outputs = module(*given)
    return [outputs, module.decode(outputs)] if card.startswith("head/") else outputs


@every_tensor_part
def test_an_exported_program_gives_the_same_numbers(card, dims):
    module, given = make(card, dims).eval(), inputs(card, dims)
    with torch.no_grad():
        exported = torch.export.export(module, given, strict=False).module()(*given)
        for got, expected in zip(tensors(exported), tensors(module(*given)), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@every_tensor_part
def test_an_onnx_file_gives_the_same_numbers_for_any_batch(card, dims, tmp_path):
    if card in NO_PARAMETERS:
        pytest.skip("an identity holds no operator")
    done = export_onnx(make(card, dims), inputs(card, dims)[0], tmp_path / "part.onnx")  # compares before it writes
    assert done.path.is_file()


@pytest.mark.slow
@every_tensor_part
def test_a_compiled_module_gives_the_same_numbers(card, dims):
    module, given = make(card, dims).eval(), inputs(card, dims)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager")  # traces everything and needs no compiler of C++
    with torch.no_grad():
        for got, expected in zip(tensors(compiled(*given)), tensors(module(*given)), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_exceptions_name_cards_that_exist():
    known = {card for card, _ in CARDS}
    assert not known & set(WHOLE_NETWORKS)
    assert all(catalogue.card(*name.split("/")) for name in WHOLE_NETWORKS)
    assert set(SMALL) | set(NO_PARAMETERS) | set(ZERO_GRADIENTS) <= known
