"""A training step of a full-resolution 3-D U-Net on a CPU: as cphloc does it, and with PyTorch's defaults."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from .measure import Comparison, Contender, times_less

STEPS = """
import sys, torch
from cphloc.components.backbone.conv_encoder import ConvEncoder
from cphloc.components.head.unet import UNet
from cphloc.modeling.model import Model
torch.manual_seed(0)
backbone = ConvEncoder(1, 3, (16, 32, 64, 128, 256))
model = Model(backbone, None, {"mask": UNet(backbone.levels, ["organ"], deep_supervision=False)})
image, target = torch.randn(4, 1, 64, 64, 32), torch.randint(0, 2, (4, 64, 64, 32))
bf16 = False
if sys.argv[1] == "cphloc":
    from cphloc.distributed.machine import reuse_freed_memory
    from cphloc.training.compute import lay_out
    from cphloc.training.settings import native_precision
    reuse_freed_memory()
    bf16 = native_precision() == "bf16-mixed"
    lay_out(model, channels_last=not bf16)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for _ in range(int(sys.argv[2])):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = torch.nn.functional.cross_entropy(model(image), target)
    loss.backward()
    optimizer.step()
"""
"""One program for both, so that nothing differs but memory, precision and memory format.

They are those that a training of cphloc begins with; it measures two steps of the others first, which is not counted.
"""


def comparisons(full: bool) -> list[Comparison]:
    """Eight steps; the start of torch, which both pay, counts little among them."""
    from cphloc.training.settings import native_precision

    goal = times_less(2.5 if native_precision() == "bf16-mixed" else 1.6)
    peers = (Contender("PyTorch's defaults", lambda: _job("bare")),)
    ours = Contender("cphloc", lambda: _job("cphloc"))
    return [Comparison("8 steps, patches of 64 x 64 x 32, batch 4", ours, peers, goal)]


def _job(who: str) -> Callable[[], None]:
    return lambda: subprocess.run([sys.executable, "-c", STEPS, who, "8"], check=True) and None
