"""Run a command so that it ends when its supervisor ends: `launch.py PARENT SIGNAL USER ARGV ...`.

This runs as a small script of its own instead of as a `preexec_fn`, because Python code between fork and exec can
deadlock in a process with threads. It also sets the variables only for the command: a library path meant for a server
must not reach the Python that runs this file. They come as JSON in one variable of our own. The process is replaced by
the command, so the pid stays the same. Where another user is to run it (USER is not -1), the change happens here: that
user may not even be able to reach our Python.
"""

import json
import os
import signal
import sys

VARIABLE = "_HAULYARD_LAUNCH"

_PR_SET_PDEATHSIG = 1


def main(args: list[str]) -> None:
    """Ask the kernel for `SIGNAL` at the parent's death, then become the command."""
    parent, death_signal, user, argv = int(args[0]), int(args[1]), int(args[2]), args[3:]
    library = None
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 -- only needed, and only sure to be there, on Linux

        library = ctypes.CDLL(None)
    if user >= 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if library is not None:  # after the change of user, which would take the request back
        library.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request was in place, so no signal will come
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ.update(json.loads(os.environ.pop(VARIABLE, "{}")))
    os.execvp(argv[0], argv)  # noqa: S606 -- becoming another program is this file's whole purpose


if __name__ == "__main__":
    main(sys.argv[1:])
