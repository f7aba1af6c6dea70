"""Fully sharded data parallel: every process holds a part of each parameter, its gradient and its moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share the parameters of ``model`` out between the processes of ``mesh``, in place, by torch's ``fully_shard``.

    Backbone and neck are gathered while they compute and let go afterwards. What remains, the heads, stays gathered
    until the step is done, because losses use their parameters too.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for part in (model.backbone, model.neck):
        if part is not None and any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "outputs")
