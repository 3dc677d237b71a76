import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from kapp.training import memory
def step():
    np.ones(5_000_000, "float32")  # 20 MB, 4,883 pages
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
memory.keep_freed_memory()
step()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_kept_for_the_next_step():
    small_pages = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"}  # one fault each
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS], env=small_pages, capture_output=True, text=True, check=True
    )
    before, after = map(int, ran.stdout.split())
    assert after < 100 < before
