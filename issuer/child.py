"""`python -P -m issuer.child PARENT MODULE [ARGUMENT]…`: run a module, and end when its parent is gone.

The process asks for that itself, once it is a program. Between fork and exec, as `preexec_fn` of `subprocess`, Python
may hang for ever: another thread of the parent may hold a lock at the fork, and nobody releases it in the child.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


def main() -> None:
    """Be the module of the command line; the kernel sends SIGTERM when PARENT, a process id, is gone."""
    _, parent, module, *arguments = sys.argv
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it was gone before the kernel knew
        return
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
