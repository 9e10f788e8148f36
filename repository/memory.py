"""Memory of an old publication goes back to the system when it is let go."""

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # of <malloc.h>
_LARGE_BYTES: Final = 131_072


def map_large_values() -> None:
    """Have glibc map every large value by itself, for ever.

    By default it stops doing so with the first one that is freed, and values of the next publication are put between
    small things that stay: the process would keep room for two publications. Other C libraries have no such habit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
