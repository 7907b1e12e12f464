"""glibc's allocator told to keep what is freed: every batch needs the same large blocks again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on; whether the C library could be told so.

    By default glibc maps large blocks afresh and gives them back when they are freed, and the kernel clears every page
    of them again: tens of thousands of page faults in a pass of ViT-S/14, a twentieth of its time when much is read
    and more when the machine is busy (`benchmarks/README.md`). The peak stays the same, as a batch needs what the one
    before it needed. Nothing happens on other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has none
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
