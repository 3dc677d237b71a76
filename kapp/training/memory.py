"""How the C library treats the memory that a step frees."""

import ctypes
import sys

# glibc's <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Keep freed memory for the next step, where the C library is glibc.

    The system clears each page that it hands out again. That takes a fifth of `teacher_1`'s time on PyTorch
    and a CPU, and a twentieth of `linear_3`'s on the other backends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)  # glibc's maximum: larger blocks still return to the system
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
