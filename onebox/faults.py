"""Break something on purpose, to see that the stack mends itself."""

from __future__ import annotations

import contextlib
import os
import signal
import typing
from collections.abc import Mapping

from onebox import changes, engine, model


def inject(
    runner: engine.Engine, world: model.Model, params: Mapping[str, typing.Any]
) -> typing.Any:
    """Carry out a fault.

    Args:
        runner: the engine.
        world: the model.
        params: ``kind`` and what it needs, see `KINDS`.

    Raises:
        changes.UserError: the fault does not exist, or what it aims at is not there.
    """
    kind = params["kind"]
    if kind not in KINDS:
        raise changes.UserError(f"no fault {kind!r}: there are {', '.join(sorted(KINDS))}")
    return KINDS[kind](runner, world, params)


def _kill_hook(
    runner: engine.Engine, world: model.Model, params: Mapping[str, typing.Any]
) -> typing.Any:
    if not runner.kill_hook(world.name, params["unit"]):
        raise changes.UserError(f"unit {params['unit']} is not running a hook")


def _kill_container(
    runner: engine.Engine, world: model.Model, params: Mapping[str, typing.Any]
) -> typing.Any:
    pid = runner.init_pid(world.name, params["unit"], params.get("container"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _lose_leadership(
    runner: engine.Engine, world: model.Model, params: Mapping[str, typing.Any]
) -> typing.Any:
    return runner.depose(world, params["application"])


KINDS = {
    "kill-container": _kill_container,
    "kill-hook": _kill_hook,
    "lose-leadership": _lose_leadership,
}
