"""Memory allocation on the CPU backend."""

import ctypes

# <malloc.h> of the GNU C library
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_ARENA_MAX = -1, -2, -8


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for reuse, where it can be told; returns whether it was.

    Call it before jax is imported: later it has no effect on what the backend has set up.

    XLA's CPU backend allocates each step's buffers anew. By default glibc gives them back to the kernel at the end of
    the step and takes them again, page by page, at the next: up to a third of the time of a small model's step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    # One arena: the others, which threads get, are made of small mappings that these settings do not reach.
    settings = {_M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 256 * 2**20, _M_ARENA_MAX: 1}
    return all(mallopt(option, value) for option, value in settings.items())
