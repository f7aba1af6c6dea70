import numpy as np
import pytest
import torch

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.modeling.model import Model
from cphloc.ops.layers import conv_type
from cphloc.ops.mask_loss import deep_supervision_weights
from cphloc.ops.targets import Targets
from cphloc.structures.annotation import Annotation
from cphloc.structures.levels import Level

SIZES = {2: (21, 18), 3: (13, 18, 11)}


def unet(dims, **options):
    backbone = ConvEncoder(1, dims, widths=[4, 6, 8])
    return Model(backbone, None, {"mask": UNet(backbone.levels, {1: "left", 2: "right"}, **options)})


def targets(size, *masks):
    return Targets.collate([Annotation(mask=m) for m in masks], size, classes=2)


def random_mask(size, seed=0):
    return np.random.default_rng(seed).integers(0, 3, size).astype(np.uint8)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("upsample", ["transposed", "interpolate"])
def test_logits_have_the_size_of_the_image_even_when_it_is_odd(dims, upsample):
    model = unet(dims, upsample=upsample).eval()
    assert model(torch.randn(2, 1, *SIZES[dims])).shape == (2, 3, *SIZES[dims])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_prior_is_the_probability_of_all_classes_together_before_any_feature_is_seen(dims):
    torch.manual_seed(0)
    levels = [Level(4 + i, (2**i,) * dims) for i in range(5)]
    pyramid = [torch.randn(2, level.channels, *[32 // level.stride[0]] * dims) for level in levels]
    head = UNet(levels, {1: "left", 2: "right"}, prior=0.02)
    outputs = head(tuple(map(torch.zeros_like, pyramid)))
    assert len(outputs) == 3  # with deep supervision
    for logits in outputs:
        assert torch.allclose(logits.softmax(1)[:, 1:].sum(1), torch.tensor(0.02), atol=1e-5)
    random = head(tuple(pyramid))[0].softmax(1)[:, 1:].sum(1)
    assert 0.01 < random.median() < 0.04
    overlapping = unet(dims, prior=0.02, scores="sigmoid").eval()(torch.zeros(2, 1, *SIZES[dims]))
    assert torch.allclose(overlapping.sigmoid(), torch.tensor(0.02), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_small_object_is_learned_sooner_from_a_prior(dims):
    size = {2: (48, 48), 3: (24, 24, 24)}[dims]
    mask = np.zeros(size, np.uint8)
    mask[(slice(4, 9),) * dims] = 1
    target = targets(size, mask)
    torch.manual_seed(0)
    image = torch.randn(1, 1, *size) + 2 * torch.from_numpy(mask)[None, None]

    def overlap(prior):
        """Dice loss after 20 steps on one image."""
        torch.manual_seed(0)
        model = unet(dims, prior=prior)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(20):
            loss = model.heads["mask"].loss(model.outputs(image)["mask"], target)["mask"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model.heads["mask"].criterion.dice(model.eval()(image), target.masks).item()

    assert overlap(0.01) < overlap(None) - 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_finest_level_coarser_than_the_image_is_interpolated(dims):
    levels = (Level(4, (4,) * dims), Level(6, (8,) * dims))
    head = UNet(levels, ["lesion"]).eval()
    logits = head((torch.randn(1, 4, *(4,) * dims), torch.randn(1, 6, *(2,) * dims)))
    assert logits.shape == (1, 2, *(16,) * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_parameter_gets_a_gradient(dims):
    model = unet(dims)
    size = SIZES[dims]
    loss = model.loss(model.outputs(torch.randn(2, 1, *size)), targets(size, random_mask(size), random_mask(size, 1)))
    loss["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("dims", [2, 3])
def test_a_case_without_a_mask_contributes_exactly_nothing(dims):
    size = SIZES[dims]
    model = unet(dims)
    images = torch.randn(2, 1, *size, requires_grad=True)
    model.loss(model.outputs(images), targets(size, random_mask(size), None))["loss"].backward()
    assert images.grad[0].abs().sum() > 0
    assert torch.equal(images.grad[1], torch.zeros_like(images.grad[1]))


def test_a_batch_without_any_mask_is_zero_and_still_carries_a_graph():
    model = unet(2)
    loss = model.loss(model.outputs(torch.randn(2, 1, 16, 16)), targets((16, 16), None, None))["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_the_widths_of_the_paper_give_its_31_million_parameters():
    style = {"norm": "none", "activation": "relu"}
    backbone = ConvEncoder(1, 2, widths=[64, 128, 256, 512, 1024], **style)
    head = UNet(backbone.levels, ["cell"], deep_supervision=False, **style)
    assert sum(p.numel() for part in (backbone, head) for p in part.parameters()) == 31_030_658


@pytest.mark.parametrize("dims", [2, 3])
def test_the_lectures_block_convolves_activates_and_normalizes_before_it_doubles_the_size(dims):
    levels = tuple(Level(4, (2**i,) * dims) for i in range(3))
    head = UNet(levels, ["lesion"], convolutions=1, order="conv-act-norm", norm="batch", activation="relu").eval()
    called = []
    names = (conv_type(dims).__name__, "ReLU", f"BatchNorm{dims}d")
    for module in head.blocks.modules():
        if type(module).__name__ in names:
            module.register_forward_hook(lambda m, *_: called.append(type(m).__name__))
    for up in head.up:
        up.register_forward_hook(lambda m, given, out: called.append(out.shape[-1] / given[0].shape[-1]))
    head(tuple(torch.zeros(1, 4, *(16 // level.stride[0],) * dims) for level in levels))
    assert called == [2, *names, 2, *names]


def test_deep_supervision_weights_are_those_of_nnunet():
    assert deep_supervision_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert deep_supervision_weights(1) == (1.0,)


def test_deep_supervision_scores_levels_in_training_only():
    model = unet(2)
    x = torch.randn(1, 1, 16, 16)
    assert isinstance(model.train()(x), torch.Tensor) == (len(deep_supervision_weights(2)) == 1)
    deep = Model(b := ConvEncoder(1, 2, widths=[4, 4, 4, 4]), None, {"mask": UNet(b.levels, ["a"])})
    assert [tuple(y.shape[2:]) for y in deep.train()(x)] == [(16, 16), (8, 8)]
    assert deep.eval()(x).shape == (1, 2, 16, 16)


def test_probabilities_sum_to_one():
    model = unet(3).eval()
    prediction = model.decode(model.outputs(torch.randn(1, 1, 8, 8, 8)), (8, 8, 8))["mask"]
    assert torch.allclose(prediction.mask_probabilities.sum(1), torch.ones(1, 8, 8, 8), atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_overfits_one_image(dims):
    torch.manual_seed(0)
    size = (16,) * dims
    mask = np.zeros(size, np.uint8)
    mask[(slice(4, 12),) * dims] = 1
    mask[(slice(6, 10),) * dims] = 2
    image = torch.as_tensor(mask[None, None].astype(np.float32)) + 0.1 * torch.randn(1, 1, *size)
    model = unet(dims)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(model.outputs(image), targets(size, mask))["loss"].backward()
        optimizer.step()
    found = model.eval()(image).argmax(1)[0].numpy()
    assert (found == mask).mean() > 0.98
