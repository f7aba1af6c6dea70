"""What a process of a distributed test runs: the same small training, alone or with others."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from cphloc.distributed import processes
from cphloc.training.fit import fit

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_fit import SETTINGS, batches_of, held_out


class SharedModel(nn.Module):
    """Two parts and no dropout, which each process would draw for itself; no norm over a batch that is shared out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU())
        self.neck = None
        self.heads = nn.ModuleDict({"mask": nn.Conv2d(5, 2, 1)})

    def outputs(self, image):
        return {"mask": self.heads["mask"](self.backbone(image))}

    def loss(self, outputs, targets):
        return {"loss": nn.functional.cross_entropy(outputs["mask"], targets.masks)}


def main(folder: Path, strategy: str, stop_at: int, cases: int) -> None:
    """Train six steps, going on from what is there; a signal comes in step ``stop_at``; a micro-batch has ``cases``."""
    processes.start()
    resume = (folder / "last.safetensors").is_file()
    settings = replace(SETTINGS, steps=6, validate_every=3, strategy=strategy)

    def batches(first, rank, ranks):
        for number, batch in enumerate(batches_of(2, per_batch=cases)(first, rank, ranks), start=first):
            if number == stop_at * settings.accumulate - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    model = SharedModel()
    outcome = fit(model, batches, held_out(2), settings, folder, resume=resume)
    assert outcome.stopped == ("SIGTERM" if stop_at else "steps")
    assert not any(hasattr(p, "full_tensor") for p in model.parameters()), "the model given to fit stays whole"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
