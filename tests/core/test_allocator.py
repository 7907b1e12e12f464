"""Memory that is kept: the second pass over the same blocks makes the kernel give no pages."""

import ctypes
import subprocess
import sys

CODE = """
import resource, sys
import torch
from vit_registers.core.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("none"); sys.exit()
def work():
    for size in (40 << 20, 1 << 20, 90 << 20):
        torch.ones(size // 4)
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    run = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_blocks_that_were_freed_are_used_again_without_the_kernel():
    kept = faults("keep")
    if kept == "none":  # which it may say only where the C library has no such switch
        assert not hasattr(ctypes.CDLL(None), "mallopt")
    else:
        assert int(kept) < int(faults("not")) / 10
