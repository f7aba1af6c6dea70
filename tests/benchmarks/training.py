"""A training step of a full-resolution 3-D U-Net on a CPU: as cphloc does it, and with PyTorch's defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .measure import Comparison, Contender, apart, times_less

STEPS = 8


def comparisons(full: bool) -> list[Comparison]:
    """Steps alone: both begin in a process of their own, whose start is not counted."""
    from cphloc.training.settings import native_precision

    goal = times_less(2.5 if native_precision() == "bf16-mixed" else 1.6)
    peers = (Contender("PyTorch's defaults", apart(partial(_steps, "defaults"))),)
    ours = Contender("cphloc", apart(partial(_steps, "cphloc")))
    return [Comparison(f"{STEPS} steps, patches of 64 x 64 x 32, batch 4", ours, peers, goal)]


def _steps(who: str) -> Callable[[], None]:
    """Build the same network for both, so that nothing differs but memory, precision and memory format.

    They are those that a training of cphloc begins with; it measures two steps of the others first, which is not
    counted.
    """
    import torch

    from cphloc.components.backbone.conv_encoder import ConvEncoder
    from cphloc.components.head.unet import UNet
    from cphloc.distributed.machine import reuse_freed_memory
    from cphloc.modeling.model import Model
    from cphloc.training.compute import lay_out
    from cphloc.training.settings import native_precision

    torch.manual_seed(0)
    backbone = ConvEncoder(1, 3, (16, 32, 64, 128, 256))
    model = Model(backbone, None, {"mask": UNet(backbone.levels, ["organ"], deep_supervision=False)})
    image, target = torch.randn(4, 1, 64, 64, 32), torch.randint(0, 2, (4, 64, 64, 32))
    bf16 = who == "cphloc" and native_precision() == "bf16-mixed"
    if who == "cphloc":
        reuse_freed_memory()
        lay_out(model, channels_last=not bf16)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def job() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = torch.nn.functional.cross_entropy(model(image), target)
            loss.backward()
            optimizer.step()

    return job
