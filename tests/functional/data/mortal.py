"""The onebox daemon, killed on its way: ``mortal.py SAVES WRITES``.

It runs as always until it has saved its state SAVES times, does WRITES more things to the machine
(opens a file to write, renames, removes, starts a program, ...), and is gone before the next one.
Python announces each of these to audit hooks before it happens; nothing of onebox is replaced.
"""

import os
import signal
import sys

from onebox import daemon

WRITES = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "subprocess.Popen"}
left = dict(zip(("saves", "writes"), map(int, sys.argv[1:]), strict=True))


def look(event: str, arguments: tuple[object, ...]) -> None:
    """Count down, and end when nothing is left."""
    if event == "open":
        wanted = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    else:
        wanted = event in WRITES
    if not wanted:
        return
    if left["saves"] > 0:
        left["saves"] -= event == "os.rename" and str(arguments[1]).endswith("/state.json")
    elif left["writes"] > 0:
        left["writes"] -= 1
    else:
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(look)
daemon.main()
