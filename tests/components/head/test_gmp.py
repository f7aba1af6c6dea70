from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.parallel_conv import ParallelConvolutions
from cphloc.components.head.gmp import GlobalMaxPool
from cphloc.structures.levels import Level


def reader(channels: int, window: int, filters: int) -> ConvEncoder:
    """One convolution over words."""
    return ConvEncoder(channels, 1, widths=[filters], kernels=[window], convolutions=1, norm="none", activation="relu")


@pytest.mark.parametrize("grid", [(9,), (4, 6), (2, 4, 6)])
def test_the_maps_add_up_to_the_logit_and_only_winning_cells_count(grid):
    torch.manual_seed(0)
    head = GlobalMaxPool((Level(5, (4,) * len(grid)),), classes=["benign", "malignant"])
    features = torch.randn(3, 5, *grid)
    outputs = head((features,))
    torch.testing.assert_close(outputs.maps.flatten(2).sum(2) + head.linear.bias, outputs.logits)
    torch.testing.assert_close(outputs.logits, head.linear(features.flatten(2).amax(2)))
    assert (outputs.maps.flatten(2).count_nonzero(2) <= 5).all()
    torch.testing.assert_close(head.decode(outputs).attention.flatten(1).sum(1), torch.ones(3))


def test_a_text_cnn_is_three_convolutions_their_max_over_time_and_a_linear_layer():
    """Kim 2014 with 3 x 100 features, written by hand; windows reach beyond the ends of the sentence."""
    torch.manual_seed(0)
    backbone = ParallelConvolutions(300, 1)
    head = GlobalMaxPool(backbone.levels, classes=["positive"])
    words = torch.randn(2, 300, 19)
    logits = head(backbone(words)).logits
    by_hand = []
    for window, margins in zip(backbone.windows, [(1, 1), (1, 2), (2, 2)], strict=True):
        by_hand.append(functional.conv1d(functional.pad(words, margins), window.weight, window.bias).relu().amax(2))
    assert [features.shape for features in by_hand] == [(2, 100)] * 3
    torch.testing.assert_close(logits, head.linear(torch.cat(by_hand, 1)))


@pytest.mark.parametrize("words", [1, 2, 12])
@pytest.mark.parametrize("layers", [1, 3])
def test_padding_and_moving_a_sentence_change_nothing_once_it_has_a_margin(words, layers):
    """Exactly, whatever the bias; also for a sentence shorter than the window."""
    torch.manual_seed(0)
    encoder = ConvEncoder(4, 1, [6] * layers, [1] * layers, [5] * layers, 1, norm="none", activation="relu")
    for stage in encoder.stages:
        nn.init.normal_(stage[0].conv.bias)
    head = GlobalMaxPool(encoder.levels, classes=["phrase"])
    sentence, margin = torch.randn(3, 4, words), 4 * layers
    logits = [
        head(encoder(functional.pad(sentence, (margin + before, margin + behind)))).logits
        for before, behind in ((0, 0), (0, 40), (17, 3))
    ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(logits[2], logits[0], atol=1e-6, rtol=1e-6)


def test_moving_a_bigram_between_empty_words_does_not_change_the_logit():
    torch.manual_seed(0)
    encoder = reader(4, 3, 10)
    head, bigram = GlobalMaxPool(encoder.levels, classes=["phrase"]), torch.randn(4, 2)
    sentences = torch.zeros(8, 4, 14)
    for place, sentence in enumerate(sentences):
        sentence[:, place + 2 : place + 4] = bigram
    logits = head(encoder(sentences)).logits
    torch.testing.assert_close(logits, logits[:1].expand(8, 1))
