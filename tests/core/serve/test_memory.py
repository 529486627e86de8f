"""Memory is handed back every so often while a server works."""

import subprocess
import sys

import pytest
from unisono.serve import memory


def test_memory_is_handed_back_once_in_a_while(monkeypatch):
    clock, calls = [100.0], []
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    trim = memory.Trimmer(lambda: calls.append(clock[0]))
    for second in (101, 119, 120, 121, 139.5, 140, 300):
        clock[0] = float(second)
        trim()
    assert calls == [120, 140, 300]


SCRIPT = """
import ctypes, os
from unisono.serve import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

blocks = [libc.malloc(65536) for _ in range(3200)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
kept = blocks[::100]
for block in blocks:
    if block not in kept:
        libc.free(block)
before = resident()
memory._malloc_trim()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux" or memory._found() is None, reason="the C library is not glibc")
def test_gaps_between_what_is_in_use_are_handed_back():
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert float(found.stdout) > 100  # of 200 MiB, of which 2 are in use
