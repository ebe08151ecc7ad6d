"""Pods: one per unit, made with Podman. The only module that knows Podman.

A pod looks as Juju's pod specification draws it: a charm container and the workload containers
share one network namespace; each has its own process and mount namespaces and Pebble as its
process 1. Pebble takes a new boot id only as process 1, which is how a restart gets noticed.

Where things are, for the onebox with the prefix ``onebox-ab12cd``::

    /run/onebox-ab12cd/POD/                 the pod's own directory, gone with the pod
        spec.json                           what the pod was made from
        hosts                               /etc/hosts of every container
        pids/CONTAINER                      host process id of the container's process 1
        containers/CONTAINER/pebble.socket  in the workload: /charm/container/pebble.socket
                                            in the charm: /charm/containers/CONTAINER/...
    HOME/logs/POD.CONTAINER.log             what Pebble and its services print

The directory under ``/run`` plays the part of the pod's emptyDir volume: it outlives a container,
not the pod. Its path is short because a Unix socket's path has at most 107 bytes.

To use Podman by hand on the same pods and images::

    export CONTAINERS_CONF=/var/cache/onebox/containers.conf
    podman pod ps
"""

from __future__ import annotations

import collections
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

CHARM_CONTAINER = "charm"
"""Name of the charm container, which Juju reserves, too."""

_RUN = pathlib.Path("/run")
_AARDVARK_PID = pathlib.Path("/run/containers/networks/aardvark-dns/aardvark.pid")
_AARDVARK_LOCK = pathlib.Path("/run/containers/networks/aardvark.lock")
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_INTERFACES = pathlib.Path("/sys/class/net")
_SOCKET_PATH_LIMIT = 100
_REMOVAL_PATIENCE = 15.0
_PEBBLE = ("/charm/bin/pebble", "run", "--create-dirs", "--hold", "--verbose")
_SET_BY_SOMEBODY = "3"
"""NET_ADDR_SET in the kernel's include/uapi/linux/netdevice.h, of an address that stays."""

_LOCAL_ADDRESS = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")

# Podman, unless told otherwise, asks for the limits that root usually has. Where root lacks
# CAP_SYS_RESOURCE a limit cannot be raised, and a container then does not start at all; so the
# limits are these numbers, or less where the caller's own are lower.
_OPEN_FILES = 16384
_PROCESSES = 32768

# Go's garbage collector, by its growth in per cent: each of Podman's hundreds of short runs takes
# a seventh less processor time when it collects later.
_COLLECT_AT = 400

# runc and cgroupfs: crun refuses machines that mix cgroup v1 and v2, and a cgroup made through
# systemd needs a running systemd. The file event log needs no journal. The monitors of containers
# get the variables that they are given here, and hand them on to Podman.
_CONTAINERS_CONF = """\
# Written by onebox.
[containers]
default_ulimits = ["nofile={open_files}:{open_files}", "nproc={processes}:{processes}"]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_env_vars = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "GOGC={collect_at}",
]

[network]
network_backend = "netavark"
"""


class PodmanError(Exception):
    """Podman is missing, or could not do what was asked; the text says what and why."""


@dataclasses.dataclass(frozen=True)
class Container:
    """One workload container.

    Attributes:
        name: the name in the charm's metadata, for example ``mlflow``.
        image: the image to run; its entrypoint is replaced by Pebble.
        mounts: pairs of host directory and path in the container.
    """

    name: str
    image: str
    mounts: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Pod:
    """One pod, that is, one unit of an application.

    Attributes:
        name: unique in this onebox: ``MODEL.UNIT`` with ``-`` for the unit's ``/``, for example
            ``mlflow.minio-0``. What follows the first dot is the pod's host name.
        aliases: the DNS names that lead to this pod. Several pods may share an alias, which then
            answers with all their addresses. The longest one that begins with the host name and
            a dot is the pod's fully qualified name.
        containers: the workload containers.
        charm_image: the base image, for the charm container.
        mounts: pairs of host directory and path in the charm container.
        publish: pairs of a port on 127.0.0.1 of this machine and a port in the pod.
    """

    name: str
    aliases: tuple[str, ...]
    containers: tuple[Container, ...]
    charm_image: str
    mounts: tuple[tuple[str, str], ...] = ()
    publish: tuple[tuple[int, int], ...] = ()

    @property
    def hostname(self) -> str:
        """The host name that all containers of the pod see, for example ``minio-0``."""
        return self.name.partition(".")[2] or self.name


def cache() -> pathlib.Path:
    """Return the directory for what is built once per machine and shared by every checkout."""
    return pathlib.Path(os.environ.get("ONEBOX_CACHE", "/var/cache/onebox"))


def environment() -> dict[str, str]:
    """Return the environment for running Podman, after writing its ``containers.conf``.

    Returns:
        The environment of this process, with ``CONTAINERS_CONF`` naming the written file,
        ``GOGC``, and a PATH on which Podman's helpers are.
    """
    text = _CONTAINERS_CONF.format(
        open_files=_limit(resource.RLIMIT_NOFILE, _OPEN_FILES),
        processes=_limit(resource.RLIMIT_NPROC, _PROCESSES),
        collect_at=_COLLECT_AT,
    )
    path = cache() / "containers.conf"
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    # Podman looks for runc and iptables on PATH, which without a login may end before sbin.
    programs = f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    collect_at = str(_COLLECT_AT)
    return {**os.environ, "PATH": programs, "CONTAINERS_CONF": str(path), "GOGC": collect_at}


def podman(*arguments: str, check: bool = True) -> str:
    """Run Podman and return what it printed.

    Args:
        *arguments: the command line after ``podman``.
        check: whether a failure raises; when not, a failure returns what was printed so far.

    Raises:
        PodmanError: Podman is not installed, or (with ``check``) it failed.
    """
    try:
        done = subprocess.run(
            ["podman", *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise PodmanError("Podman is not installed: run 'python3 -m onebox.setup'") from None
    if check and done.returncode != 0:
        raise PodmanError(f"podman {arguments[0]}: {_reason(done.stderr)}")
    return done.stdout


def published(but: str) -> dict[int, str]:
    """Return the ports of this machine that pods have, and whose they are.

    A pod whose processes were all killed keeps its port: nobody listens on it any more, but the
    firewall still sends there what comes for it.

    Args:
        but: prefix of the pods to leave out.

    Returns:
        By port, the name of a container.
    """
    listed = json.loads(podman("ps", "--all", "--format", "json"))
    return {
        port["host_port"]: one["Names"][0]
        for one in listed
        if (one["Labels"] or {}).get("onebox") != but
        for port in one["Ports"] or ()
    }


class Podman:
    """The pods of one onebox. Threads may share it: what concerns one pod happens in turn.

    Args:
        prefix: begins the name of everything made here, for example ``onebox-ab12cd``; two
            oneboxes on a machine differ in it.
        subnet: the network of the pods, for example ``10.89.7.0/24``; None picks a free one.
        home: the state directory of this onebox; the containers' logs are kept there.
        pebble: the directory with the program ``pebble``, mounted as ``/charm/bin``; by default
            where ``onebox.setup`` puts it.
    """

    def __init__(
        self,
        prefix: str,
        subnet: str | None,
        home: pathlib.Path,
        pebble: pathlib.Path | None = None,
    ) -> None:
        self.prefix = prefix
        self._subnet = subnet
        self._logs = home / "logs"
        self._run = _RUN / prefix
        self._pebble = pebble or cache() / "pebble"
        self._locks: collections.defaultdict[str, threading.RLock]
        self._locks = collections.defaultdict(threading.RLock)
        self._first = threading.Lock()
        self._interface = ""

    def ensure_network(self) -> None:
        """Make the bridge network and its DNS, or leave them when they are there.

        Raises:
            PodmanError: the wanted subnet is in use on this machine.
        """
        if self.has_network():
            return
        wanted = ["--subnet", self._subnet] if self._subnet else []
        try:
            podman("network", "create", "--label", f"onebox={self.prefix}", *wanted, self.prefix)
        except PodmanError as error:
            if self._subnet and "already" in str(error):
                raise PodmanError(
                    f"subnet {self._subnet} is in use on this machine: "
                    "choose another one, or none to have a free one picked"
                ) from error
            raise

    def has_network(self) -> bool:
        """Return whether the network is there."""
        listed = podman("network", "ls", "--quiet", "--filter", f"name=^{self.prefix}$")
        return bool(listed.strip())

    def run_client(
        self,
        image: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        mounts: Iterable[tuple[str, str]] = (),
        *,
        inside: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end in a container of its own.

        Args:
            image: the image, which is there.
            argv: the program and its arguments.
            env: its variables, besides those of the image; they may be secret.
            mounts: pairs of host directory and path in the container, read-only.
            inside: whether it is on the pods' network and knows their names, as a pod of the
                cluster; else it sees this machine's network, as its users do.

        Returns:
            The exit code and the output.

        Raises:
            PodmanError: a container that was left behind cannot be removed.
        """
        name = "client"
        self.remove_client(name)
        command, environment = self.client_command(name, image, argv, env, mounts, inside=inside)
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def client_command(
        self,
        name: str,
        image: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        mounts: Iterable[tuple[str, str]] = (),
        *,
        inside: bool = False,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command line that runs a program as `run_client` does, and its environment.

        Args:
            name: of the container, for `remove_client`.
            image: as in `run_client`; so are the others.
            argv: the program, which reads the standard input of the command.
            env: its variables.
            mounts: its directories.
            inside: whether it is on the pods' network.
        """
        command = [
            *("podman", "run", "--rm", "--interactive", "--name", f"{self.prefix}.{name}"),
            *("--label", f"onebox={self.prefix}"),
            f"--network={self.prefix if inside else 'host'}",
            *("--pull", "never", "--log-driver", "none"),
            # Podman takes the values from its own environment: every user can read arguments.
            *(f"--env={key}" for key in env),
            *(f"--volume={host}:{path}:ro" for host, path in mounts),
            *(image, *argv),
        ]
        return command, {**environment(), **env}

    def remove_client(self, name: str) -> None:
        """Remove the container of a client, if it was left behind.

        Raises:
            PodmanError: it cannot be removed.
        """
        _remove("rm", f"{self.prefix}.{name}")

    def ensure(self, pod: Pod) -> None:
        """Make or start what is missing of a pod; leave alone what runs.

        A pod whose network namespace is gone (nothing runs any more, or its keeper was killed)
        is made anew, with empty volumes under ``/charm``, as Kubernetes does with a lost pod.

        Raises:
            PodmanError: an image is missing, a published port is in use, or Podman failed.
            FileNotFoundError: Pebble is not built, or a host directory to mount is missing.
        """
        with self._locks[pod.name]:
            if not self._sandbox_alive(pod.name):
                self.remove(pod.name, grace=0)
                self._create(pod)
                return
            for name in (None, *(container.name for container in pod.containers)):
                if not self.alive(pod.name, name):
                    self.restart_container(pod.name, name)
            self._ensure_dns(pod.name)

    def address(self, name: str) -> str:
        """Return the IPv4 address of a pod.

        Raises:
            PodmanError: no container of the pod runs.
        """
        for container in self._containers(name):
            pid = self.init_pid(name, container)
            if pid is not None:
                table = pathlib.Path(f"/proc/{pid}/net/fib_trie").read_text()
                for address in _LOCAL_ADDRESS.findall(table):
                    if not address.startswith("127."):
                        return address
        raise PodmanError(f"pod {name} is not running")

    def socket(self, name: str, container: str) -> pathlib.Path:
        """Return the path on this machine of a workload container's Pebble socket.

        Raises:
            ValueError: the path would be too long for a Unix socket.
        """
        path = self._volume(name, container) / "pebble.socket"
        if len(str(path)) > _SOCKET_PATH_LIMIT:
            raise ValueError(f"path of a Unix socket is too long, use shorter names: {path}")
        return path

    def log(self, name: str, container: str) -> pathlib.Path:
        """Return the file with what Pebble and the services of a container have printed."""
        return self._logs / f"{name}.{container}.log"

    def init_pid(self, name: str, container: str | None) -> int | None:
        """Return the process id, on this machine, of Pebble in a container.

        Args:
            name: the pod.
            container: the workload container; None means the charm container.

        Returns:
            The process id, or None when the container does not run.
        """
        container = container or CHARM_CONTAINER
        inside = "containers" if container == CHARM_CONTAINER else "container"
        try:
            pid = int((self._run / name / "pids" / container).read_text())
            # The number may by now belong to another process. Only the container's own ones see
            # its volume there; for a zombie the path does not resolve.
            mounted = pathlib.Path(f"/proc/{pid}/root/charm/{inside}")
            return pid if mounted.samefile(self._volume(name, container)) else None
        except (OSError, ValueError):
            return None

    def alive(self, name: str, container: str | None) -> bool:
        """Whether Pebble runs in a container (None means the charm container)."""
        return self.init_pid(name, container) is not None

    def enter(
        self,
        name: str,
        container: str | None,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
    ) -> list[str]:
        """Return a command line that runs a program inside a container.

        It enters the namespaces directly (3 ms; ``podman exec`` takes 180). The environment
        belongs into ``subprocess.Popen(..., env=env)``, never into the command line, which every
        user of the machine can read. A signal to the returned command does not reach the program
        inside: start it with ``start_new_session=True`` and signal its process group.

        Args:
            name: the pod.
            container: the workload container; None means the charm container.
            argv: the program and its arguments; the program is found on the PATH of ``env``.
            env: the environment that the program will get.
            cwd: the working directory inside the container.

        Raises:
            PodmanError: the container does not run.
            ValueError: the program has no directory part and ``env`` no PATH.
        """
        pid = self.init_pid(name, container)
        if pid is None:
            raise PodmanError(f"container {container or CHARM_CONTAINER} of {name} is not running")
        if "/" not in argv[0] and "PATH" not in env:
            raise ValueError(f"cannot look up {argv[0]!r}: the environment has no PATH")
        # Looked up here because the environment's PATH is meant for the inside.
        nsenter = shutil.which("nsenter") or "/usr/bin/nsenter"
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root")
        return [nsenter, f"--target={pid}", *spaces, f"--wdns={cwd}", "--", *argv]

    def restart_container(self, name: str, container: str | None, grace: int = 10) -> None:
        """Replace a container by a new one, as Kubernetes restarts a container.

        The new one begins with its image's files. The volumes, the network namespace and the
        address are the pod's, and stay.

        Args:
            name: the pod.
            container: the workload container; None means the charm container.
            grace: seconds between SIGTERM and SIGKILL.

        Raises:
            PodmanError: the pod does not run (``ensure`` makes it), or Podman failed.
        """
        container = container or CHARM_CONTAINER
        with self._locks[name]:
            if not self._sandbox_alive(name):
                raise PodmanError(f"pod {name} is not running")
            pod = self._spec(name)
            self._stop(name, [container], grace)
            _remove("rm", f"{self._pod_name(name)}.{container}")
            podman("run", "--detach", *self._arguments(pod)[container])

    def remove(self, name: str, grace: int = 10) -> None:
        """Remove a pod and everything that was its own. No error when it is not there.

        Args:
            name: the pod.
            grace: seconds between SIGTERM to Pebble, which stops its services, and SIGKILL.

        Raises:
            PodmanError: Podman could not remove it.
        """
        with self._locks[name]:
            self._stop(name, self._containers(name), grace)
            self._remove([self._pod_name(name)])

    def pods(self) -> list[str]:
        """Return the names of all pods, running or not, sorted."""
        listed = podman(
            "pod", "ps", "--filter", f"label=onebox={self.prefix}", "--format", "{{.Name}}"
        )
        return sorted(name.removeprefix(f"{self.prefix}.") for name in listed.split())

    def destroy(self) -> None:
        """Remove every pod, the network and all files; safe to repeat, and after a power cut.

        Raises:
            PodmanError: Podman could not remove something.
        """
        names = self.pods()
        for name in names:
            self._signal(name, self._containers(name), signal.SIGTERM)
        for name in names:
            self._stop(name, self._containers(name), 10)
        self._remove([self._pod_name(name) for name in names])
        # With the pods gone, what is left of this onebox are clients.
        label = f"label=onebox={self.prefix}"
        clients = podman("ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
        if clients:
            _remove("rm", *clients)
        podman("network", "rm", "--force", self.prefix, check=False)
        if self.has_network():
            raise PodmanError(f"network {self.prefix} cannot be removed: it is still in use")
        self._interface = ""
        for directory in (self._run, self._logs):
            shutil.rmtree(directory, ignore_errors=True)

    def _create(self, pod: Pod) -> None:
        """Make and start a pod of which nothing is there."""
        if not (self._pebble / "pebble").exists():
            raise FileNotFoundError(f"{self._pebble}/pebble: run 'python3 -m onebox.setup'")
        directory = self._run / pod.name
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        for container in (CHARM_CONTAINER, *(one.name for one in pod.containers)):
            self._volume(pod.name, container).mkdir(parents=True, exist_ok=True)
            if container != CHARM_CONTAINER:
                self.socket(pod.name, container)
        (directory / "pids").mkdir()
        (directory / "hosts").write_text(_hosts(pod, None))
        (directory / "spec.json").write_text(json.dumps(dataclasses.asdict(pod)))
        network = ",".join([self.prefix, *(f"alias={alias}" for alias in pod.aliases)])
        try:
            podman(
                *("pod", "create", "--name", self._pod_name(pod.name)),
                *("--label", f"onebox={self.prefix}", "--hostname", pod.hostname),
                *("--network", network.replace(",", ":", 1), "--no-hosts"),
                *("--infra-name", f"{self._pod_name(pod.name)}.sandbox"),
                *("--infra-image", pod.charm_image, "--infra-command", "sleep infinity"),
                *("--infra-conmon-pidfile", str(directory / "pids/sandbox")),
                *("--pod-id-file", str(directory / "id")),
                *(f"--publish=127.0.0.1:{host}:{inside}" for host, inside in pod.publish),
            )
            for arguments in self._arguments(pod).values():
                podman("create", *arguments)
            _dns_alive()
            self._start(pod.name)
            # Written in place: the file is mounted, and a new one would not be seen.
            (directory / "hosts").write_text(_hosts(pod, self.address(pod.name)))
        except PodmanError as error:
            self.remove(pod.name, grace=0)
            taken = re.search(r"listen tcp\S* (\S+?):? bind: address already in use", str(error))
            if taken:
                raise PodmanError(f"{taken[1]} is in use by another program") from error
            raise

    def _start(self, name: str) -> None:
        """Start the containers of a new pod.

        Each pod is a port of the bridge, and a bridge without a MAC address of its own has the
        lowest one of its ports. When that port goes, what the other pods send to this machine,
        as to the DNS server, is lost for up to 40 s, until they look for the address again.
        Podman makes the bridge with the first pod, and so that one starts alone.
        """
        with self._first:
            if not self._bridge_has_own_address():
                podman("pod", "start", self._pod_name(name))
                self._give_bridge_own_address()
                return
        podman("pod", "start", self._pod_name(name))

    def _bridge(self) -> str:
        """Return the name of the network's interface on this machine, there or not."""
        if not self._interface:
            self._interface = podman(
                "network", "inspect", "--format", "{{.NetworkInterface}}", self.prefix
            ).strip()
        return self._interface

    def _bridge_has_own_address(self) -> bool:
        try:
            kind = (_INTERFACES / self._bridge() / "addr_assign_type").read_text().strip()
        except FileNotFoundError:
            return False
        return kind == _SET_BY_SOMEBODY

    def _give_bridge_own_address(self) -> None:
        bridge = self._bridge()
        address = (_INTERFACES / bridge / "address").read_text().strip()
        done = subprocess.run(
            ["ip", "link", "set", "dev", bridge, "address", address],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PodmanError(f"bridge {bridge}: {_reason(done.stderr)}")

    def _arguments(self, pod: Pod) -> dict[str, list[str]]:
        """Return, by container, what follows ``podman create``."""
        directory = self._run / pod.name

        def common(container: str, env: Mapping[str, str]) -> list[str]:
            log = self.log(pod.name, container)
            return [
                *("--pod", self._pod_name(pod.name)),
                *("--name", f"{self._pod_name(pod.name)}.{container}"),
                *("--label", f"onebox={self.prefix}"),
                *("--user", "0:0", "--entrypoint", json.dumps(_PEBBLE)),
                *("--pidfile", str(directory / "pids" / container)),
                *("--log-driver", "k8s-file", "--log-opt", f"path={log}"),
                *("--log-opt", "max-size=10mb"),
                *("--volume", f"{directory / 'hosts'}:/etc/hosts"),
                *("--volume", f"{self._pebble.resolve()}:/charm/bin:ro"),
                *(f"--env={name}={value}" for name, value in env.items()),
            ]

        def image(name: str, mounts: Iterable[tuple[str, str]]) -> list[str]:
            pull = "never" if name.startswith("localhost/") else "missing"
            volumes = [f"--volume={host}:{inside}" for host, inside in mounts]
            return ["--pull", pull, *volumes, name]

        # The variables and paths are those of Juju's pod specification.
        charm = common(
            CHARM_CONTAINER,
            {
                "JUJU_CONTAINER_NAMES": ",".join(one.name for one in pod.containers),
                "PEBBLE": "/containeragent/pebble",
            },
        )
        volume = f"{self._volume(pod.name, CHARM_CONTAINER)}:/charm/containers"
        found = {
            CHARM_CONTAINER: [*charm, "--volume", volume, *image(pod.charm_image, pod.mounts)]
        }
        for container in pod.containers:
            workload = common(
                container.name,
                {
                    "JUJU_CONTAINER_NAME": container.name,
                    "PEBBLE_SOCKET": "/charm/container/pebble.socket",
                    "PEBBLE": "/charm/container/pebble",
                    "PEBBLE_COPY_ONCE": "/var/lib/pebble/default",
                },
            )
            volume = f"{self._volume(pod.name, container.name)}:/charm/container"
            found[container.name] = [
                *workload,
                *("--volume", volume),
                *image(container.image, container.mounts),
            ]
        return found

    def _pod_name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def _volume(self, name: str, container: str) -> pathlib.Path:
        """Return the host directory of a container's /charm/container (or /charm/containers)."""
        containers = self._run / name / "containers"
        return containers if container == CHARM_CONTAINER else containers / container

    def _spec(self, name: str) -> Pod:
        """Read back what a pod was made from."""
        fields = json.loads((self._run / name / "spec.json").read_text())
        containers = tuple(
            Container(one["name"], one["image"], _pairs(one["mounts"]))
            for one in fields.pop("containers")
        )
        return Pod(
            fields["name"],
            tuple(fields["aliases"]),
            containers,
            fields["charm_image"],
            _pairs(fields["mounts"]),
            tuple((host, inside) for host, inside in fields["publish"]),
        )

    def _containers(self, name: str) -> list[str]:
        """Return the containers of a pod that were started once, the charm container included."""
        files = (self._run / name / "pids").glob("*")
        return [file.name for file in files if file.name != "sandbox"]

    def _sandbox_alive(self, name: str) -> bool:
        """Whether the process that watches over the pod's network namespace runs."""
        return f"{self._pod_name(name)}.sandbox" in _command(self._run / name / "pids/sandbox")

    def _ensure_dns(self, name: str) -> None:
        """Start the DNS server of the networks again if it is gone.

        One server answers for all networks of the machine; Podman starts it when it sets up a
        container's network, and does not watch it afterwards.
        """
        if not _dns_alive():
            podman("network", "reload", f"{self._pod_name(name)}.sandbox")

    def _signal(self, name: str, containers: Iterable[str], number: signal.Signals) -> list[int]:
        """Signal Pebble in each container and return the process ids that were there."""
        pids = [self.init_pid(name, container) for container in containers]
        signalled: list[int] = []
        for pid in pids:
            if pid is not None:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
                signalled.append(pid)
        return signalled

    def _stop(self, name: str, containers: Sequence[str], grace: int) -> None:
        """Stop Pebble in each container: SIGTERM, and SIGKILL after the grace in seconds."""
        deadline = time.monotonic() + grace
        if grace > 0 and self._signal(name, containers, signal.SIGTERM):
            while time.monotonic() < deadline:
                if not any(self.alive(name, container) for container in containers):
                    return
                time.sleep(0.05)
        self._signal(name, containers, signal.SIGKILL)

    def _remove(self, pod_names: Sequence[str]) -> None:
        """Remove pods, by their names in Podman, of which nothing needs to stop in order."""
        if not pod_names:
            return
        directories = [self._run / name.removeprefix(f"{self.prefix}.") for name in pod_names]
        _remove("pod", "rm", *pod_names)
        for directory in directories:
            try:
                identifier = (directory / "id").read_text().strip()
            except FileNotFoundError:
                identifier = ""
            if identifier:
                _remove_cgroups(identifier)
            shutil.rmtree(directory, ignore_errors=True)


def _remove(*command: str) -> None:
    """Run a Podman command that removes, until it has.

    Podman first has to notice that processes are gone which something else killed, and until
    they are reaped it fails on them; each try gets it further.
    """
    deadline = time.monotonic() + _REMOVAL_PATIENCE
    while True:
        try:
            podman(*command, "--force", "--ignore", "--time", "0")
        except PodmanError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _dns_alive() -> bool:
    """Whether the DNS server of Podman's networks runs; if not, make Podman start it next time.

    Podman trusts the file with the server's process id. When the server was killed, that number
    may belong to another process, and Podman would signal that instead of starting a server.
    """
    if not _AARDVARK_LOCK.exists():
        return False
    with _AARDVARK_LOCK.open("w") as lock:
        # Podman's network program holds this lock while it starts the server.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if any("aardvark-dns" in part for part in _command(_AARDVARK_PID)):
            return True
        _AARDVARK_PID.unlink(missing_ok=True)
        return False


def _command(pid_file: pathlib.Path) -> list[str]:
    """Return the command line of the process that a file names; empty when it does not run."""
    try:
        pid = int(pid_file.read_text())
        return [
            part for part in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0") if part
        ]
    except (OSError, ValueError):
        return []


def _limit(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _write(path: pathlib.Path, text: str) -> None:
    """Write a file so that no reader ever sees a part of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def _pairs(value: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((host, inside) for host, inside in value)


def _reason(stderr: str) -> str:
    """Return the line of Podman's messages that tells why it failed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("Error: ", "* "))]
    # Of these two kinds, the one only counts others and the other follows from another.
    causes = [
        line
        for line in errors
        if "a dependency of container" not in line and not line.endswith("occurred:")
    ]
    chosen = causes or errors or lines or ["no message"]
    return chosen[0].removeprefix("Error: ").removeprefix("* ")


def _hosts(pod: Pod, address: str | None) -> str:
    """Return /etc/hosts as the kubelet writes it: this machine and the pod itself."""
    own = [alias for alias in pod.aliases if alias.startswith(f"{pod.hostname}.")]
    names = [*([max(own, key=len)] if own else []), pod.hostname]
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    if address:
        lines.append(" ".join([address, *names]))
    return "\n".join(lines) + "\n"


def _remove_cgroups(pod_id: str) -> None:
    """Remove the control groups that a killed monitor of a pod's containers left behind."""
    for group in _CGROUPS.glob(f"*/libpod_parent/{pod_id}"):
        for directory, _, _ in os.walk(group, topdown=False):
            pathlib.Path(directory).rmdir()
