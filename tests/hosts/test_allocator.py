import ctypes
import platform
import subprocess
import sys

import pytest

from tx_jax.hosts import allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_glibc_accepts_the_settings():
    assert allocator.keep_freed_memory()


FAULTS = """
import ctypes, resource
from tx_jax.hosts import allocator
library, size, found = ctypes.CDLL(None), 2**27, []
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
library.memset.argtypes, library.free.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), (ctypes.c_void_p,)
KEEP
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = library.malloc(size)
    library.memset(buffer, 1, size)
    library.free(buffer)
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(found[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_a_large_buffer_that_was_freed_costs_no_page_faults():
    """As of a train step's activations: 128 MiB, far above what the C library maps one by one."""

    def faults(keep: str) -> int:
        command = [sys.executable, "-c", FAULTS.replace("KEEP", keep)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("") > 100
    assert faults("assert allocator.keep_freed_memory()") < 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()


def test_a_refused_setting_is_told(monkeypatch):
    class Library:
        def mallopt(self, option, value):
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert not allocator.keep_freed_memory()
