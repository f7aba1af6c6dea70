"""A text CNN: the convolutional encoder and heads for images, built in 1-D, trained on synthetic sentences."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.backbone.mlp import MultilayerPerceptron
from cphloc.components.head.attention_pool import AttentionPool
from cphloc.components.head.gap import GlobalAveragePool
from cphloc.components.head.gmp import GlobalMaxPool
from cphloc.config.argument_types import PositiveInt
from cphloc.metrics.attention import pointing
from cphloc.modeling.model import Model
from cphloc.structures.annotation import Annotation
from cphloc.studies.measured import Trained, Values, required
from cphloc.studies.small_training import Batch, auc_of, learn

Half = Literal["first", "second"]

PHRASE = 3
"""Number of words in the phrase, and kernel size of the convolution."""

MARGIN = PHRASE - 1
"""Number of empty words before and after each sentence."""


class TextCnn:
    """Compare pooling methods after a convolution over words, tested at positions that do not occur in training.

    Every sentence contains the same three adjacent words; a sentence is positive where they are in the order of the
    phrase, so that no single word determines the label. In training they are in the first half of the sentence, in
    the test in the second half. ``pointing`` is the fraction of positive sentences in which attention is greatest on a
    word of the phrase, and ``padding_error`` the largest change of a logit when empty words are added before and after
    the sentence.

    Args:
        vocabulary: number of different words in addition to those of the phrase.
        channels: length of the vector that represents a word.
        filters: number of output features of the convolution.
        steps: training steps, each on 32 sentences.
        tested: number of test sentences.
    """

    def __init__(
        self,
        vocabulary: PositiveInt = 50,
        channels: PositiveInt = 16,
        filters: PositiveInt = 64,
        steps: PositiveInt = 600,
        tested: PositiveInt = 500,
    ) -> None:
        self.vocabulary, self.channels, self.filters = vocabulary, channels, filters
        self.steps, self.tested = steps, tested

    def __call__(self, trained: Trained) -> Values:
        """Return ``auc`` of each model, and ``pointing`` and ``padding_error`` where defined."""
        torch.manual_seed(trained.seed)
        corpus = Sentences(self.vocabulary, self.channels)
        test = corpus.draw("second", self.tested, places=True)
        found = {}
        for name, model in self._models(corpus.size).items():
            learn(model, partial(corpus.draw, "first", 32, places=name == "attention, taught"), self.steps)
            found[name] = {"auc": auc_of(model, test)}
            if name != "fully connected":  # it has one cell and accepts sentences of one length only
                found[name] |= {"pointing": pointed(model, test), "padding_error": padding_error(model, test[0])}
        return found

    def _models(self, size: int) -> dict[str, Model]:
        pooled = {"max over time": GlobalMaxPool, "mean over time": GlobalAveragePool}
        attended = {"attention": AttentionPool, "attention, taught": AttentionPool}
        models = {name: _model(self._convolution(), head) for name, head in {**pooled, **attended}.items()}
        flat = MultilayerPerceptron(self.channels, 1, size=[size], widths=[self.filters])
        return {**models, "fully connected": _model(flat, GlobalAveragePool)}

    def _convolution(self) -> nn.Module:
        style = {"convolutions": 1, "norm": "none", "activation": "relu"}
        return ConvEncoder(self.channels, 1, widths=[self.filters], kernels=[PHRASE], **style)


def _model(backbone: nn.Module, head: type[nn.Module]) -> Model:
    return Model(backbone, None, {"phrase": head(backbone.levels, classes=["phrase"])})


class Sentences:
    """Sentences of random words, each a random unit vector from torch's generator; the empty word is zeros.

    Args:
        vocabulary: number of different words in addition to those of the phrase.
        channels: length of the vector that represents a word.
        words: number of words of the shortest and of the longest sentence.

    >>> Sentences(20, 8).draw("first", 4, places=True)[0].shape
    torch.Size([4, 8, 36])
    """

    def __init__(self, vocabulary: int, channels: int, words: tuple[int, int] = (24, 32)) -> None:
        self.words = words
        self.vectors = functional.normalize(torch.randn(PHRASE + vocabulary, channels), dim=1)

    @property
    def size(self) -> int:
        """Number of words of a padded sentence."""
        return self.words[1] + 2 * MARGIN

    def draw(self, half: Half, count: int, places: bool) -> Batch:
        """Draw padded sentences ``(count, channels, size)``, every other one with the phrase.

        Args:
            half: half of the sentence in which the words of the phrase are.
            count: number of sentences.
            places: annotate the box of the phrase instead of the label of the sentence.
        """
        drawn = [self._sentence(half, phrase=bool(number % 2)) for number in range(count)]
        annotations = [_annotation(start, phrase=bool(n % 2), places=places) for n, (_, start) in enumerate(drawn)]
        return torch.stack([sentence for sentence, _ in drawn]), annotations

    def _sentence(self, half: Half, phrase: bool) -> tuple[Tensor, int]:
        """Draw a padded sentence, and return it with the start of its phrase."""
        shortest, longest = self.words
        length = int(torch.randint(shortest, longest + 1, ()))
        low, high = (0, shortest // 2 - PHRASE) if half == "first" else (longest // 2, length - PHRASE)
        start = int(torch.randint(low, high + 1, ()))
        words = torch.randint(PHRASE, len(self.vectors), (length,))
        words[start : start + PHRASE] = torch.arange(PHRASE) if phrase else _disordered()
        padding = (MARGIN, self.size - MARGIN - length)
        return functional.pad(self.vectors[words].T, padding), start + MARGIN


def _disordered() -> Tensor:
    """Draw a permutation of the words of the phrase other than the identity."""
    while (order := torch.randperm(PHRASE)).equal(torch.arange(PHRASE)):
        pass
    return order


def _annotation(start: int, phrase: bool, places: bool) -> Annotation:
    if not places:
        return Annotation(label=np.array([phrase], np.float32))
    boxes = np.array([[start, start + PHRASE]] if phrase else [], np.float32).reshape(-1, 2)
    return Annotation(boxes=boxes, box_classes=np.ones(len(boxes), np.int64))


def pointed(model: Model, batch: Batch) -> float:
    """Compute the fraction of positive sentences in which attention is greatest on a word of the phrase."""
    sentences, annotations = batch
    size = tuple(sentences.shape[2:])
    with torch.no_grad():
        found = model.decode(model.outputs(sentences), size)["phrase"].attention
    attention = required(found, "a model with attention").numpy()
    regions = [required(annotation.completed(size, classes=1).region, "regions") for annotation in annotations]
    return float(np.nanmean([pointing(*pair) for pair in zip(attention, regions, strict=True)]))


def padding_error(model: Model, sentences: Tensor) -> float:
    """Compute the largest change of a logit when a sentence's length of empty words is added before and after it."""
    words = sentences.shape[2]
    with torch.no_grad():
        change = model(functional.pad(sentences, (words, words))).logits - model(sentences).logits
    return float(change.abs().max())
