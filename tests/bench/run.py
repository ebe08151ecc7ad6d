"""Print what hooks, charms and the idle stack cost, side by side in one run.

    tox -e bench

Absolute times depend on the machine and on what else it does; the ratios to the empty ops charm,
whose hooks run in between, do not. Nothing is asserted. Needs root, as all that runs pods.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from onebox import client, home, images, model, pods, setup, stack

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NOOP = ROOT / "tests" / "packing" / "data" / "noop"
JUJU = ROOT / "onebox" / "bin" / "juju"
SECONDS = 60
"""How long update-status is sent every third second."""


def main() -> None:
    """Deploy the bundle and the empty charm on a onebox of its own, measure, remove it."""
    directory = home.Home(pathlib.Path("/var/lib/onebox") / "bench")
    os.environ["ONEBOX_HOME"] = str(directory.path)
    setup.ensure_all()
    pack = [sys.executable, str(ROOT / "tools" / "pack.py")]
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*pack, str(NOOP)], check=True, stdout=subprocess.DEVNULL)
    try:
        _sizes()
        _deploy()
        _serve(directory)
        _hooks(directory)
        _memory(directory)
    finally:
        with contextlib.suppress(client.ApiError):
            client.call("stop", start=False)
        time.sleep(1)
        pods.Podman(directory.prefix, None, directory.path).destroy()
        shutil.rmtree(directory.path, ignore_errors=True)


def _sizes() -> None:
    print("\nsize of each .charm (goal: at most 3 MB)")
    for path in sorted((ROOT / "build").glob("*.charm")):
        print(f"  {path.stem:22} {path.stat().st_size / 1e6:5.2f} MB")


def _deploy() -> None:
    juju("add-model", "bench")
    began = time.monotonic()
    overlay = ROOT / "onebox" / "overlay.yaml"
    publish = ("--publish", "traefik-k8s=")
    juju("deploy", str(ROOT / "bundle.yaml"), "--overlay", str(overlay), "--trust", *publish)
    _wait(besides=stack.MODELS)
    print(f"\nbundle deployed to active: {time.monotonic() - began:.0f} s (goal: 90 s)")
    juju("deploy", str(ROOT / "build" / "noop.charm"))


def _serve(directory: home.Home) -> None:
    """Give mlflow-models a model to serve: what it does without one, it does for minutes only."""
    done = pods.Podman(directory.prefix, None, directory.path).run_client(
        images.read()["mlflow-models"].reference,
        ["python3", "/examples/train_wine.py", "--epochs", "2"],
        {"MLFLOW_TRACKING_URI": f"http://{stack.SERVER}.bench.svc.cluster.local:5000"},
        [(str(ROOT / "examples"), "/examples")],
        inside=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    juju("config", stack.MODELS, "models-uri=models:/wine@champion")
    _wait()


def _wait(besides: str = "") -> None:
    """Wait until all applications are active, but perhaps for one."""
    while True:
        found = json.loads(juju("status", "--format", "json"))["applications"]
        if all(
            app["application-status"]["current"] == "active"
            for name, app in found.items()
            if name != besides
        ):
            return
        time.sleep(0.5)


def _hooks(directory: home.Home) -> None:
    journal = directory.model("bench") / "hooks.jsonl"
    juju("model-config", "update-status-hook-interval=3s")
    time.sleep(5)
    start = len(journal.read_text().splitlines())
    time.sleep(SECONDS)
    seconds = collections.defaultdict[str, list[float]](list)
    tools: dict[str, int] = {}
    for line in journal.read_text().splitlines()[start:]:
        hook = json.loads(line)
        if hook["hook"] == "update-status":
            app = hook["unit"].partition("/")[0]
            seconds[app].append(hook["seconds"])
            tools[app] = len(hook["tools"])
    # The quickest hook is one that ran alone; others share the processor with other units' hooks.
    empty = min(seconds["noop"])
    print("\nupdate-status with nothing to do, against the empty ops charm (goal: at most 1.3)")
    for app, times in sorted(seconds.items()):
        quickest = min(times)
        print(
            f"  {app:22} {quickest / empty:4.2f}  {quickest * 1000:4.0f} ms, "
            f"{tools[app]} hook tools, {len(times)} hooks"
        )
    own = _own_time()
    print(
        f"\na hook of the empty charm takes {(empty - own) * 1000:.0f} ms more than the charm,"
        f" which takes {own * 1000:.0f} ms with hook tools that answer at once (goal: 60 ms)"
    )


def _own_time() -> float:
    """Return the seconds of the empty charm's update-status outside of onebox."""
    with tempfile.TemporaryDirectory() as folder:
        charm, tools = pathlib.Path(folder, "charm"), pathlib.Path(folder, "tools")
        subprocess.run(["unzip", "-q", ROOT / "build" / "noop.charm", "-d", charm], check=True)
        tools.mkdir()
        for name in ("juju-log", "is-leader", "status-set", "config-get", "relation-ids"):
            (tools / name).write_text("#!/bin/sh\necho '{}'\n")
            (tools / name).chmod(0o755)
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": folder,
            "JUJU_CHARM_DIR": str(charm),
            "JUJU_DISPATCH_PATH": "hooks/update-status",
            "JUJU_HOOK_NAME": "update-status",
            "JUJU_MODEL_NAME": "bench",
            "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
            "JUJU_UNIT_NAME": "noop/0",
            "JUJU_VERSION": model.JUJU_VERSION,
        }
        times: list[float] = []
        for _ in range(20):
            began = time.monotonic()
            subprocess.run(["./dispatch"], cwd=charm, env=environment, check=True)
            times.append(time.monotonic() - began)
    return min(times)


def _memory(directory: home.Home) -> None:
    juju("model-config", "--reset", "update-status-hook-interval")
    time.sleep(5)
    before, began = _daemon_time(directory), time.monotonic()
    time.sleep(SECONDS / 2)
    share = (_daemon_time(directory) - before) / (time.monotonic() - began)
    print(f"\nthe daemon at rest uses {share:.2%} of a core (goal: 0.5 %)")
    kinds = collections.defaultdict[str, int](int)
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            cgroup = (path / "cgroup").read_text() + command
            environment = (path / "environ").read_bytes()
            own = f"ONEBOX_HOME={directory.path}".encode() in environment
            if own or directory.prefix in cgroup or _in_pod(path, directory):
                kinds[_kind(command)] += _pss(path)
    print("\nmemory of the idle stack by kind of process (proportional set size)")
    for kind, size in sorted(kinds.items(), key=lambda item: -item[1]):
        print(f"  {kind:22} {size / 1024:6.0f} MB")
    print(f"  {'all':22} {sum(kinds.values()) / 1024:6.0f} MB")


def _daemon_time(directory: home.Home) -> float:
    """Return the seconds of processor time that the daemon has used."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            own = f"ONEBOX_HOME={directory.path}".encode() in (path / "environ").read_bytes()
            if own and b"onebox.daemon" in (path / "cmdline").read_bytes():
                # proc(5): utime and stime are the 14th and 15th field.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError("the daemon does not run")


def _in_pod(process: pathlib.Path, directory: home.Home) -> bool:
    """Whether a process sees the volume of one of our pods."""
    return f"/{directory.prefix}/" in (process / "mountinfo").read_text()


def _kind(command: str) -> str:
    for word in ("pebble", "conmon", "uvicorn", "postgres", "minio", "nginx", "onebox.daemon"):
        if word in command:
            return word
    return command.split()[0].rpartition("/")[2] if command else "kernel"


def _pss(process: pathlib.Path) -> int:
    """Return a process's share of memory in KiB."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def juju(*arguments: str) -> str:
    """Run the command line, and return what it prints."""
    done = subprocess.run([str(JUJU), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
