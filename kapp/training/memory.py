"""How the C library keeps the memory that a step frees."""

import ctypes
import sys

# glibc's <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed() -> None:
    """Have memory that is freed wait for the next step, in place of going back to the system, which clears
    each page that it gives: a fifth of `teacher_1`'s time on PyTorch and a CPU, a twentieth of `linear_3`'s
    on the other backends. Nothing where the C library isn't glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc takes: larger blocks go back all the same
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
