"""Names of nnU-Net's networks (dynamic-network-architectures) and ours."""

from __future__ import annotations

from cphloc.importing.names import Rule, swapped_halves

_DROPPED = [
    Rule("decoder.encoder.*", None),  # the encoder again
    Rule("*.all_modules.#.weight", None),  # every layer again
    Rule("*.all_modules.#.bias", None),
    Rule("*.conv.bias", None),  # the norm that follows subtracts it
    Rule("*.norm.num_batches_tracked", None),
]

_DECODER = [
    Rule("decoder.stages.#.convs.0.conv.weight", "heads.mask.blocks.{-0}.0.conv.weight", swapped_halves),
    Rule("decoder.stages.#.convs.#.*", "heads.mask.blocks.{-0}.{1}.*"),
    Rule("decoder.transpconvs.#.*", "heads.mask.up.{-0}.conv.*"),
    Rule("decoder.seg_layers.0.*", None),  # nnU-Net gives the coarsest level no weight in its loss either
    Rule("decoder.seg_layers.#.*", "heads.mask.score.{-0}.*"),
]

PLAIN = [*_DROPPED, Rule("encoder.stages.#.0.convs.#.*", "backbone.stages.{0}.{1}.*"), *_DECODER]
"""PlainConvUNet: ``conv_encoder`` and ``unet``."""

RESIDUAL = [
    *_DROPPED,
    Rule("encoder.stem.convs.0.*", "backbone.stem.*"),
    Rule("encoder.stages.#.blocks.#.conv1.*", "backbone.stages.{0}.{1}.first.*"),
    Rule("encoder.stages.#.blocks.#.conv2.*", "backbone.stages.{0}.{1}.second.*"),
    Rule("encoder.stages.#.blocks.#.skip.#.conv.*", "backbone.stages.{0}.{1}.shortcut.{2}.0.*"),
    Rule("encoder.stages.#.blocks.#.skip.#.norm.*", "backbone.stages.{0}.{1}.shortcut.{2}.1.*"),
    *_DECODER,
]
"""ResidualEncoderUNet: ``residual_encoder`` and ``unet`` with one convolution a level."""
