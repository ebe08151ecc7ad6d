"""What the long commands say: steps, a line that changes, and one sentence when they fail."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator

from onebox import bundlefile, client, home, pods, setup

LINE_INTERVAL = 5.0
"""Seconds between two lines of a log on the same thing."""


class CommandError(Exception):
    """A command cannot go on; the text is one sentence for the user."""


def guarded(name: str, work: Callable[[home.Home], None]) -> int:
    """Do the work, alone in this onebox, and turn what can be foreseen into one sentence.

    Args:
        name: the target of make that this is.
        work: gets the onebox.

    Returns:
        The exit code of the command.
    """
    if os.geteuid() != 0:
        return _fail(name, f"only root can make networks, mounts and containers: sudo make {name}")
    try:
        where = home.find()
        with _alone(where):
            work(where)
    except (
        CommandError,
        bundlefile.BundleError,
        client.ApiError,
        pods.PodmanError,
        setup.SetupError,
    ) as error:
        return _fail(name, str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        place = f" ({error.filename})" if error.filename else ""
        return _fail(name, f"the disk is full{place}: make room and run it again")
    except KeyboardInterrupt:
        _fail(name, f"interrupted; run make {name} again, it goes on from here")
        return 130
    return 0


def _fail(name: str, text: str) -> int:
    print(f"\nonebox {name}: {text}", file=sys.stderr, flush=True)
    return 1


@contextlib.contextmanager
def _alone(where: home.Home) -> Generator[None]:
    where.path.mkdir(parents=True, exist_ok=True)
    with (where.path / "up.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"another make up or make down is at work on {where.path}"
            ) from None
        yield


def say(text: str) -> None:
    """Tell the user something; standard output is for what the command results in."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(which: str, title: str) -> Generator[None]:
    """Announce a step, and tell how long it took.

    Args:
        which: its number, for example ``2/6``.
        title: what it does.
    """
    began = time.monotonic()
    say(f"\n== {which} {title}")
    yield
    say(f"   done after {time.monotonic() - began:.1f} s")


class Line:
    """One line that changes on a terminal; a log gets a new one now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""
        self._next = 0.0

    def show(self, text: str) -> None:
        """Show a text in place of the last one."""
        if self._terminal:
            columns = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{text[:columns]}")
            sys.stderr.flush()
        elif text != self._shown and time.monotonic() >= self._next:
            say(text)
            self._shown, self._next = text, time.monotonic() + LINE_INTERVAL

    def end(self) -> None:
        """Make room for what comes next."""
        if self._terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
