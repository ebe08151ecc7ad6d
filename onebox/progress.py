"""Tell a waiting person which long steps are at work, and for how long."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator

_SPINNER = "|/-\\"
_SECONDS_BETWEEN_LINES = 30


class Progress:
    """Announces steps on standard error.

    Each step gets a line when it begins and one when it ends. In between, a terminal shows one
    line that changes every second; a log gets a line every half minute.

    Args:
        total: the number of steps that will be announced.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._running: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._terminal = sys.stderr.isatty()

    @contextlib.contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Show that steps are at work until the block is left."""
        ticker = threading.Thread(target=self._tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            self._stop.set()
            ticker.join()

    @contextlib.contextmanager
    def step(self, what: str, seconds: float) -> Iterator[None]:
        """Announce a step, and how long it took.

        Args:
            what: the step, for example ``building image mlflow``.
            seconds: how long it usually takes.
        """
        start = time.monotonic()
        with self._lock:
            self._count += 1
            label = f"[{self._count}/{self._total}] {what}"
            self._running[label] = start
            self._say(f"{label} (about {seconds:.0f} s) ...")
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            with self._lock:
                del self._running[label]
                self._say(f"{label}: {outcome} after {time.monotonic() - start:.0f} s")

    def _tick(self) -> None:
        ticks = 0
        while not self._stop.wait(1.0):
            ticks += 1
            with self._lock:
                now = time.monotonic()
                work = ", ".join(
                    f"{label} {now - since:.0f} s" for label, since in self._running.items()
                )
                if work and self._terminal:
                    line = f"{_SPINNER[ticks % 4]} {work}"
                    sys.stderr.write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
                    sys.stderr.flush()
                elif work and ticks % _SECONDS_BETWEEN_LINES == 0:
                    self._say(f"    still at work: {work}")

    def _say(self, line: str) -> None:
        print(f"\r\033[K{line}" if self._terminal else line, file=sys.stderr, flush=True)
