import ctypes
import platform

import pytest

from tx_jax.hosts import allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_glibc_accepts_the_settings():
    assert allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()


def test_a_refused_setting_is_told(monkeypatch):
    class Library:
        def mallopt(self, option, value):
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    assert not allocator.keep_freed_memory()
