"""Pods on the real Podman (root)."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from onebox import pods, setup
from tests.functional import names

_Answer = typing.TypeVar("_Answer")

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
ASK = """
import socket, sys, time
began = time.monotonic()
socket.gethostbyname(sys.argv[1])
print(time.monotonic() - began)
"""
SERVE = ["python3", "-m", "http.server", "--directory", "/srv", "8000"]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket of a Pebble."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__("pebble")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def eventually(question: Callable[[], _Answer], seconds: float = 10) -> _Answer:
    """Ask until the answer is true and no socket is in the way."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            if answer := question():
                return answer
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.05)


def get(connection: http.client.HTTPConnection, path: str) -> str:
    with contextlib.closing(connection):
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.read().decode()


def boot_id(podman: pods.Podman, pod: str, container: str) -> str:
    def ask() -> str:
        answer = get(UnixConnection(podman.socket(pod, container)), "/v1/system-info")
        return json.loads(answer)["result"]["boot-id"]

    return eventually(ask)


def run(
    podman: pods.Podman, pod: pods.Pod, container: str | None, *argv: str, cwd: str = "/"
) -> str:
    command = podman.enter(pod.name, container, argv, ENV, cwd)
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fetch(host: str, port: int) -> str:
    def ask() -> str:
        return get(http.client.HTTPConnection(host, port, timeout=2), "/name")

    return eventually(ask)


@contextlib.contextmanager
def serving(podman: pods.Podman, pod: pods.Pod, container: str, text: str) -> Iterator[None]:
    """Serve a text at :8000/name from inside a container."""
    run(podman, pod, container, "python3", "-c", f"open('/srv/name', 'w').write({text!r})")
    process = subprocess.Popen(
        podman.enter(pod.name, container, SERVE, ENV, "/"),
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def podman_pids(pod: pods.Pod, prefix: str) -> list[int]:
    """Return every process that Podman knows of a pod: the monitors, and each process 1."""
    text = pods.podman(
        "ps", "--all", "--filter", f"pod={prefix}.{pod.name}", "--format", "{{.Names}}"
    )
    numbers = pods.podman(
        "inspect", "--format", "{{.State.Pid}} {{.State.ConmonPid}}", *text.split()
    )
    return [int(number) for number in numbers.split()]


def kill(pids: Iterable[int | None]) -> None:
    """Kill processes, and wait until they are gone.

    One whose command line is gone may still hold its files; a descriptor of a process is readable
    only once it has let go of all.
    """
    with contextlib.ExitStack() as stack:
        ends: list[int] = []
        for pid in pids:
            assert pid is not None
            ends.append(os.pidfd_open(pid))
            stack.callback(os.close, ends[-1])
        for end in ends:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, signal.SIGKILL)
        for end in ends:
            assert select.select([end], [], [], 20)[0], "a killed process is still there"


def runs(pid: int | None) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text() != ""
    except OSError:
        return False


def left_behind(prefix: str) -> list[str]:
    """Return what there still is of a onebox."""
    listed = [
        pods.podman("pod", "ps", "--filter", f"name={prefix}", "--format", "{{.Name}}"),
        pods.podman("ps", "--all", "--filter", f"name={prefix}", "--format", "{{.Names}}"),
        pods.podman("network", "ls", "--filter", f"name={prefix}", "--format", "{{.Name}}"),
    ]
    commands = [command for command in command_lines() if prefix in command]
    directories = [str(path) for path in pathlib.Path("/run").glob(f"{prefix}*")]
    return [*"\n".join(listed).split(), *commands, *directories]


def command_lines() -> Iterator[str]:
    """The command line of every process that does not end meanwhile."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_text()


def network_namespace(pod: pods.Pod, prefix: str) -> pathlib.Path:
    """Return where Podman keeps the network namespace of a pod."""
    sandbox = f"{prefix}.{pod.name}.sandbox"
    path = pods.podman("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", sandbox)
    return pathlib.Path(path.strip())


@pytest.fixture(scope="module")
def image() -> str:
    setup.ensure_go_program("pebble")
    return setup.ensure_image("base")


@pytest.fixture
def onebox(tmp_path: pathlib.Path) -> Iterator[Callable[..., tuple[str, pods.Podman]]]:
    """Make oneboxes with names of their own, and remove them afterwards."""
    made: list[pods.Podman] = []

    def make(subnet: str | None = None) -> tuple[str, pods.Podman]:
        prefix = f"onebox-{names.fresh()}"
        podman = pods.Podman(prefix, subnet, tmp_path / prefix)
        made.append(podman)
        return prefix, podman

    yield make
    for podman in made:
        podman.destroy()


@pytest.fixture
def podman(onebox: Callable[..., tuple[str, pods.Podman]]) -> pods.Podman:
    _, podman = onebox()
    podman.ensure_network()
    return podman


def make_pod(image: str, app: str = "shop", containers: Sequence[str] = ("web",)) -> pods.Pod:
    endpoints = f"{app}-0.{app}-endpoints"
    return pods.Pod(
        name=f"m.{app}-0",
        aliases=(
            app,
            f"{app}.m",
            f"{app}.m.svc",
            f"{app}.m.svc.cluster.local",
            endpoints,
            f"{endpoints}.m.svc.cluster.local",
        ),
        containers=tuple(pods.Container(name, image) for name in containers),
        charm_image=image,
    )


def test_containers_share_the_network_and_nothing_else(podman: pods.Podman, image: str) -> None:
    # GIVEN a pod with two workload containers
    pod = make_pod(image, containers=("web", "store"))
    podman.ensure(pod)

    # THEN Pebble is process 1 in each (as soon as runc has become it), and each has another
    for container in (None, "web", "store"):
        eventually(
            lambda container=container: re.match(
                r"/charm/bin/pebble\0run\0", run(podman, pod, container, "cat", "/proc/1/cmdline")
            )
        )
    assert boot_id(podman, pod.name, "web") != boot_id(podman, pod.name, "store")

    # AND what one writes the others do not see, but they reach its port on the loopback
    with serving(podman, pod, "web", "web"):
        assert fetch(podman.address(pod.name), 8000) == "web"
        reader = (
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/name').read())"
        )
        assert run(podman, pod, "store", "python3", "-c", reader) == "b'web'"
        assert run(podman, pod, "store", "ls", "/srv") == ""

    # AND the charm reaches each Pebble where ops looks for it, which no workload can replace
    for container in ("web", "store"):
        connect = (
            "import socket; socket.socket(socket.AF_UNIX)"
            f".connect('/charm/containers/{container}/pebble.socket')"
        )
        run(podman, pod, None, "python3", "-c", connect)
    assert run(podman, pod, "web", "sh", "-c", "touch /charm/bin/pebble 2>&1 || true")


def test_a_program_gets_exactly_its_environment_and_directory(
    podman: pods.Podman, image: str
) -> None:
    pod = make_pod(image)
    podman.ensure(pod)

    assert run(podman, pod, "web", "env") == "PATH=/usr/local/bin:/usr/bin:/bin"
    assert run(podman, pod, None, "pwd", cwd="/charm/containers") == "/charm/containers"
    with pytest.raises(ValueError, match="no PATH"):
        podman.enter(pod.name, "web", ["env"], {}, "/")


def test_every_name_of_a_pod_leads_to_it_from_another(podman: pods.Podman, image: str) -> None:
    shop, client = make_pod(image, "shop"), make_pod(image, "client")
    podman.ensure(shop)
    podman.ensure(client)

    lookups = "import socket, sys; print(*[socket.gethostbyname(name) for name in sys.argv[1:]])"
    answers = run(podman, client, None, "python3", "-c", lookups, *shop.aliases)

    assert set(answers.split()) == {podman.address(shop.name)}
    fqdn = run(podman, shop, None, "python3", "-c", "import socket; print(socket.getfqdn())")
    assert fqdn == "shop-0.shop-endpoints.m.svc.cluster.local"


def test_a_name_of_two_pods_leads_to_both(podman: pods.Podman, image: str) -> None:
    first = make_pod(image)
    second = dataclasses.replace(first, name="m.shop-1", aliases=("shop",))
    podman.ensure(first)
    podman.ensure(second)

    found = run(podman, first, "web", "getent", "ahostsv4", "shop")

    addresses = {line.split()[0] for line in found.splitlines()}
    assert addresses == {podman.address(first.name), podman.address(second.name)}


def test_a_pod_finds_names_when_others_have_gone(podman: pods.Podman, image: str) -> None:
    # GIVEN a pod that has learned where the network's bridge is
    pod, *others = [make_pod(image, name) for name in ("shop", "one", "two", "three", "four")]
    for other in others:
        podman.ensure(other)
    podman.ensure(pod)
    assert run(podman, pod, None, "python3", "-c", ASK, pod.aliases[3])
    # WHEN there are fewer pods THEN it still knows (by chance it does one time in five)
    for other in others:
        podman.remove(other.name)
    seconds = float(run(podman, pod, None, "python3", "-c", ASK, pod.aliases[3]))
    assert seconds < 4, "an answer was lost; the resolver asks again after 5 seconds"


def test_a_published_port_answers_on_the_loopback_only(podman: pods.Podman, image: str) -> None:
    port = free_port()
    pod = dataclasses.replace(make_pod(image), publish=((port, 8000),))
    podman.ensure(pod)

    with serving(podman, pod, "web", "published"):
        assert fetch("127.0.0.1", port) == "published"
        own_address = socket.gethostbyname(socket.gethostname())
        if not own_address.startswith("127."):
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((own_address, port), timeout=1)


def test_a_port_in_use_is_named_and_nothing_stays(podman: pods.Podman, image: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        pod = dataclasses.replace(make_pod(image), publish=((port, 8000),))

        with pytest.raises(pods.PodmanError, match=rf"127\.0\.0\.1:{port} is in use"):
            podman.ensure(pod)

    assert podman.pods() == []
    podman.ensure(pod)
    assert podman.pods() == [pod.name]


def test_a_missing_image_is_named_and_nothing_stays(podman: pods.Podman, image: str) -> None:
    pod = dataclasses.replace(
        make_pod(image), containers=(pods.Container("web", "localhost/onebox/nothing:here"),)
    )

    with pytest.raises(pods.PodmanError, match="localhost/onebox/nothing:here"):
        podman.ensure(pod)

    assert podman.pods() == []


def test_a_restarted_container_is_new_and_the_pod_is_not(
    podman: pods.Podman, image: str, tmp_path: pathlib.Path
) -> None:
    # GIVEN a container that has written to its files, its volumes and its storage
    storage = tmp_path / "storage"
    storage.mkdir()
    container = pods.Container("web", image, mounts=((str(storage), "/var/lib/shop"),))
    pod = dataclasses.replace(make_pod(image), containers=(container,))
    podman.ensure(pod)
    booted, address = boot_id(podman, pod.name, "web"), podman.address(pod.name)
    charm = podman.init_pid(pod.name, None)
    for path in ("/srv/own", "/charm/container/volume", "/var/lib/shop/stored"):
        run(podman, pod, "web", "touch", path)

    # WHEN it is restarted
    podman.restart_container(pod.name, "web")

    # THEN its files are its image's, the rest of the pod is as it was, and Pebble tells
    assert boot_id(podman, pod.name, "web") != booted
    assert run(podman, pod, "web", "ls", "/srv") == ""
    assert run(podman, pod, None, "ls", "/charm/containers/web/volume")
    assert (storage / "stored").exists()
    assert podman.address(pod.name) == address
    assert podman.init_pid(pod.name, None) == charm


def test_ensure_leaves_alone_what_runs_and_replaces_what_died(
    podman: pods.Podman, image: str
) -> None:
    pod = make_pod(image, containers=("web", "store"))
    podman.ensure(pod)
    names = (None, "web", "store")
    before = {name: podman.init_pid(pod.name, name) for name in names}

    podman.ensure(pod)
    assert {name: podman.init_pid(pod.name, name) for name in names} == before

    killed = before["web"]
    assert killed is not None
    kill([killed])
    podman.ensure(pod)
    after = {name: podman.init_pid(pod.name, name) for name in names}
    assert after["web"] not in {None, killed}
    assert (after[None], after["store"]) == (before[None], before["store"])


def test_removing_a_pod_stops_its_services_in_order(
    podman: pods.Podman, image: str, tmp_path: pathlib.Path
) -> None:
    # GIVEN a service that says farewell when it is told to stop
    (tmp_path / "service.py").write_text(
        "import pathlib, signal, sys\n"
        "def stop(*_):\n"
        "    pathlib.Path('/data/farewell').touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path('/data/ready').touch()\n"
        "signal.pause()\n"
    )
    (tmp_path / "layer.yaml").write_text(
        "services: {polite: {override: replace, command: python3 /data/service.py, "
        "startup: enabled}}\n"
    )
    container = pods.Container("web", image, mounts=((str(tmp_path), "/data"),))
    pod = dataclasses.replace(make_pod(image), containers=(container,))
    podman.ensure(pod)
    boot_id(podman, pod.name, "web")
    pebble = ["env", "PEBBLE_SOCKET=/charm/container/pebble.socket", "/charm/bin/pebble"]
    run(podman, pod, "web", *pebble, "add", "polite", "/data/layer.yaml")
    run(podman, pod, "web", *pebble, "replan")
    eventually(lambda: str((tmp_path / "ready").exists() or ""))

    podman.remove(pod.name)

    assert (tmp_path / "farewell").exists()
    assert podman.pods() == []
    podman.remove(pod.name)


def test_after_everything_was_killed_a_pod_comes_back(podman: pods.Podman, image: str) -> None:
    pod = make_pod(image)
    podman.ensure(pod)
    booted = boot_id(podman, pod.name, "web")
    kill(podman_pids(pod, podman.prefix))

    podman.ensure_network()
    podman.ensure(pod)

    assert boot_id(podman, pod.name, "web") != booted
    assert run(podman, pod, "web", "getent", "ahostsv4", "shop").split()[0] == podman.address(
        pod.name
    )


def test_a_lost_monitor_is_a_lost_pod(podman: pods.Podman, image: str) -> None:
    # GIVEN only the processes are killed that watch over the containers
    pod = make_pod(image)
    podman.ensure(pod)
    inits = {podman.init_pid(pod.name, name) for name in (None, "web")}
    kill(set(podman_pids(pod, podman.prefix)) - inits)

    # THEN the pod is made anew, and nothing of the old one runs on
    podman.ensure(pod)
    assert podman.alive(pod.name, "web")
    assert not any(pid == podman.init_pid(pod.name, None) for pid in inits)
    assert not any(runs(pid) for pid in inits)


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
def test_destroy_leaves_nothing_behind(
    onebox: Callable[..., tuple[str, pods.Podman]], image: str, killed: bool
) -> None:
    prefix, podman = onebox()
    podman.ensure_network()
    shop, client = make_pod(image, "shop"), make_pod(image, "client")
    podman.ensure(shop)
    podman.ensure(client)
    namespaces = [network_namespace(pod, prefix) for pod in (shop, client)]
    assert all(path.exists() for path in namespaces)
    group = (pathlib.Path("/run") / prefix / shop.name / "id").read_text()
    if killed:
        kill([pid for pod in (shop, client) for pid in podman_pids(pod, prefix)])

    podman.destroy()

    assert left_behind(prefix) == []
    assert not any(path.exists() for path in namespaces)
    assert prefix not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert list(pathlib.Path("/sys/fs/cgroup").glob(f"**/{group}")) == []
    podman.destroy()


def test_two_oneboxes_do_not_see_each_other(
    onebox: Callable[..., tuple[str, pods.Podman]], image: str
) -> None:
    # GIVEN the same pod in two of them
    pod = make_pod(image)
    (_, one), (_, other) = onebox(), onebox()
    for podman in (one, other):
        podman.ensure_network()
        podman.ensure(pod)

    # THEN a name leads to the own pod
    for podman in (one, other):
        found = run(podman, pod, "web", "getent", "ahostsv4", "shop.m.svc.cluster.local")
        assert {line.split()[0] for line in found.splitlines()} == {podman.address(pod.name)}

    # AND when one goes, the other runs on
    pid = other.init_pid(pod.name, "web")
    one.destroy()
    assert other.init_pid(pod.name, "web") == pid
    assert run(other, pod, "web", "getent", "ahostsv4", "shop")


def test_a_subnet_in_use_is_refused(
    onebox: Callable[..., tuple[str, pods.Podman]],
) -> None:
    prefix, podman = onebox()
    podman.ensure_network()
    template = "{{(index .Subnets 0).Subnet}}"
    subnet = pods.podman("network", "inspect", "--format", template, prefix).strip()

    with pytest.raises(pods.PodmanError, match=f"subnet {subnet} is in use"):
        onebox(subnet)[1].ensure_network()


def test_asking_for_what_does_not_run(podman: pods.Podman, image: str) -> None:
    assert podman.init_pid("m.none-0", "web") is None
    assert not podman.alive("m.none-0", None)
    with pytest.raises(pods.PodmanError, match=r"m\.none-0 is not running"):
        podman.address("m.none-0")
    with pytest.raises(pods.PodmanError, match=r"m\.none-0 is not running"):
        podman.enter("m.none-0", "web", ["true"], ENV, "/")
    with pytest.raises(pods.PodmanError, match=r"m\.none-0 is not running"):
        podman.restart_container("m.none-0", "web")


def test_a_socket_path_that_no_client_could_use_is_refused(tmp_path: pathlib.Path) -> None:
    podman = pods.Podman("oneboxtest-long", None, tmp_path)

    assert len(str(podman.socket("kubeflow.resource-dispatcher-10", "resource-dispatcher"))) <= 100
    with pytest.raises(ValueError, match="too long"):
        podman.socket("m." + "a" * 63 + "-0", "b" * 63)


def test_an_idle_pod_is_small(podman: pods.Podman, image: str) -> None:
    pod = make_pod(image)
    podman.ensure(pod)

    used = 0
    for pid in podman_pids(pod, podman.prefix):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        used += int(rollup.partition("Pss:")[2].split()[0])

    assert used < 40_000, f"{used} kB in the charm container, one workload and their monitors"
