"""What was freed is given back by the process that asked for that, and by none that it starts."""

import os
import subprocess
import sys

import pytest

FREED = """
import re, sys
if sys.argv[1] == "yes":
    from liit.engine.freeing import free_at_once
    free_at_once()
import os
import numpy as np, pyarrow as pa

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

assert "ARROW_DEFAULT_MEMORY_POOL" not in os.environ, "workers are as they were"
pa.array(np.arange(9)).cast(pa.float64())  # what is loaded once
start, kept = held(), []
for _ in range(8):
    arrays = [np.ones(3 << 20), pa.array(np.arange(2 << 20)).cast(pa.float64())]
    kept.append(np.ones(1000))  # what stays lies between what goes
    assert held() - start > 30e6
    del arrays
print(held() - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc, and given back by glibc")
def test_large_arrays_are_given_back_at_once() -> None:
    bare = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    left = {}
    for how in ("yes", "no"):
        command = [sys.executable, "-c", FREED, how]
        left[how] = int(subprocess.run(command, env=bare, capture_output=True, text=True, check=True).stdout)
    assert left["yes"] < 5e6 < left["no"]
