import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "reuse":
    from cphloc.distributed.machine import reuse_freed_memory
    assert reuse_freed_memory()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")
def test_the_operating_system_maps_freed_memory_once():
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True).stdout)
        for way in ("default", "reuse")
    ]
    assert counts[0] >= 10 * 20, "each block of 128 MB is mapped anew"
    assert counts[1] * 20 < counts[0]
