"""Python's garbage collector, kept still while large libraries are imported."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator


@contextlib.contextmanager
def paused() -> Generator[None, None, None]:
    """Look for no garbage inside the block, nor ever at the objects that it leaves.

    What is imported stays. The collector would look through all of it again and again while it
    grows, which takes a quarter of the time that MLflow's import needs, and later at each of its
    full runs.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
