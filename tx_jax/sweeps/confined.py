"""Becomes a command that is asked to stop when the process that started it dies (on Linux), on some CPU cores only:
python -m tx_jax.sweeps.confined PID CORES COMMAND..., with the process's id and comma-separated cores, or "".
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, cores, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before
        sys.exit(1)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, cores.split(",")))
    os.execvp(command[0], command)
