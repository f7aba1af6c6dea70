"""The networks of a pipeline as one model, so that one file holds the weights of all stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, cast

from torch import Tensor, nn

from cphloc.errors import InputError
from cphloc.modeling.model import Model
from cphloc.structures.display import Display


class StagedModel(Model):
    """The networks of the stages of a pipeline, each under the name of its stage.

    It holds weights and classes only: what a stage sees depends on the results of those before it, which
    `cphloc.inference.pipeline.Pipeline` computes.

    Args:
        stages: networks by the name of their stage, in the order in which they run.

    Raises:
        InputError: a stage has the name of an attribute of networks.
    """

    def __init__(self, stages: Mapping[str, Model]) -> None:
        nn.Module.__init__(self)
        for name, stage in stages.items():
            if hasattr(Model, name):
                msg = f"stages.{name}: the name of a stage cannot be '{name}'; choose another"
                raise InputError(msg)
            self.add_module(name, stage)
        self._names = tuple(stages)

    @property
    def stages(self) -> dict[str, Model]:
        """The networks by the name of their stage, in order."""
        return {name: cast(Model, self._modules[name]) for name in self._names}

    @property
    def classes(self) -> Mapping[int, str]:
        """Classes of the last stage, number 1..K -> name."""
        return self.stages[self._names[-1]].classes

    def outputs(self, x: Tensor) -> NoReturn:
        """Refuse: the outputs of a pipeline are those of its stages, each for images of its own.

        Raises:
            InputError: always.
        """
        msg = f"a pipeline has no outputs of its own; use one of its stages: {', '.join(self._names)}"
        raise InputError(msg)

    def _display(self) -> Display:
        sizes = {name: sum(p.numel() for p in stage.parameters()) for name, stage in self.stages.items()}
        return Display("Model of a pipeline", [(name, f"{size:,} parameters") for name, size in sizes.items()])
