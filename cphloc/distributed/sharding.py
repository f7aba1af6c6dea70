"""Fully sharded data parallel: every process stores a part of each parameter, gradient and optimizer state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Distribute the parameters of ``model`` over the processes of ``mesh``, in place, with torch's ``fully_shard``.

    The parameters of backbone and neck are gathered only while they compute. Those of the heads stay gathered until
    the end of the step, because losses use them too.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for part in (model.backbone, model.neck):
        if isinstance(part, nn.Module) and any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "outputs")
