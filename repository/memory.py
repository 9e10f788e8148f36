"""Memory of an old publication goes back to the system when it is let go."""

import ctypes


def give_back() -> None:
    """Have glibc return all free memory: it keeps what lies between things that stay, room for another publication.

    Another C library may have no such function, and no such habit. Takes milliseconds, and is made for a thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
