"""Memory allocation on the CPU backend."""

import ctypes

# <malloc.h> of the GNU C library
_M_TRIM_THRESHOLD, _M_TOP_PAD = -1, -2


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for reuse, where it can be told; returns whether it was.

    Call it before jax is imported: later it has no effect on what the backend has set up.

    XLA's CPU backend allocates each step's buffers anew. By default glibc gives them back to the kernel at the end of
    the step and takes them again, page by page, at the next: a third of the time of a small model's step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_TOP_PAD, 256 * 2**20))
