"""A training step of a full-resolution 3-D U-Net on a CPU: as cphloc does it, and with PyTorch's defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from .measure import Comparison, Contender, times_less

STEPS = """
import sys, time, torch
from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.modeling.model import Model
from cphloc.training.trainer import channels_last
torch.manual_seed(0)
backbone = ConvEncoder(1, 3, (16, 32, 64, 128, 256))
model = Model(backbone, None, {"mask": UNet(backbone.levels, ["organ"], deep_supervision=False)})
if sys.argv[1] == "cphloc":
    channels_last(model)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
image, target = torch.randn(4, 1, 64, 64, 32), torch.randint(0, 2, (4, 64, 64, 32))
for _ in range(int(sys.argv[2])):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(image), target).backward()
    optimizer.step()
"""
"""One program for both, so that nothing differs but the memory format, and the allocator that starts it."""


def comparisons(full: bool) -> list[Comparison]:
    """Eight steps; the start of torch, which both pay, counts little among them."""
    peers = (Contender("PyTorch's defaults", lambda: _job("bare", None)),)
    return [Comparison("8 steps, patches of 64 x 64 x 32, batch 4", Contender("cphloc", _ours), peers, times_less(1.7))]


def _ours() -> Callable[[], None]:
    """With the allocator that ``cphloc train`` would choose."""
    import ctypes.util

    from cphloc.training.allocator import NAMES

    return _job("cphloc", next(filter(None, map(ctypes.util.find_library, NAMES)), None))


def _job(who: str, preload: str | None) -> Callable[[], None]:
    environment = os.environ | ({"LD_PRELOAD": preload} if preload else {})
    return lambda: subprocess.run([sys.executable, "-c", STEPS, who, "8"], env=environment, check=True) and None
