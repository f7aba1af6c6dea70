from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from smp_decoders import CHANNELS, assert_equal, features, levels, randomize, take_weights

from cphloc.components.head.unetplusplus import UNetPlusPlus
from cphloc.errors import InputError


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_smp_up_to_its_last_block_which_goes_on_to_stride_one(dims):
    decoder = randomize(UnetPlusPlusDecoder(CHANNELS, [32, 24, 16, 8, 4]))
    head = UNetPlusPlus(levels(dims), ["a"], widths=[8, 16, 24, 32], norm="batch", activation="relu")
    nodes = {f"{i}_{j}": decoder.blocks[f"x_{4 - i - j}_{3 - i}"] for i in range(4) for j in range(1, 5 - i)}
    take_weights((head.nodes[at], block) for at, block in nodes.items())
    found = []
    decoder.blocks["x_0_3"].register_forward_hook(lambda *given: found.append(given[-1]))
    with torch.no_grad():
        decoder(features())
    assert_equal(head, dims, 2, found[0])


def test_nodes_form_a_triangle():
    head = UNetPlusPlus(levels(2), ["a"])
    assert sorted(head.nodes) == ["0_1", "0_2", "0_3", "0_4", "1_1", "1_2", "1_3", "2_1", "2_2", "3_1"]


@pytest.mark.parametrize("widths", [[8], [8, 8, 8, 8, 8]])
def test_another_number_of_widths_is_refused(widths):
    with pytest.raises(InputError, match="4 levels below the coarsest"):
        UNetPlusPlus(levels(2), ["a"], widths=widths)
