from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from smp_decoders import CHANNELS, assert_equal, features, levels, randomize, take_weights
from torch.testing import assert_close

from cphloc.components.head.manet import MANet, PositionAttention
from cphloc.errors import InputError


class InPlace(torch.nn.Module):
    """Our position attention with smp's weights, in 2-D, in the place of smp's."""

    def __init__(self, centre):
        super().__init__()
        self.ours = PositionAttention(centre.in_channels, centre.pab_channels, 2)
        for ours, theirs in zip(
            (self.ours.key, self.ours.query, self.ours.value, self.ours.out),
            (centre.top_conv, centre.center_conv, centre.bottom_conv, centre.out_conv),
            strict=True,
        ):
            ours.load_state_dict(theirs.state_dict())

    def forward(self, x):
        return self.ours(x)


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_smp_but_for_the_position_attention(dims):
    decoder = randomize(MAnetDecoder(CHANNELS, [32, 24, 16, 8, 4], pab_channels=6, reduction=4))
    decoder.center = InPlace(decoder.center)
    settings = {"attention_channels": 6, "reduction": 4, "norm": "batch", "activation": "relu"}
    head = MANet(levels(dims), ["a"], widths=[8, 16, 24, 32], **settings)
    pairs = [(head.centre, decoder.center)]
    for step, block in zip(reversed(head.steps), decoder.blocks, strict=False):
        pairs += [(step.entry, block.hl_conv), (step.of_skip, block.SE_ll), (step.of_coarse, block.SE_hl)]
        pairs += [(step.blocks[0], block.conv1), (step.blocks[1], block.conv2)]
    take_weights(pairs)
    found = []
    decoder.blocks[3].register_forward_hook(lambda *given: found.append(given[-1]))
    with torch.no_grad():
        decoder(features())
    assert_equal(head, dims, 2, found[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_position_attention_adds_the_mean_of_all_cells_by_likeness(dims):
    """By loops over pairs of cells."""
    torch.manual_seed(0)
    layer = PositionAttention(3, 2, dims)
    x = torch.randn(1, 3, *(2,) * dims)
    with torch.no_grad():
        key, query, value = (part(x)[0].flatten(1).T for part in (layer.key, layer.query, layer.value))
        cells = range(len(key))
        exps = {(i, j): torch.exp(query[i] @ key[j]) for i in cells for j in cells}
        added = [sum(exps[i, j] * value[j] for j in cells) / sum(exps.values()) for i in cells]
        expected = layer.out(x + torch.stack(added).T.view_as(x))
        assert_close(layer(x), expected)


def test_another_number_of_widths_is_refused():
    with pytest.raises(InputError, match="4 levels below the coarsest"):
        MANet(levels(2), ["a"], widths=[8])
