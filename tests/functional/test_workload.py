"""What `workload.apply` does to a real Pebble."""

from __future__ import annotations

import dataclasses
import http.client
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import ops
import pytest

from mlflow_kit import plan as plans
from mlflow_kit import workload
from mlflow_kit.container import pebble_notify
from tools import goprogram

T = TypeVar("T")

# Appends a line at each start, then stays; a HUP appends a line too.
DAEMON = """
import signal, sys, time
log = sys.argv[1]
def say(word):
    with open(log, "a") as file:
        print(word, file=file)
signal.signal(signal.SIGHUP, lambda *_: say("reload"))
say("start")
while True:
    time.sleep(60)
"""


@pytest.fixture(scope="session")
def pebble_program() -> pathlib.Path:
    return goprogram.build("pebble")


class Pebble:
    """A Pebble daemon with a folder of its own, and a Container that talks to it."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path) -> None:
        self.folder = folder
        self.socket = folder / "pebble.socket"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.client = ops.pebble.Client(socket_path=str(self.socket))
        self.container = _Container(self.client, folder)

    def start(self) -> None:
        environment = {
            **os.environ,
            "PEBBLE": str(self.folder / "pebble"),
            "PEBBLE_SOCKET": str(self.socket),
        }
        with (self.folder / "pebble.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "run", "--create-dirs", "--hold"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        eventually(self.container.can_connect)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None


class _Container(ops.Container):
    """The container of a unit, on a socket of our choice instead of Juju's fixed path."""

    def __init__(self, client: ops.pebble.Client, folder: pathlib.Path) -> None:
        self.name = "workload"
        self._pebble = client
        self._juju_version = None


def eventually(probe: Callable[[], T], seconds: float = 15) -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def pebble(pebble_program: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Pebble]:
    daemon = Pebble(pebble_program, tmp_path)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(autouse=True)
def due(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """Pebble runs on this machine, not in a container: keep the notes out of its /run."""
    folder = tmp_path / "due"
    monkeypatch.setattr(workload, "_DUE", str(folder))
    return folder


@dataclasses.dataclass
class Daemon:
    """A small program, its files, and the plan to run it."""

    folder: pathlib.Path

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "log"

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "etc").iterdir())

    def path(self, name: str) -> str:
        return str(self.folder / "etc" / name)

    def file(self, name: str, content: str, mode: int = 0o600) -> plans.File:
        return plans.File(
            path=self.path(name),
            content=content,
            mode=mode,
            user_id=os.getuid(),
            group_id=os.getgid(),
        )

    def directory(self, *, purge: bool = False, mode: int = 0o755) -> plans.Directory:
        return plans.Directory(
            path=str(self.folder / "etc"),
            mode=mode,
            user_id=os.getuid(),
            group_id=os.getgid(),
            purge=purge,
        )

    def service(
        self,
        *,
        restart_on: tuple[str, ...] = (),
        reload_on: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> plans.Service:
        return plans.Service(
            name="daemon",
            argv=("python3", "-c", DAEMON, str(self.log)),
            environment=environment or {},
            user_id=os.getuid(),
            group_id=os.getgid(),
            restart_on=tuple(self.path(name) for name in restart_on),
            reload_on=tuple(self.path(name) for name in reload_on),
        )

    def plan(self, *files: plans.File, service: plans.Service | None = None) -> plans.Plan:
        return plans.Plan(
            services=(service or self.service(),),
            directories=(self.directory(purge=True),),
            files=files,
        )


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Daemon:
    return Daemon(tmp_path)


def starts(daemon: Daemon, count: int) -> None:
    eventually(lambda: daemon.lines.count("start") == count)


def test_a_fresh_container_gets_files_and_one_start(pebble: Pebble, daemon: Daemon):
    plan = daemon.plan(daemon.file("config", "a"), daemon.file("secret", "s", 0o600))

    health = workload.apply(pebble.container, plan)

    assert health.ok
    assert health.restarted == ("daemon",)
    starts(daemon, 1)
    info = pathlib.Path(daemon.path("secret")).stat()
    assert (info.st_mode & 0o777, info.st_uid) == (0o600, os.getuid())


def test_a_second_pass_changes_nothing(
    pebble: Pebble, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
):
    plan = daemon.plan(
        daemon.file("config", "a"),
        service=daemon.service(
            restart_on=("config",), environment={"A": "$b %c 'd' \"e\"", "Z": "1"}
        ),
    )
    plan = dataclasses.replace(
        plan,
        checks=(
            plans.Check(name="port", url="http://127.0.0.1:9/health", period=3750.5),
            plans.Check(name="minute", argv=("true",), period=90, timeout=60),
            plans.Check(name="program", argv=("true", "with blank"), period=0.5, timeout=0.4),
        ),
    )
    workload.apply(pebble.container, plan)
    starts(daemon, 1)
    written = pathlib.Path(daemon.path("config")).stat().st_mtime_ns
    changes = pebble.client.get_changes(ops.pebble.ChangeState.ALL)
    monkeypatch.delattr(ops.Container, "add_layer")

    health = workload.apply(pebble.container, plan)

    assert health.restarted == ()
    assert daemon.lines == ["start"]
    assert pathlib.Path(daemon.path("config")).stat().st_mtime_ns == written
    later = pebble.client.get_changes(ops.pebble.ChangeState.ALL)
    assert [c.id for c in later if "service" in c.kind] == [
        c.id for c in changes if "service" in c.kind
    ]


def test_arguments_reach_the_program_as_they_are(pebble: Pebble, daemon: Daemon, tmp_path):
    arguments = ("a b", "$(id)", "`id`", "'", '"', "\\", "[ x ]", "*", "", "ü%s", "-n")
    out = tmp_path / "argv"
    program = "import sys, time; open(sys.argv[1], 'w').write(repr(sys.argv[2:])); time.sleep(60)"
    service = plans.Service(
        name="argv",
        argv=("python3", "-c", program, str(out), *arguments),
        user_id=os.getuid(),
        group_id=os.getgid(),
    )

    assert workload.apply(pebble.container, plans.Plan(services=(service,))).ok

    assert out.read_text() == repr(list(arguments))


def test_only_a_file_that_matters_restarts(pebble: Pebble, daemon: Daemon):
    service = daemon.service(restart_on=("config",))
    workload.apply(
        pebble.container,
        daemon.plan(daemon.file("config", "a"), daemon.file("password", "1"), service=service),
    )
    starts(daemon, 1)

    rotated = workload.apply(
        pebble.container,
        daemon.plan(daemon.file("config", "a"), daemon.file("password", "2"), service=service),
    )
    assert rotated.restarted == ()
    assert pathlib.Path(daemon.path("password")).read_text() == "2"

    changed = workload.apply(
        pebble.container,
        daemon.plan(daemon.file("config", "b"), daemon.file("password", "2"), service=service),
    )
    assert changed.restarted == ("daemon",)
    starts(daemon, 2)


def test_a_changed_definition_restarts(pebble: Pebble, daemon: Daemon):
    workload.apply(pebble.container, daemon.plan(service=daemon.service(environment={"A": "1"})))
    starts(daemon, 1)

    workload.apply(pebble.container, daemon.plan(service=daemon.service(environment={"A": "2"})))

    starts(daemon, 2)


def test_a_reload_is_a_signal_and_no_restart(pebble: Pebble, daemon: Daemon):
    service = daemon.service(reload_on=("users",))
    workload.apply(pebble.container, daemon.plan(daemon.file("users", "a"), service=service))
    starts(daemon, 1)

    health = workload.apply(
        pebble.container, daemon.plan(daemon.file("users", "b"), service=service)
    )

    assert health.restarted == ()
    eventually(lambda: daemon.lines == ["start", "reload"])


def test_a_mode_that_is_wrong_is_put_right(pebble: Pebble, daemon: Daemon):
    plan = daemon.plan(daemon.file("secret", "s"))
    workload.apply(pebble.container, plan)
    pathlib.Path(daemon.path("secret")).chmod(0o644)

    workload.apply(pebble.container, plan)

    assert pathlib.Path(daemon.path("secret")).stat().st_mode & 0o777 == 0o600


def test_a_directory_with_the_wrong_mode_is_made_anew(pebble: Pebble, daemon: Daemon):
    open_directory = dataclasses.replace(daemon.plan(), directories=(daemon.directory(),))
    workload.apply(pebble.container, open_directory)
    pathlib.Path(daemon.path("stray")).write_text("not ours")
    closed = dataclasses.replace(
        daemon.plan(daemon.file("config", "a")),
        directories=(daemon.directory(mode=0o700),),
    )

    workload.apply(pebble.container, closed)

    assert (daemon.folder / "etc").stat().st_mode & 0o777 == 0o700
    assert daemon.names == ["config"]


def test_credentials_vanish_with_their_relation(pebble: Pebble, daemon: Daemon):
    workload.apply(
        pebble.container, daemon.plan(daemon.file("config", "a"), daemon.file("secret", "s"))
    )

    workload.apply(pebble.container, daemon.plan(daemon.file("config", "a")))

    assert daemon.names == ["config"]


def test_a_missing_file_comes_back_and_restarts(pebble: Pebble, daemon: Daemon):
    plan = daemon.plan(daemon.file("config", "a"), service=daemon.service(restart_on=("config",)))
    workload.apply(pebble.container, plan)
    starts(daemon, 1)
    pathlib.Path(daemon.path("config")).unlink()

    workload.apply(pebble.container, plan)

    starts(daemon, 2)


def test_the_empty_plan_stops_everything(pebble: Pebble, daemon: Daemon):
    plan = dataclasses.replace(
        daemon.plan(), checks=(plans.Check(name="program", argv=("true",), period=0.5),)
    )
    workload.apply(pebble.container, plan)
    starts(daemon, 1)

    stopped = workload.apply(pebble.container, plans.Plan())

    assert stopped.ok
    assert stopped.restarted == ("daemon",)
    assert not pebble.container.get_service("daemon").is_running()
    check = pebble.container.get_check("program")
    assert check.status == ops.pebble.CheckStatus.INACTIVE
    # AND a later pass has nothing to do
    assert workload.apply(pebble.container, plans.Plan()).restarted == ()

    # AND what comes back runs again
    assert workload.apply(pebble.container, plan, settle=5).ok
    starts(daemon, 2)


def test_healthy_means_that_the_check_has_run(pebble: Pebble, daemon: Daemon):
    plan = dataclasses.replace(
        daemon.plan(), checks=(plans.Check(name="program", argv=("true",), period=2),)
    )

    assert not workload.apply(pebble.container, plan).ok

    eventually(lambda: workload.observe(pebble.container, plan).ok)


def test_a_restart_makes_the_checks_start_anew(pebble: Pebble, daemon: Daemon):
    def plan(variable: str) -> plans.Plan:
        return dataclasses.replace(
            daemon.plan(service=daemon.service(environment={"A": variable})),
            checks=(plans.Check(name="program", argv=("true",), period=2),),
        )

    assert workload.apply(pebble.container, plan("1"), settle=10).ok

    restarted = workload.apply(pebble.container, plan("2"))

    assert [p.message for p in restarted.problems] == ["program is starting"]


def test_a_failing_check_is_a_problem_and_restarts_nothing(pebble: Pebble, daemon: Daemon):
    check = plans.Check(name="program", argv=("false",), period=0.5, threshold=4)
    plan = dataclasses.replace(daemon.plan(), checks=(check,))
    workload.apply(pebble.container, plan)

    # It may still be starting
    eventually(lambda: pebble.container.get_check("program").failures)
    health = workload.observe(pebble.container, plan)
    assert [p.message for p in health.problems] == ["program is starting"]
    assert health.starting

    # until it has failed too often
    eventually(lambda: pebble.container.get_check("program").failures >= 4)
    health = workload.observe(pebble.container, plan)
    assert [p.message for p in health.problems] == ["program does not answer its health check"]
    assert not health.starting
    assert daemon.lines == ["start"]


@pytest.mark.parametrize("recovers", [True, False])
def test_a_check_that_fails_once_has_a_second_chance(
    pebble: Pebble, daemon: Daemon, recovers: bool
):
    # GIVEN a check that was up, and has failed since, but not often enough to be down
    ready = daemon.folder / "ready"
    ready.touch()
    check = plans.Check(name="program", argv=("test", "-e", str(ready)), period=1, threshold=99)
    plan = dataclasses.replace(daemon.plan(), checks=(check,))
    assert workload.apply(pebble.container, plan, settle=10).ok
    ready.unlink()
    eventually(lambda: pebble.container.get_check("program").failures)
    # WHEN an event comes, and the program answers by the next run of the check, or does not
    if recovers:
        ready.touch()
    found = workload.apply(pebble.container, plan)
    # THEN that decides: no event would tell of it
    assert found.restarted == ()
    assert found.ok is recovers


def test_settle_waits_for_a_quick_starter(pebble: Pebble, daemon: Daemon):
    plan = dataclasses.replace(
        daemon.plan(), checks=(plans.Check(name="program", argv=("true",), period=0.5),)
    )

    assert workload.apply(pebble.container, plan, settle=10).ok


def test_a_killed_service_is_started_by_pebble(pebble: Pebble, daemon: Daemon):
    workload.apply(pebble.container, daemon.plan())
    starts(daemon, 1)
    pid = subprocess.run(
        ["pgrep", "-f", f"{daemon.log}$"], check=True, capture_output=True, text=True
    ).stdout.split()
    for number in pid:
        os.kill(int(number), signal.SIGKILL)

    starts(daemon, 2)


def test_a_program_that_is_not_there_is_a_problem_and_no_exception(pebble: Pebble, daemon):
    service = dataclasses.replace(daemon.service(), argv=("/nonexistent/program",))

    health = workload.apply(pebble.container, plans.Plan(services=(service,)))

    assert [p.message for p in health.problems] == ["workload does not start; see its log"]
    # AND once the plan is right it runs
    assert workload.apply(pebble.container, daemon.plan()).ok


def test_a_container_that_cannot_be_reached_is_a_problem(pebble: Pebble, daemon: Daemon):
    pebble.stop()

    health = workload.apply(pebble.container, daemon.plan())

    assert [p.message for p in health.problems] == ["container workload is not ready"]
    assert workload.read_text(pebble.container, "/etc/hostname") is None
    assert not workload.observe(pebble.container, daemon.plan()).ok


def one_shot(daemon: Daemon, code: str) -> plans.Plan:
    service = plans.Service(
        name="once",
        argv=("python3", "-c", code, str(daemon.log)),
        user_id=os.getuid(),
        group_id=os.getgid(),
        restart_on=(daemon.path("input"),),
        one_shot=True,
    )
    return daemon.plan(daemon.file("input", "1"), service=service)


APPEND = "import sys; open(sys.argv[1], 'a').write('ran\\n')"


@pytest.mark.parametrize(
    "code",
    [APPEND, f"{APPEND}; import time; time.sleep(1.5)"],
    ids=["ends within a second", "takes longer"],
)
def test_a_one_shot_runs_once_for_each_input(pebble: Pebble, daemon: Daemon, code: str):
    plan = one_shot(daemon, code)

    assert workload.apply(pebble.container, plan).ok
    eventually(lambda: daemon.lines == ["ran"])
    eventually(lambda: not pebble.container.get_service("once").is_running())
    assert workload.apply(pebble.container, plan).restarted == ()
    assert daemon.lines == ["ran"]

    other = dataclasses.replace(plan, files=(daemon.file("input", "2"),))
    workload.apply(pebble.container, other)
    eventually(lambda: daemon.lines == ["ran", "ran"])


def test_a_one_shot_that_fails_is_run_again_by_pebble(pebble: Pebble, daemon: Daemon):
    code = (
        "import os, sys, time\n"
        "again = os.path.exists(sys.argv[1])\n"
        "open(sys.argv[1], 'a').write('ran\\n')\n"
        "time.sleep(1.2)\n"
        "sys.exit(0 if again else 1)"
    )

    workload.apply(pebble.container, one_shot(daemon, code))

    eventually(lambda: daemon.lines == ["ran", "ran"])
    eventually(lambda: not pebble.container.get_service("once").is_running())


def test_a_one_shot_that_cannot_start_is_started_by_the_next_hook(pebble: Pebble, daemon: Daemon):
    # GIVEN a one-shot whose program is not there, beside a service
    program = daemon.folder / "program"
    once = one_shot(daemon, "")
    service = dataclasses.replace(once.services[0], argv=(str(program),))
    plan = dataclasses.replace(once, services=(service, daemon.service()))
    assert not workload.apply(pebble.container, plan).ok
    # THEN the service is started all the same
    eventually(lambda: daemon.lines == ["start"])

    # WHEN it can be started, THEN it is, though nothing of the plan has changed
    program.write_text(f"#!/bin/sh\necho ran >> {daemon.log}\n")
    program.chmod(0o755)
    assert workload.apply(pebble.container, plan).restarted == ("once", daemon.service().name)
    eventually(lambda: sorted(daemon.lines) == ["ran", "start", "start"])


class DiedError(Exception):
    """The hook was killed."""


@pytest.mark.parametrize("at", ["push", "add_layer", "restart_services", "send_signal"])
def test_a_hook_that_dies_half_way_is_made_good_by_the_next(
    pebble: Pebble, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, at: str
):
    # GIVEN a service that is restarted by one file and reloaded by another, and a one-shot
    def plan(config: str, users: str, variable: str) -> plans.Plan:
        service = daemon.service(
            restart_on=("config",), reload_on=("users",), environment={"A": variable}
        )
        once = one_shot(daemon, APPEND)
        return plans.Plan(
            services=(*once.services, service),
            directories=once.directories,
            files=(
                daemon.file("config", config),
                daemon.file("users", users),
                daemon.file("input", config),
            ),
        )

    workload.apply(pebble.container, plan("1", "1", "1"))
    eventually(lambda: sorted(daemon.lines) == ["ran", "start"])
    changed = plan("1", "2", "1") if at == "send_signal" else plan("2", "2", "2")

    # WHEN the hook dies at this call, after which nothing else is done
    with monkeypatch.context() as patch:

        def die(*_args: object, **_kwargs: object) -> None:
            raise DiedError

        if at == "push":
            real, calls = ops.Container.push, []

            def die_at_the_third(self: ops.Container, path: str, *args, **kwargs) -> None:
                calls.append(path)
                if path.startswith(str(daemon.folder / "etc")) and len(calls) > 1:
                    raise DiedError
                real(self, path, *args, **kwargs)

            patch.setattr(ops.Container, "push", die_at_the_third)
        else:
            patch.setattr(ops.pebble.Client, at, die)
        with pytest.raises(DiedError):
            workload.apply(pebble.container, changed)

    # THEN the next one does what is left
    assert workload.apply(pebble.container, changed).ok
    if at == "send_signal":
        eventually(lambda: sorted(daemon.lines) == ["ran", "reload", "start"])
    else:
        eventually(lambda: sorted(daemon.lines) == ["ran", "ran", "start", "start"])
    # AND the one after that nothing
    assert workload.apply(pebble.container, changed).restarted == ()


def notify(pebble: Pebble, call: str) -> subprocess.Popen[bytes]:
    """Run the notifying program as in a container: a plain file, without our library."""
    program = pathlib.Path(pebble_notify.__file__)
    code = f"import sys; sys.path.append('.'); import {program.stem} as n; {call}"
    return subprocess.Popen(
        ["python3", "-I", "-c", code],
        cwd=program.parent,
        env={**os.environ, "PEBBLE_SOCKET": str(pebble.socket)},
    )


def test_a_program_can_wake_the_charm(pebble: Pebble):
    assert notify(pebble, "n.notify()").wait(timeout=20) == 0

    (notice,) = pebble.client.get_notices(keys=[pebble_notify.KEY])
    assert notice.type == ops.pebble.NoticeType.CUSTOM


def test_the_notice_comes_when_the_check_is_up(pebble: Pebble, daemon: Daemon):
    # GIVEN a check that fails for now
    ready = daemon.folder / "ready"
    check = plans.Check(name="program", argv=("test", "-e", str(ready)), period=0.3)
    workload.apply(pebble.container, dataclasses.replace(daemon.plan(), checks=(check,)))
    process = notify(pebble, "sys.exit(not n.wait_until_up('program', seconds=20))")
    eventually(lambda: pebble.container.get_check("program").failures)
    assert pebble.client.get_notices(keys=[pebble_notify.KEY]) == []

    # WHEN it succeeds
    ready.touch()

    # THEN the charm is told
    assert process.wait(timeout=20) == 0
    assert len(pebble.client.get_notices(keys=[pebble_notify.KEY])) == 1


def test_the_notice_does_not_come_for_what_a_check_has_found_before(
    pebble: Pebble, daemon: Daemon
):
    # GIVEN a check that is up, of a program that was killed
    ready = daemon.folder / "ready"
    ready.touch()
    check = plans.Check(name="program", argv=("test", "-e", str(ready)), period=2)
    plan = dataclasses.replace(daemon.plan(), checks=(check,))
    assert workload.apply(pebble.container, plan, settle=10).ok
    ready.unlink()

    process = notify(pebble, "sys.exit(not n.wait_until_up('program', anew=True, seconds=20))")

    # THEN the charm is told when it has succeeded again, and not before
    eventually(lambda: pebble.container.get_check("program").failures)
    assert pebble.client.get_notices(keys=[pebble_notify.KEY]) == []
    ready.touch()
    assert process.wait(timeout=20) == 0
    assert len(pebble.client.get_notices(keys=[pebble_notify.KEY])) == 1


def test_a_notice_without_pebble_is_an_os_error(pebble: Pebble):
    pebble.stop()

    process = notify(pebble, "\ntry: n.notify()\nexcept OSError: sys.exit(7)")

    assert process.wait(timeout=20) == 7


def test_layers_of_the_image_do_not_run(pebble: Pebble, daemon: Daemon):
    pebble.client.add_layer(
        "image",
        {
            "services": {
                "builtin": {
                    "override": "replace",
                    "command": "sleep 60",
                    "startup": "enabled",
                }
            }
        },
    )
    pebble.client.start_services(["builtin"])

    health = workload.apply(pebble.container, daemon.plan())

    assert health.ok
    assert not pebble.container.get_service("builtin").is_running()


def test_a_check_that_pebble_has_lost_is_performed_again(pebble: Pebble, daemon: Daemon) -> None:
    # GIVEN a check that is nearly always just being performed
    check = plans.Check(name="main", url="http://127.0.0.1:9/", period=0.001, threshold=1_000_000)
    plan = dataclasses.replace(daemon.plan(), checks=(check,))
    # WHEN it is stopped and started until Pebble takes it for running without performing it
    eventually(lambda: stopped_in_flight(pebble, plan), seconds=60)
    # THEN it is performed again, and Pebble has not crashed over it
    workload.apply(pebble.container, plan)
    assert not lost(pebble)
    before = pebble.container.get_check("main").failures
    eventually(lambda: pebble.container.get_check("main").failures > before)


def stopped_in_flight(pebble: Pebble, plan: plans.Plan) -> bool:
    workload.apply(pebble.container, plan)
    try:
        pebble.client.stop_checks(["main"])
        pebble.client.start_checks(["main"])
        return lost(pebble)
    except (ops.pebble.ConnectionError, http.client.RemoteDisconnected):
        # It was lost already when we stopped it ("change unexpectedly became unready"): that is
        # what crashes Pebble, and what the charm must not do.
        pebble.stop()
        pebble.start()
        return False


def lost(pebble: Pebble) -> bool:
    change = pebble.container.get_check("main").change_id
    return bool(change) and pebble.client.get_change(change).ready
