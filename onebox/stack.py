"""The deployed bundle as seen from outside: what is missing, and how to reach it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import subprocess
import typing
from collections.abc import Container, Mapping

import yaml

from onebox import console, home, images

MODEL = "mlflow"
"""The Juju model that the bundle is deployed to."""

BUNDLE = home.CHECKOUT / "bundle.yaml"
OVERLAY = home.CHECKOUT / "onebox" / "overlay.yaml"
JUJU = home.CHECKOUT / "onebox" / "bin" / "juju"

INGRESS, PROXY, SERVER, MODELS = (
    "traefik-k8s",
    "htpasswd-proxy",
    "mlflow-server",
    "mlflow-models",
)
FIRST_USER = "first-user"
"""The label that htpasswd-proxy gives to the secret with its first account."""


@dataclasses.dataclass(frozen=True)
class Access:
    """How to reach the stack from this machine.

    Attributes:
        tracking_uri: address of MLflow behind proxy and ingress, as browsers and clients use it.
        model_url: address of the served model, without ``/invocations``.
        username: name of the first account.
        password: its password.
    """

    tracking_uri: str
    model_url: str
    username: str
    password: str = dataclasses.field(repr=False)

    def environment(self) -> dict[str, str]:
        """Return what MLflow's client reads (MLflow documentation, "Environment Variables")."""
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def block(self) -> str:
        """Return the environment as lines that a POSIX shell takes."""
        values = self.environment().items()
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values)


def missing(status: Mapping[str, typing.Any], without: Container[str] = ()) -> list[str]:
    """Return what is not active yet or still has work to do.

    Args:
        status: what ``juju status --format json`` prints.
        without: applications that are left out.
    """
    found: list[str] = []
    for name, application in status["applications"].items():
        if name in without:
            continue
        units = application.get("units", {})
        if len(units) != application.get("scale", 0):
            found.append(f"{name} has {len(units)} of {application.get('scale', 0)} units")
        for unit, view in units.items():
            workload, agent = view["workload-status"], view["juju-status"]
            if workload["current"] != "active":
                found.append(f"{unit} {workload['current']}: {workload.get('message', '')}")
            elif agent["current"] != "idle":
                found.append(f"{unit} {agent.get('message') or agent['current']}")
    return found


def write_overlay(path: pathlib.Path, port: int) -> pathlib.Path:
    """Write the overlay with what holds for one home only: its port, and exact images.

    Args:
        path: the file to write.
        port: the port on 127.0.0.1 for the ingress.

    Returns:
        The file.
    """
    document = yaml.safe_load(OVERLAY.read_text())
    known = images.read()
    applications: dict[str, typing.Any] = {}
    for name, spec in document["applications"].items():
        pinned = {
            key: _pinned(known, image) for key, image in (spec.get("resources") or {}).items()
        }
        applications[name] = {"resources": pinned} if pinned else {}
    applications[INGRESS]["annotations"] = {"onebox/publish": f"{port}:80"}
    applications[INGRESS]["options"] = {"external_hostname": f"localhost:{port}"}
    path.write_text(yaml.safe_dump({"applications": applications}))
    return path


def _pinned(known: Mapping[str, images.Image], image: str) -> str:
    """Return the full name of an image, so that another checkout's build does not change it."""
    name = image.removeprefix(f"{images.REPOSITORY}/").removesuffix(":latest")
    return known[name].reference if name in known else image


def juju(*arguments: str, echo: bool = False) -> str:
    """Run onebox's ``juju`` and return what it printed.

    Args:
        *arguments: its command line.
        echo: whether the user sees what it prints.

    Raises:
        console.CommandError: it failed; the text is its own.
    """
    done = subprocess.run(
        [str(JUJU), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = (done.stderr.strip() or done.stdout.strip()).removeprefix("ERROR ")
        raise console.CommandError(f"juju {arguments[0]}: {message}")
    if echo:
        console.say((done.stdout + done.stderr).rstrip())
    return done.stdout


def find_access() -> Access:
    """Ask the deployed applications for addresses and the login.

    Raises:
        console.CommandError: they have none.
    """
    view = json.loads(juju("show-unit", "--model", MODEL, f"{SERVER}/0", "--format", "json"))
    relations = view[f"{SERVER}/0"]["relation-info"]
    bags = [one["application-data"] for one in relations if one["endpoint"] == "basic-auth"]
    endpoints = json.loads(bags[0].get("endpoints", "[]")) if bags else []
    addresses = {one["application"]: one.get("external-url") or one["url"] for one in endpoints}
    secrets = json.loads(juju("secrets", "--model", MODEL, "--owner", PROXY, "--format", "json"))
    labelled = [key for key, secret in secrets.items() if secret.get("label") == FIRST_USER]
    if not labelled or not {SERVER, MODELS} <= addresses.keys():
        raise console.CommandError(f"{PROXY} has not published its addresses and login")
    shown = juju("show-secret", "--model", MODEL, labelled[0], "--reveal", "--format", "json")
    login = json.loads(shown)[labelled[0]]["content"]["Data"]
    return Access(
        tracking_uri=addresses[SERVER].rstrip("/") + "/",
        model_url=addresses[MODELS].rstrip("/"),
        username=login["username"],
        password=login["password"],
    )
