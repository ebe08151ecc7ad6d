"""``make up``: from a checkout to a served model on this machine.

Every step looks at what is there and does only what is missing. So a second run repairs whatever
an interruption, a crash or a power cut has left half-done, and restarts nothing that runs.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from onebox import bundlefile, client, console, home, images, pods, setup, stack

DEFAULT_PORT = 8080
READY_TIMEOUT = 600.0
"""Seconds from deploy until everything is active; two busy cores need about 120."""

_EXAMPLES = home.CHECKOUT / "examples"
_CLIENT_IMAGE = "mlflow-models"
_SERVED = "models:/wine@champion"


def up() -> int:
    """Bring the stack up, print how to reach it, and return the exit code."""
    return console.guarded("up", _up)


def _up(where: home.Home) -> None:
    began = time.monotonic()
    console.say(
        "onebox installs Debian packages that are missing (Podman and what it needs, gcc), keeps\n"
        f"programs in {pods.cache()}, images in Podman's storage, and its state in\n"
        f"{where.path}. `make down` removes the state, the pods and their network again."
    )
    with console.step("1/6", "programs and images"):
        setup.ensure_all()
    with console.step("2/6", "packing the charms"):
        _pack()
    with console.step("3/6", "starting onebox"):
        podman = pods.Podman(where.prefix, _subnet(), where.path)
        port = _port(where, podman)
        podman.ensure_network()
        client.ensure_daemon().close()
    with console.step("4/6", "deploying the bundle"):
        _deploy(where, port)
    with console.step("5/6", "waiting until all is active"):
        # Without a model it waits for one, which the next step gives it.
        _wait(READY_TIMEOUT, without=[] if _served() else [stack.MODELS])
    with console.step("6/6", "serving a model"):
        access = stack.find_access()
        _serve(podman, access)
    console.say(f"\nup after {time.monotonic() - began:.0f} s\n")
    print(_summary(access), end="", flush=True)


def _summary(access: stack.Access) -> str:
    juju = stack.JUJU.relative_to(home.CHECKOUT)
    return (
        f"MLflow      {access.tracking_uri}\n"
        f"The model   {access.model_url}/invocations\n"
        f"User        {access.username}\n"
        f"Password    {access.password}\n"
        "\nPaste this into a shell, and MLflow's client in it uses this server:\n\n"
        f"{access.block()}"
        f"\nLook at it with `sudo {juju} status`; remove it with `sudo make down`.\n"
    )


def _pack() -> None:
    done = subprocess.run(
        [sys.executable, str(home.CHECKOUT / "tools" / "pack.py")], stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise console.CommandError("the charms cannot be packed; the reason is above")


def _subnet() -> str | None:
    """Return the subnet that the user wants for the pods; the daemon reads it, too.

    Raises:
        console.CommandError: SUBNET is not an IPv4 network, or has too little room.
    """
    wanted = os.environ.get("SUBNET") or os.environ.get("ONEBOX_SUBNET")
    if not wanted:
        return None
    try:
        network = ipaddress.IPv4Network(wanted)
    except ValueError as error:
        raise console.CommandError(
            f"SUBNET={wanted} is not an IPv4 network such as 10.89.7.0/24: {error}"
        ) from None
    if network.prefixlen > 27:
        raise console.CommandError(
            f"SUBNET={wanted} has too few addresses: /27 or larger is needed"
        )
    os.environ["ONEBOX_SUBNET"] = wanted
    return wanted


def _port(where: home.Home, podman: pods.Podman) -> int:
    """Return the port on 127.0.0.1 to publish, the same in every run of a checkout.

    Raises:
        console.CommandError: PORT is no port, is in use, or is not the one that the stack has.
    """
    file = where.path / "port"
    kept = int(file.read_text()) if file.exists() else None
    wanted = _wanted_port()
    if kept and wanted and kept != wanted:
        raise console.CommandError(
            f"this stack has port {kept} already: make down first, then make up PORT={wanted}"
        )
    others = pods.published(but=where.prefix)
    chosen = wanted or kept
    if chosen is None:
        chosen = next((p for p in candidate_ports(where) if p not in others and free(p)), None)
    if chosen is None:
        raise console.CommandError("no free port was found: name one, as in make up PORT=9000")
    running = podman.alive(f"{stack.MODEL}.{stack.INGRESS}-0", None)
    if not running and (chosen in others or not free(chosen)):
        pod = others.get(chosen)
        user = f"the pod {pod}: remove that" if pod else "another program: end that program"
        raise console.CommandError(
            f"port {chosen} of 127.0.0.1 is in use by {user}, or "
            + ("make down first and choose" if kept else "choose")
            + " another port, as in make up PORT=9000"
        )
    file.write_text(str(chosen))
    return chosen


def _wanted_port() -> int | None:
    text = os.environ.get("PORT", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise console.CommandError(
            f"PORT={text} is not a port: a number from 1 to 65535 is expected"
        )
    return int(text)


def candidate_ports(where: home.Home) -> Iterator[int]:
    """Yield ports in the order to try them: the usual one, then some that follow from the home."""
    yield DEFAULT_PORT
    start = int.from_bytes(hashlib.sha256(str(where.path).encode()).digest()[:4])
    for number in range(50):
        # Below the range from which Linux gives ports to outgoing connections.
        yield 20000 + (start + 97 * number) % 12000


def free(port: int) -> bool:
    """Return whether nobody listens on a port of 127.0.0.1.

    Raises:
        console.CommandError: it cannot be used at all.
    """
    with socket.socket() as probe:
        # As servers do: a connection that was closed a moment ago does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise console.CommandError(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}"
            ) from None
        return True


def _deploy(where: home.Home, port: int) -> None:
    """Deploy what is missing, and bring what is there to the charms and images of now."""
    overlays = [stack.OVERLAY, stack.write_overlay(where.path / "overlay.yaml", port)]
    models = client.call("models")["models"]
    if not any(model["short-name"] == stack.MODEL for model in models):
        stack.juju("add-model", stack.MODEL)
    before = client.call("status", model=stack.MODEL)["applications"]
    arguments = ["--model", stack.MODEL, "--trust", str(stack.BUNDLE)]
    for overlay in overlays:
        arguments += ["--overlay", str(overlay)]
    stack.juju("deploy", *arguments, echo=True)
    for name, spec in bundlefile.load(stack.BUNDLE, overlays).applications.items():
        if name in before:
            resources = dict(spec.get("resources") or {})
            wanted = {"application": name, "path": spec["charm"], "resources": resources}
            # The same charm and images again change nothing.
            client.call("refresh", wanted, model=stack.MODEL)


def _wait(timeout: float, without: Sequence[str] = ()) -> None:
    """Wait until every unit is active, and tell meanwhile what is missing.

    Args:
        timeout: in seconds.
        without: applications that are not waited for.

    Raises:
        console.CommandError: it takes longer; the text says what each unit waits for.
    """
    deadline = time.monotonic() + timeout
    line = console.Line()
    while lacking := _lacking(deadline, without):
        if time.monotonic() > deadline:
            line.end()
            raise console.CommandError(
                f"not active after {timeout:.0f} s: {'; '.join(lacking)}. "
                "`onebox/bin/juju debug-log` tells more"
            )
        line.show(f"   {len(lacking)} to go: {'; '.join(lacking)}")
        time.sleep(0.5)
    line.end()


def _lacking(deadline: float, without: Sequence[str]) -> list[str]:
    """Return what is not active, when no hook is left that could change it."""
    found = stack.missing(client.call("status", model=stack.MODEL), without)
    if not found:
        # Until its first hook a unit whose pod is new has the status of the one before.
        left = max(1, deadline - time.monotonic())
        client.call("settle", {"timeout": left}, model=stack.MODEL)
        found = stack.missing(client.call("status", model=stack.MODEL), without)
    return found


def _serve(podman: pods.Podman, access: stack.Access) -> None:
    """Train and serve the example model, unless another one is served, and ask it."""
    served = _served()
    if not served:
        console.say("   training a model as any client would, with examples/train_wine.py")
        _example(podman, access, "train_wine.py")
        console.say(f"   juju config {stack.MODELS} models-uri={_SERVED}")
        stack.juju("config", "--model", stack.MODEL, stack.MODELS, f"models-uri={_SERVED}")
        _wait(READY_TIMEOUT)
    elif served != _SERVED:
        console.say(f"   {stack.MODELS} serves {served}, which is left alone")
        return
    console.say("   asking for predictions, with examples/predict.py")
    _example(podman, access, "predict.py", access.model_url, "--model", _version())


def _version() -> str:
    """Return the model version that is served; the alias may have moved on since."""
    shown = json.loads(stack.juju("status", "--model", stack.MODEL, "--format", "json"))
    units = shown["applications"][stack.MODELS]["units"]
    message = units[f"{stack.MODELS}/0"]["workload-status"].get("message", "")
    return message.removeprefix("serving ") if message.startswith("serving ") else _SERVED


def _served() -> str:
    """Return the model that mlflow-models is to serve; empty when none was named."""
    shown = stack.juju("config", "--model", stack.MODEL, stack.MODELS, "--format", "json")
    return json.loads(shown)["settings"]["models-uri"].get("value", "")


def _example(podman: pods.Podman, access: stack.Access, name: str, *arguments: str) -> None:
    """Run an example in a container of its own that gets nothing but the printed environment."""
    done = podman.run_client(
        images.read()[_CLIENT_IMAGE].reference,
        ["python3", f"/examples/{name}", *arguments],
        access.environment(),
        [(str(_EXAMPLES), "/examples")],
    )
    for line in done.stdout.splitlines():
        console.say(f"   {line}")
    if done.returncode:
        raise console.CommandError(f"examples/{name} failed:\n{done.stderr.strip()}")
