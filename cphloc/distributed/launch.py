"""Run torchrun for `cphloc.distributed.processes.start`; a process that fails has printed its error, so none is added.

torchrun itself would add a traceback and a table in which the error is hard to find.
"""

from __future__ import annotations

import logging
import signal
import sys


def main() -> int:
    """Start the processes that torchrun's arguments ask for; returns the exit status of the first that failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    for chatty in ("torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        cause = "; memory ran out, or somebody ended it" if name == "SIGKILL" else ""
        print(f"process {rank} of the training ended with {name}{cause}; start again with --resume", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
