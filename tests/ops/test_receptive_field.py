from __future__ import annotations

from fractions import Fraction

import pytest
import timm
import torch
import torchvision
from torch import nn

from cphloc.ops.receptive_field import receptive_fields


def without_classifier(model: nn.Module) -> nn.Module:
    return nn.Sequential(*list(model.children())[:-2])


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 435), ("resnet34", 899), ("resnet50", 427), ("resnet101", 971), ("resnet152", 1451)]
)
def test_resnets_of_torchvision_have_the_computed_fields(name, size):
    with torch.device("meta"):
        model = without_classifier(getattr(torchvision.models, name)())
    (rows, columns) = receptive_fields(model, 3, (256, 256))[0]
    assert (rows.size, rows.stride, rows.padding, rows.aligned) == (size, 32, (size - 1) // 2, True)
    assert rows == columns


@pytest.mark.parametrize(("blocks", "size"), [((3, 4, 6, 3), 483), ((3, 4, 23, 3), 1027), ((3, 8, 36, 3), 1507)])
def test_resnets_whose_stride_is_in_the_first_convolution_of_a_block_see_more(blocks, size):
    """The first version of He et al. 2016; torchvision moved the stride into the second."""
    with torch.device("meta"):
        model = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, blocks)
    for block in model.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    field = receptive_fields(without_classifier(model), 3, (256, 256))[0][0]
    assert (field.size, field.stride) == (size, 32)


def test_vgg16_has_the_published_fields_and_padding():
    with torch.device("meta"):
        model = torchvision.models.vgg16().features
    field = receptive_fields(model, 3, (224, 224))[0][0]
    assert (field.size, field.stride, field.padding) == (212, 32, 90)
    ends = {"conv1_1": 1, "pool1": 5, "pool2": 10, "pool3": 17, "conv4_1": 18, "pool4": 24, "conv5_1": 25, "pool5": 31}
    sizes = [receptive_fields(model[:end], 3, (224, 224))[0][0].size for end in ends.values()]
    assert sizes == [3, 6, 16, 44, 60, 100, 132, 212]


def test_alexnet_has_the_published_fields_and_padding():
    """Second version (Krizhevsky 2014), whose first convolution is not padded."""
    pool = nn.MaxPool2d(3, 2)
    with torch.device("meta"):
        first, second = nn.Conv2d(3, 1, 11, 4), nn.Conv2d(1, 1, 5, padding=2)
        model = nn.Sequential(first, pool, second, pool, *[nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)], pool)
    fields = [receptive_fields(model[:end], 3, (224, 224))[0][0] for end in range(1, 9)]
    assert [field.size for field in fields] == [11, 19, 51, 67, 99, 131, 163, 195]
    assert (fields[-1].stride, fields[-1].padding) == (32, 64)


def test_r3d18_sees_less_in_time_than_in_space():
    with torch.device("meta"):
        model = without_classifier(torchvision.models.video.r3d_18())
    depth, rows, columns = receptive_fields(model, 3, (16, 64, 64))[0]
    assert (depth.size, depth.stride) == (109, 8)
    assert (rows.size, rows.stride) == (columns.size, columns.stride) == (219, 16)


def test_every_stage_of_resnet18_by_timm():
    with torch.device("meta"):
        model = timm.create_model("resnet18", features_only=True)
    fields = receptive_fields(model, 3, (128, 128))
    assert [(f[0].size, f[0].stride) for f in fields] == [(7, 2), (43, 4), (99, 8), (211, 16), (435, 32)]


@pytest.mark.parametrize(("depth", "size"), [(5, 11), (10, 21), (50, 101), (100, 201), (255, 511), (256, 513)])
@pytest.mark.parametrize("conv", [nn.Conv2d, nn.Conv3d])
def test_stride_one_layers_grow_linearly(conv, depth, size):
    model = nn.Sequential(*[conv(1, 1, 3, padding=1) for _ in range(depth)])
    dims = model[0].weight.dim() - 2
    assert {f.size for f in receptive_fields(model, 1, (8,) * dims)[0]} == {size}


class PaperUNet(nn.Module):
    """Ronneberger et al. 2015: convolutions without padding, skips cropped to what is left; one channel throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(self.twice(1) for _ in range(5))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(1, 1, 2, 2) for _ in range(4))
        self.up = nn.ModuleList(self.twice(2) for _ in range(4))
        self.pool = nn.MaxPool2d(2)

    @staticmethod
    def twice(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 1, 3), nn.Conv2d(1, 1, 3))

    def bottleneck(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.down[0](x)]
        for stage in self.down[1:]:
            maps.append(stage(self.pool(maps[-1])))
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *skips, x = self.bottleneck(x)
        for grow, block, skip in zip(self.grow, self.up, reversed(skips), strict=True):
            x = grow(x)
            cut = (skip.shape[-1] - x.shape[-1]) // 2
            x = block(torch.cat([skip[..., cut : cut + x.shape[-1], cut : cut + x.shape[-1]], x], dim=1))
        return x


def test_the_unet_of_the_paper_gives_388_of_572_pixels_and_sees_140_at_its_bottleneck():
    with torch.device("meta"):
        model = PaperUNet()
        image = torch.empty(1, 1, 572, 572)
        assert [x.shape[-1] for x in model.bottleneck(image)] == [568, 280, 136, 64, 28]
        assert model(image).shape[-1] == 388
        path = nn.Sequential(model.down[0], *(nn.Sequential(model.pool, stage) for stage in model.down[1:]))
    field = receptive_fields(path, 1, (572, 572))[0][0]
    assert (field.size, field.stride, field.padding) == (140, 16, 0)


class TwoPaths(nn.Module):
    """A strided path beside a shifted one: both see the same number of voxels, but not the same voxels."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(1, 1, 3, 2, 1)
        self.other = nn.Conv2d(1, 1, 5, 2, padding)

    def forward(self, x):
        a, b = self.straight(x), self.other(x)
        rows = min(a.shape[2], b.shape[2])
        return a[:, :, :rows, :rows] + b[:, :, :rows, :rows]


def test_paths_with_different_centres_are_not_aligned():
    assert receptive_fields(TwoPaths(2), 1, (16, 16))[0][0].aligned
    shifted = receptive_fields(TwoPaths(1), 1, (16, 16))[0][0]
    assert not shifted.aligned
    assert (shifted.size, shifted.padding) == (5, 1)


class SmallUNet(nn.Module):
    def __init__(self, conv, up, pool) -> None:
        super().__init__()
        self.fine, self.down, self.coarse = conv(1, 2, 3, padding=1), pool(2), conv(2, 2, 3, padding=1)
        self.up, self.out = up(2, 2, 2, 2), conv(4, 1, 3, padding=1)

    def forward(self, x):
        fine = self.fine(x)
        return self.out(torch.cat([fine, self.up(self.coarse(self.down(fine)))], dim=1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("network", ["strided", "unet", "interpolated", "dilated"])
def test_the_field_is_exactly_where_the_gradient_is_not_zero(dims, network):
    conv, up, pool = (
        (nn.Conv2d, nn.ConvTranspose2d, nn.AvgPool2d),
        (nn.Conv3d, nn.ConvTranspose3d, nn.AvgPool3d),
    )[dims - 2]
    model = {
        "strided": nn.Sequential(conv(1, 1, 3, 2, 1), conv(1, 1, 5, 1, 2), pool(2)),
        "unet": SmallUNet(conv, up, pool),
        "interpolated": nn.Sequential(conv(1, 1, 3, 2, 1), nn.Upsample(scale_factor=2), conv(1, 1, 3, padding=1)),
        "dilated": nn.Sequential(conv(1, 1, 3, dilation=2), up(1, 1, 3, 2, 1)),
    }[network]
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    size = (24,) * dims
    field = receptive_fields(model, 1, size)[0][0]
    image = torch.ones(1, 1, *size, requires_grad=True)
    out = model(image)
    widths = []
    for cell in range(10, 14) if out.shape[2] > 20 else range(2, 3):
        (gradient,) = torch.autograd.grad(out[(0, 0, *[cell] * dims)], image, retain_graph=True)
        touched = gradient[0, 0].nonzero()
        widths.append(int(touched[:, 0].max() - touched[:, 0].min() + 1))
    assert max(widths) == field.size
    assert field.stride == Fraction(24, out.shape[2]) or network == "dilated"


def test_along_the_axis_of_a_projection_a_map_sees_everything():
    """Axial and coronal projections: rows are seen whole in the one, slices in the other, columns in neither."""

    class Projected(nn.Module):
        def __init__(self, axis):
            super().__init__()
            self.axis, self.conv = axis, nn.Conv2d(2, 1, 3, padding=1)

        def forward(self, x):
            flat = torch.cat([x.amax(self.axis), x.mean(self.axis)], 1)
            return self.conv(flat).unsqueeze(self.axis).expand(-1, -1, *x.shape[2:])

    for axis in (2, 3, 4):
        (fields,) = receptive_fields(Projected(axis), 1, (4, 6, 8))
        assert [f.size for f in fields] == [float("inf") if a + 2 == axis else 3 for a in range(3)]


def test_global_pooling_sees_everything_and_a_vector_has_no_field():
    class Pooled(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3), keepdim=True), x.mean(dim=(2, 3))

    pooled, vector = receptive_fields(Pooled(), 1, (8, 8))
    assert pooled[0].size == float("inf")
    assert vector is None


def test_the_module_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    receptive_fields(model, 1, (8, 8))
    assert model.training
    assert model[0].weight.device.type == "cpu"
