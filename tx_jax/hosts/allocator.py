"""Memory allocation on the CPU backend."""

import ctypes

# <malloc.h> of the GNU C library
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_ARENA_MAX = -1, -2, -8


def keep_freed_memory() -> bool:
    """Tells the C library, if it supports this, to keep freed memory for reuse. Returns whether it did.

    Call it before jax is imported: later it has no effect on what the backend has set up.

    XLA's CPU backend allocates new buffers in each step. By default glibc returns them to the kernel at the end of the
    step and gets them again, page by page, in the next: up to a third of the time of a small model's step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    # One arena: those that other threads get consist of small mappings, to which these settings do not apply.
    settings = {_M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 256 * 2**20, _M_ARENA_MAX: 1}
    return all(mallopt(option, value) for option, value in settings.items())
