"""No process of a torture outlives the one that wanted it, however that one ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent() -> None:
    """End this process when the one that wanted it ends: the forking server in between is not meant."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent.sentinel,), name="orphan", daemon=True).start()
    elif sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _die_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
