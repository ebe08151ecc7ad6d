"""What a charm sees on onebox is what it would see on Juju: a test for each rule that needs pods.

The probe charm journals every dispatch. Rules that need none are in `tests/onebox`; the table in
`docs/reference/onebox.md` names the test of each.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
import subprocess
import time
import typing
import zipfile
from collections.abc import Iterator

import pytest

from tests.functional import box as boxes


@pytest.fixture(scope="module")
def charm(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return boxes.zipped("probe", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def box(charm: pathlib.Path) -> Iterator[boxes.Box]:
    """Two related applications: ``a`` with two units gives, ``b`` takes."""
    with boxes.new() as made:
        made.deploy(charm, "a", units=2)
        made.deploy(charm, "b")
        made.call("integrate", a="a:giver", b="b:taker")
        made.settle()
        yield made


def leader(box: boxes.Box, application: str) -> str:
    units = box.call("status")["applications"][application]["units"]
    return next(name for name, unit in units.items() if unit.get("leader"))


def follower(box: boxes.Box, application: str) -> str:
    units = box.call("status")["applications"][application]["units"]
    return next(name for name, unit in units.items() if not unit.get("leader"))


def running(box: boxes.Box, unit: str, hook: str) -> None:
    """Wait until a hook of the unit has begun: the probe journals it before anything else."""
    path = box.home.model(box.model) / unit.replace("/", "-") / "hook.pid"
    wanted = f"running {hook} hook"
    box.until(
        wanted,
        lambda: box.unit(unit)["juju-status"].get("message") == wanted and path.exists(),
    )


class TestStart:
    def test_the_order_of_a_start(self, box: boxes.Box) -> None:
        ran = [hook.split()[0] for hook in box.hooks(leader(box, "a"))]
        fixed = [
            "install",
            "replicas-relation-created",
            "leader-elected",
            "config-changed",
            "start",
        ]
        assert [hook for hook in ran if hook in fixed] == fixed
        assert ran.index("giver-relation-created") < ran.index("giver-relation-joined")
        assert ran.index("start") < ran.index("data-storage-attached")
        assert ran.count("work-pebble-ready") == 1

    def test_a_unit_runs_one_hook_at_a_time(self, box: boxes.Box) -> None:
        spans = box.spans("a/0")
        assert len(spans) > 5
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))

    def test_the_variables_of_a_dispatch(self, box: boxes.Box) -> None:
        lines = {line["JUJU_DISPATCH_PATH"]: line for line in box.journal("b/0")}
        install = lines["hooks/install"]
        assert install["JUJU_HOOK_NAME"] == "install"
        assert install["JUJU_UNIT_NAME"] == "b/0"
        assert install["JUJU_MODEL_NAME"] == "m"
        assert install["JUJU_CHARM_DIR"].endswith("unit-b-0/charm")
        joined = lines["hooks/taker-relation-joined"]
        assert joined["JUJU_RELATION"] == "taker"
        assert joined["JUJU_REMOTE_APP"] == "a"
        assert joined["JUJU_REMOTE_UNIT"].startswith("a/")
        assert lines["hooks/taker-relation-created"]["JUJU_REMOTE_UNIT"] == ""
        assert lines["hooks/work-pebble-ready"]["JUJU_WORKLOAD_NAME"] == "work"
        assert lines["hooks/data-storage-attached"]["JUJU_STORAGE_ID"].startswith("data/")
        assert "OPERATOR_DISPATCH" not in install

    def test_juju_s_own_keys_are_in_the_unit_s_databag(self, box: boxes.Box) -> None:
        bag = box.bag("b/0", "taker")
        assert bag["ingress-address"] == box.unit("b/0")["address"]


class TestMistakes:
    """A charm that does what Juju forbids ends as it would there."""

    def test_a_crash_takes_back_what_the_hook_wrote_and_is_retried(self, box: boxes.Box) -> None:
        unit, since = leader(box, "a"), box.mark()
        secrets = set(box.call("secrets"))
        box.call("config_set", application="a", values={"misbehave": "config-changed:raise"})
        box.until("in error", lambda: box.unit(unit)["workload-status"]["current"] == "error")
        shown = box.unit(unit)
        assert shown["workload-status"]["message"] == 'hook failed: "config-changed"'
        assert "written" not in box.bag(unit, "replicas")
        assert set(box.call("secrets")) == secrets
        assert "9999/tcp" not in shown.get("open-ports", [])
        # Actions still run, and nothing else does before the hook has succeeded.
        done = act(box, unit, text="still there")
        assert done["results"]["text"] == "still there"
        box.until("retried", lambda: box.failures(since).count(f"{unit} config-changed") > 1)
        box.call("config_set", application="a", values={"misbehave": ""})
        box.settle()
        assert box.unit(unit)["workload-status"]["current"] == "active"

    def test_a_hook_in_error_can_be_skipped(self, box: boxes.Box) -> None:
        box.call("model_config", values={"automatically-retry-hooks": "false"})
        box.call("config_set", application="b", values={"misbehave": "config-changed:raise"})
        box.until("in error", lambda: box.unit("b/0")["workload-status"]["current"] == "error")
        box.call("config_set", application="b", values={"misbehave": ""})
        time.sleep(1)
        assert box.unit("b/0")["workload-status"]["current"] == "error"
        box.call("resolved", unit="b/0", no_retry=True)
        box.call("model_config", reset=["automatically-retry-hooks"])
        box.settle()
        assert box.unit("b/0")["workload-status"]["current"] == "active"
        assert "is not in an error state" in box.refused("resolved", unit="b/0")

    def test_a_follower_that_writes_for_the_application_fails(self, box: boxes.Box) -> None:
        since = box.mark()
        unit = follower(box, "a")
        box.call("config_set", application="a", values={"misbehave": "config-changed:write-app"})
        box.until("failed", lambda: f"{unit} config-changed" in box.failures(since))
        assert f"{leader(box, 'a')} config-changed" not in box.failures(since)
        box.call("config_set", application="a", values={"misbehave": ""})
        box.settle()

    def test_a_crash_in_install_keeps_all_else_from_coming(
        self, box: boxes.Box, charm: pathlib.Path
    ) -> None:
        since = box.mark()
        box.deploy(charm, "c", config={"misbehave": "install:raise"})
        box.until("retried", lambda: box.failures(since).count("c/0 install") > 1)
        shown = box.unit("c/0")["workload-status"]
        assert (shown["current"], shown["message"]) == ("error", 'hook failed: "install"')
        assert box.hooks("c/0", since) == []
        box.call("config_set", application="c", values={"misbehave": ""})
        box.call("resolved", unit="c/0")
        box.settle()
        assert box.hooks("c/0", since)[0] == "install"
        box.call("remove_application", application="c", destroy_storage=True)
        box.until("gone", lambda: "c" not in box.call("status")["applications"])

    def test_a_status_set_before_a_crash_stays_when_the_hook_is_skipped(
        self, box: boxes.Box
    ) -> None:
        box.call("model_config", values={"automatically-retry-hooks": "false"})
        box.call("config_set", application="b", values={"misbehave": "config-changed:raise"})
        box.until("in error", lambda: box.unit("b/0")["workload-status"]["current"] == "error")
        box.call("resolved", unit="b/0", no_retry=True)
        box.settle()
        shown = box.unit("b/0")["workload-status"]
        assert (shown["current"], shown["message"]) == ("maintenance", "set before the crash")
        box.call("model_config", reset=["automatically-retry-hooks"])
        box.call("config_set", application="b", values={"misbehave": ""})
        box.settle()
        assert box.unit("b/0")["workload-status"]["current"] == "active"

    def test_what_is_deferred_waits_for_the_next_event_and_is_lost_with_the_pod(
        self, box: boxes.Box, tmp_path: pathlib.Path
    ) -> None:
        def deferred() -> list[str]:
            return box.run("d/0", "cat", "/var/lib/juju/storage/deferred").splitlines()

        box.deploy(boxes.pack(boxes.DATA / "deferring", tmp_path), "d")
        box.settle()
        since = box.mark()
        box.call("config_set", application="d", values={"defer": "true"})
        box.settle()
        assert box.hooks("d/0", since) == ["config-changed"]
        assert deferred() == ["hooks/config-changed"]
        box.call("run", unit="d/0", action="look", params={})
        box.settle()
        assert deferred() == ["hooks/config-changed", "actions/look"]
        box.call("fault", kind="kill-pods", unit="d/0")
        box.until("a new pod", lambda: "start" in box.hooks("d/0", since))
        box.settle()
        # The notes are the new pod's: its first hook was upgrade-charm, with nothing to do.
        assert deferred()[0] == "hooks/config-changed"
        box.call("remove_application", application="d")
        box.until("gone", lambda: "d" not in box.call("status")["applications"])

    def test_a_hook_that_is_killed_is_run_again(self, box: boxes.Box) -> None:
        since = box.mark()
        box.call("config_set", application="b", values={"misbehave": "config-changed:slow"})
        running(box, "b/0", "config-changed")
        box.call("fault", kind="kill-hook", unit="b/0")
        box.until("seen", lambda: box.failures(since) == ["b/0 config-changed"])
        box.settle()
        assert "config-changed" in box.hooks("b/0", since)
        box.call("config_set", application="b", values={"misbehave": ""})
        box.settle()


def act(box: boxes.Box, unit: str, **params: object) -> dict[str, typing.Any]:
    operation = box.call("run", unit=unit, action="answer", params=params)

    def ended() -> bool:
        shown = box.call("operation", operation=operation)
        return shown["status"] in {"completed", "failed"}

    box.until("the action ended", ended)
    return box.call("operation", operation=operation)


class TestActions:
    def test_results_nest_and_lines_are_logged(self, box: boxes.Box) -> None:
        done = act(box, "b/0", text="hello")
        assert done["status"] == "completed"
        assert done["results"] == {"return-code": 0, "text": "hello", "nested": {"leader": "yes"}}
        assert str(done["log"]).count("working on it") == 1

    def test_one_that_fails_keeps_its_results_and_says_why(self, box: boxes.Box) -> None:
        done = act(box, "b/0", text="hello", fail=True)
        assert (done["status"], done["message"]) == ("failed", "told to fail")
        assert done["results"]["text"] == "hello"

    def test_one_that_crashes_fails_and_leaves_the_unit_alone(self, box: boxes.Box) -> None:
        done = act(box, "b/0", text="hello", crash=True)
        assert done["status"] == "failed"
        assert "told to crash" in done["results"]["stderr"]
        assert box.unit("b/0")["workload-status"]["current"] == "active"

    def test_one_that_runs_is_aborted_and_one_that_waits_never_begins(
        self, box: boxes.Box
    ) -> None:
        since = box.mark()
        first, second = (
            box.call("run", unit="b/0", action="answer", params={"text": "x", "wait": 1000})
            for _ in range(2)
        )
        box.until("running", lambda: bool(box.call("operation", operation=first).get("log")))
        waiting = box.call("cancel", operation=second)
        assert (waiting["status"], "results" in waiting) == ("cancelled", False)
        assert box.call("cancel", operation=first)["status"] == "aborted"
        assert act(box, "b/0", text="next")["results"]["text"] == "next"
        assert box.failures(since) == ["b/0 answer"]
        assert box.hooks("b/0", since) == ["answer"]
        # One that has ended stays as it is, as in Juju.
        assert box.call("cancel", operation=second)["status"] == "cancelled"
        assert box.unit("b/0")["workload-status"]["current"] == "active"

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"text": "x", "more": "y"}, 'additional property "more" is not allowed'),
            ({}, '"text" property is missing and required'),
        ],
    )
    def test_parameters_are_checked(
        self, box: boxes.Box, params: dict[str, str], words: str
    ) -> None:
        assert words in box.refused("run", unit="b/0", action="answer", params=params)


class TestPebble:
    def test_a_custom_notice_becomes_an_event(self, box: boxes.Box) -> None:
        since = box.mark()
        box.inside("b/0", "work", "/charm/bin/pebble", "notify", "example.com/news")
        box.until("noticed", lambda: "work-pebble-custom-notice" in box.hooks("b/0", since))
        line = next(x for x in reversed(box.journal("b/0")) if "JUJU_NOTICE_KEY" in x)
        assert line["JUJU_NOTICE_KEY"] == "example.com/news"
        assert line["JUJU_NOTICE_TYPE"] == "custom"

    def test_a_check_that_fails_and_recovers_becomes_two_events(self, box: boxes.Box) -> None:
        since = box.mark()
        layer = (
            "checks:\n  up:\n    override: replace\n    period: 200ms\n    timeout: 100ms\n"
            "    threshold: 1\n    exec:\n      command: test -e /tmp/up\n"
        )
        path = pathlib.Path("/tmp/layer.yaml")
        write = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
        box.inside("b/0", "work", "python3", "-c", write, str(path), layer)
        box.inside("b/0", "work", "/charm/bin/pebble", "add", "probe", str(path))
        box.inside("b/0", "work", "/charm/bin/pebble", "replan")
        box.until("failed", lambda: "work-pebble-check-failed" in box.hooks("b/0", since))
        box.inside("b/0", "work", "touch", "/tmp/up")
        box.until("recovered", lambda: "work-pebble-check-recovered" in box.hooks("b/0", since))
        names = {line.get("JUJU_PEBBLE_CHECK_NAME") for line in box.journal("b/0")}
        assert "up" in names
        box.inside("b/0", "work", "/charm/bin/pebble", "stop-checks", "up")

    def test_a_container_that_restarts_is_a_new_boot_with_fresh_files(
        self, box: boxes.Box
    ) -> None:
        since = box.mark()
        box.inside("b/0", "work", "touch", "/left-behind", "/data/kept")
        box.call("fault", kind="kill-container", unit="b/0", container="work")
        box.until("ready again", lambda: "work-pebble-ready" in box.hooks("b/0", since))
        box.settle()
        assert "left-behind" not in box.inside("b/0", "work", "ls", "/")
        assert "kept" in box.inside("b/0", "work", "ls", "/data")
        assert "upgrade-charm" not in box.hooks("b/0", since)


class TestSecrets:
    def test_a_grant_opens_a_new_revision_is_told_and_the_old_one_removed(
        self, box: boxes.Box
    ) -> None:
        unit, since = leader(box, "a"), box.mark()
        relation = box.run(unit, "relation-ids", "giver").strip().removeprefix("- ")
        uri = box.run(unit, "secret-add", "--label", "given", "key=one").strip()
        done = box.call("exec", unit="b/0", argv=["secret-get", uri], timeout=10)
        assert "permission denied" in done["stderr"]
        box.run(unit, "secret-grant", "--relation", relation.split(":")[1], uri)
        assert "one" in box.run("b/0", "secret-get", uri, "--label", "taken")
        box.run(unit, "secret-set", uri, "key=two")
        box.settle()
        assert "secret-changed" in box.hooks("b/0", since)
        changed = [x for x in box.journal("b/0") if x["JUJU_HOOK_NAME"] == "secret-changed"]
        assert changed[-1]["JUJU_SECRET_LABEL"] == "taken"
        assert "one" in box.run("b/0", "secret-get", "--label", "taken")
        assert "two" in box.run("b/0", "secret-get", "--label", "taken", "--refresh")
        box.settle()
        assert "secret-remove" in box.hooks(unit, since)

    def test_a_user_s_secret_reaches_the_charm_it_is_granted_to(self, box: boxes.Box) -> None:
        since = box.mark()
        uri = box.call("add_secret", name="mine", content={"key": "value"})
        box.call("config_set", application="b", values={"key": uri})
        box.settle()
        done = box.call("exec", unit="b/0", argv=["secret-get", uri], timeout=10)
        assert "permission denied" in done["stderr"]
        box.call("grant_secret", secret="mine", applications=["b"])
        assert "value" in box.run("b/0", "secret-get", uri)
        box.call("update_secret", secret="mine", content={"key": "other"})
        box.settle()
        assert box.hooks("b/0", since)[-1] == "secret-changed"
        box.call("config_set", application="b", reset=["key"])
        box.call("remove_secret", secret="mine")
        box.settle()


class TestLeadership:
    def test_it_moves_between_hooks_and_the_new_leader_is_told(self, box: boxes.Box) -> None:
        old, since = leader(box, "a"), box.mark()
        new = box.call("fault", kind="lose-leadership", application="a")
        box.settle()
        assert new != old
        assert leader(box, "a") == new
        assert box.hooks(new, since) == ["leader-elected"]
        done = box.call("exec", unit=old, argv=["secret-add", "key=value"], timeout=10)
        assert "this unit is not the leader" in done["stderr"]


class TestFaults:
    """What breaks is whole again by itself; killed hooks and daemons have tests of their own."""

    SLEEPER = (
        "services:\n  sleeper:\n    override: replace\n    startup: enabled\n"
        "    command: sleep 1000\n    backoff-delay: 100ms\n"
    )

    @pytest.fixture
    def sleeper(self, box: boxes.Box) -> str:
        write = "import sys; open('/tmp/layer.yaml', 'w').write(sys.argv[1])"
        box.inside("b/0", "work", "python3", "-c", write, self.SLEEPER)
        box.inside(
            "b/0", "work", "/charm/bin/pebble", "add", "--combine", "sleeper", "/tmp/layer.yaml"
        )
        box.inside("b/0", "work", "/charm/bin/pebble", "replan")
        return self.process(box)

    def process(self, box: boxes.Box) -> str:
        """Return the sleeper's process id and state; empty while it does not run."""
        script = (
            "import pathlib\nfor p in pathlib.Path('/proc').glob('[0-9]*'):\n"
            "  try: s = (p / 'stat').read_text()\n  except OSError: continue\n"
            "  if '(sleep)' in s: print(p.name, s.split(') ')[1][0])"
        )
        return box.inside("b/0", "work", "python3", "-c", script).strip()

    def test_a_killed_workload_is_started_again_by_pebble(
        self, box: boxes.Box, sleeper: str
    ) -> None:
        assert box.call("fault", kind="kill-workload", unit="b/0", container="work") >= 1
        box.until("another one runs", lambda: self.process(box) not in {"", sleeper})

    def test_a_frozen_workload_goes_on(self, box: boxes.Box, sleeper: str) -> None:
        box.call("fault", kind="freeze", unit="b/0", container="work", seconds=1)
        number = sleeper.split()[0]
        box.until("frozen", lambda: self.process(box) == f"{number} T")
        box.until("thawed", lambda: self.process(box) == f"{number} S")

    def test_a_unit_that_is_cut_from_another_reaches_it_again(self, box: boxes.Box) -> None:
        script = "import socket, sys; socket.create_connection((sys.argv[1], 1), 2)"

        def answer() -> str:
            found = box.call("enter", unit="b/0", container=None)
            argv = [*found["argv"], "python3", "-c", script, box.unit("a/0")["address"]]
            done = subprocess.run(
                argv, env=found["env"], capture_output=True, text=True, check=False
            )
            return done.stderr.strip().splitlines()[-1]

        assert "ConnectionRefusedError" in answer()
        box.call("fault", kind="cut", unit="b/0", other="a/0", seconds=2)
        assert "ConnectionRefusedError" not in answer()
        box.until("mended", lambda: "ConnectionRefusedError" in answer())

    def test_all_pods_of_the_model_killed_at_once_come_back(self, box: boxes.Box) -> None:
        since = box.mark()
        box.inside("b/0", "work", "touch", "/data/outlives-the-pod")
        assert box.call("fault", kind="kill-pods") == 6
        box.until("seen", lambda: len(box.hooks(since=since)) > 0)
        box.settle()
        for unit in ("a/0", "a/1", "b/0"):
            assert box.unit(unit)["workload-status"]["current"] == "active"
            ran = box.hooks(unit, since)
            assert ran[:3] == ["upgrade-charm", "config-changed", "start"]
            assert "install" not in ran
        assert "outlives-the-pod" in box.inside("b/0", "work", "ls", "/data")

    def test_one_that_is_not_there_is_named(self, box: boxes.Box) -> None:
        assert "there are: cut, fill, freeze" in box.refused("fault", kind="meteor")
        assert "no parameter 'unit'" in box.refused("fault", kind="cut", other="a/0")


@pytest.fixture(scope="class")
def volume(box: boxes.Box, charm: pathlib.Path) -> Iterator[str]:
    """A unit whose storage has a size that was asked for."""
    box.deploy(charm, "c", storage={"data": "16M"})
    box.settle()
    yield "c/0"
    box.call("remove_application", application="c", destroy_storage=True)
    box.until("c is gone", lambda: "c" not in box.call("status")["applications"])
    # THEN nothing is left of the volume
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    assert str(box.home.path) not in mounts
    assert list(box.home.model(box.model).glob("storage/*.img")) == []


class TestVolume:
    def write(self, box: boxes.Box, volume: str) -> str:
        """Write a mebibyte into the storage and remove it; return what went wrong."""
        script = "dd if=/dev/zero of=/data/new bs=1M count=1 && rm /data/new"
        try:
            box.inside(volume, "work", "sh", "-c", script)
        except boxes.CommandError as error:
            return str(error)
        return ""

    def test_it_has_this_size_and_is_empty(self, box: boxes.Box, volume: str) -> None:
        size = box.inside(volume, "work", "df", "--output=size", "--block-size=1M", "/data")
        assert 12 <= int(size.split()[-1]) <= 16
        assert box.inside(volume, "work", "ls", "-A", "/data") == ""

    def test_a_full_one_has_space_again(self, box: boxes.Box, volume: str) -> None:
        assert box.call("fault", kind="fill", unit=volume, seconds=2) == 1
        assert "No space left on device" in self.write(box, volume)
        box.until("there is space", lambda: self.write(box, volume) == "")

    def test_a_killed_daemon_gives_the_space_back(self, box: boxes.Box, volume: str) -> None:
        box.call("fault", kind="fill", unit=volume, seconds=3600)
        assert "No space left on device" in self.write(box, volume)
        box.kill_daemon()
        box.start_daemon()
        box.until("there is space", lambda: self.write(box, volume) == "")

    def test_it_comes_back_when_the_machine_does(self, box: boxes.Box, volume: str) -> None:
        # GIVEN data in it
        box.inside(volume, "work", "touch", "/data/kept")
        since = box.mark()
        # WHEN mount and pod are gone, as after a restart of the machine
        [image] = box.home.model(box.model).glob("storage/*.img")
        subprocess.run(["umount", "--lazy", image.with_suffix("")], check=True)
        box.call("fault", kind="kill-pods", unit=volume)
        box.until("it started again", lambda: "start" in box.hooks(volume, since))
        box.settle()
        # THEN they are there again
        assert image.with_suffix("").is_mount()
        assert "kept" in box.inside(volume, "work", "ls", "/data")

    def test_a_plain_directory_cannot_be_full(self, box: boxes.Box) -> None:
        assert "b/0 has no volume" in box.refused("fault", kind="fill", unit="b/0")


class TestDaemon:
    def test_what_it_knew_survives_a_kill(self, box: boxes.Box) -> None:
        before, since = box.call("status")["applications"], box.mark()
        box.kill_daemon()
        box.start_daemon()
        box.settle()
        assert box.call("status")["applications"] == before
        assert box.hooks(since=since) == []

    def test_a_hook_that_ran_when_it_was_killed_runs_again(self, box: boxes.Box) -> None:
        since = box.mark()
        box.call("config_set", application="b", values={"misbehave": "config-changed:slow"})
        running(box, "b/0", "config-changed")
        box.kill_daemon()
        box.start_daemon()
        box.settle()
        assert box.hooks("b/0", since) == ["config-changed"]
        box.call("config_set", application="b", values={"misbehave": ""})
        box.settle()

    def test_an_action_that_ran_when_it_was_killed_has_failed(self, box: boxes.Box) -> None:
        since = box.mark()
        operation = box.call(
            "run", unit="b/0", action="answer", params={"text": "x", "wait": 1000}
        )
        box.until("running", lambda: bool(box.call("operation", operation=operation).get("log")))
        box.kill_daemon()
        box.start_daemon()
        box.settle()
        done = box.call("operation", operation=operation)
        assert (done["status"], done["message"]) == ("failed", "action terminated")
        assert box.hooks("b/0", since) == []


class TestEnds:
    """The last tests of the module: they take the model apart."""

    def test_refresh_replaces_pods_one_by_one_and_loses_the_charm_s_state(
        self, box: boxes.Box, charm: pathlib.Path, tmp_path: pathlib.Path
    ) -> None:
        since = box.mark()
        newer = tmp_path / "probe.charm"
        shutil.copy(charm, newer)
        with zipfile.ZipFile(newer, "a") as archive:
            archive.writestr("newer", "")
        box.call("refresh", application="a", path=str(newer))
        box.settle()
        stops = [hook for hook in box.hooks(since=since) if hook.endswith(" stop")]
        assert stops == ["a/1 stop", "a/0 stop"]
        own = [hook.split()[0] for hook in box.hooks("a/0", since)]
        assert own[:4] == ["stop", "upgrade-charm", "config-changed", "start"]
        assert "work-pebble-ready" in own
        assert "install" not in own
        assert box.call("status")["applications"]["a"]["charm-rev"] == 1

    def test_scaling_to_zero_and_back_keeps_storage(self, box: boxes.Box) -> None:
        box.inside("b/0", "work", "touch", "/data/kept-at-zero")
        box.call("scale", application="b", scale=0)
        box.until("gone", lambda: not box.call("status")["applications"]["b"].get("units"))
        box.call("scale", application="b", scale=1)
        box.settle()
        assert "kept-at-zero" in box.inside("b/0", "work", "ls", "/data")

    def test_a_removed_relation_departs_breaks_and_is_closed(self, box: boxes.Box) -> None:
        since = box.mark()
        box.call("remove_relation", a="a:giver", b="b:taker")
        box.settle()
        ran = box.hooks("b/0", since)
        assert ran[-1] == "taker-relation-broken a"
        assert sorted(ran[:-1]) == ["taker-relation-departed a/0", "taker-relation-departed a/1"]
        assert box.run("b/0", "relation-ids", "taker").strip() in {"", "[]"}

    def test_a_removed_application_leaves_nothing(self, box: boxes.Box) -> None:
        for name in ("a", "b"):
            box.call("remove_application", application=name, destroy_storage=True)
        box.until("gone", lambda: not box.call("status")["applications"], timeout=60)
        left = json.loads((box.home.state).read_text())["models"]["m"]
        assert left["secrets"] == {}
        assert left["relations"] == {}
        assert left["storage"] == {}
        assert not [path for path in box.home.model("m").iterdir() if path.is_dir()
                    and path.name != "storage"]  # fmt: skip
