"""States to start from."""

from __future__ import annotations

import contextvars
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ops import testing

import charm
import nginx
from mlflow_kit import testing as kit_testing

MODEL = "team"
SERVER_UNIT = {
    "host": '"mlflow-server-0.mlflow-server-endpoints.team.svc.cluster.local"',
    "ip": '"10.1.0.7"',
}
RESOLV_CONF = "search team.svc.cluster.local\nnameserver 10.152.183.10\noptions ndots:5\n"


FILES: contextvars.ContextVar[Path] = contextvars.ContextVar("FILES")


@pytest.fixture(autouse=True)
def simulation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    FILES.set(tmp_path)
    # No check ever runs by itself in the simulation.
    monkeypatch.setattr(charm, "_SETTLE", 0)
    with kit_testing.simulation():
        yield


@pytest.fixture
def context() -> testing.Context[charm.HtpasswdProxyCharm]:
    return testing.Context(charm.HtpasswdProxyCharm)


def per_app(name: str = "mlflow-server", model: str = MODEL, **more: object) -> dict[str, str]:
    """The application databag of an IngressPerApp requirer."""
    content = {"model": model, "name": name, "port": 5000, "strip-prefix": True, **more}
    return {key: json.dumps(value) for key, value in content.items()}


def upstream(
    app: Mapping[str, str] | None = None,
    units: Mapping[int, Mapping[str, str]] | None = None,
    name: str = "mlflow-server",
) -> testing.Relation:
    return testing.Relation(
        "upstreams",
        remote_app_name=name,
        remote_app_data=dict(per_app(name) if app is None else app),
        remote_units_data={0: SERVER_UNIT} if units is None else {**units},
    )


def container(accepts: bool = True, **changes: object) -> testing.Container:
    """A container whose files live from one event to the next, unlike those of ops.testing."""
    folders = {"run": "/run", "dev": "/dev"}
    mounts = {
        name: testing.Mount(location=location, source=tempfile.mkdtemp(dir=FILES.get()))
        for name, location in folders.items()
    }
    execs = {
        testing.Exec(["nginx", "-t"], return_code=0 if accepts else 1, stderr="[emerg]"),
        testing.Exec(["nginx", "-v"], stdout="nginx version: nginx/1.22.1\n"),
    }
    return testing.Container(
        "nginx", **{"can_connect": True, "execs": execs, "mounts": mounts, **changes}
    )


def state(**changes: object) -> testing.State:
    options: dict[str, Any] = {
        "leader": True,
        "containers": {container()},
        "model": testing.Model(MODEL),
        "relations": {testing.PeerRelation("peers"), upstream()},
        **changes,
    }
    return testing.State(**options)


def with_container(before: testing.State, **changes: object) -> testing.State:
    found = dataclasses.replace(before.get_container("nginx"), **changes)
    return dataclasses.replace(before, containers={found})


def healthy(before: testing.State) -> testing.State:
    return with_container(before, check_infos={testing.CheckInfo(nginx.SERVICE, successes=1)})


def running(
    context: testing.Context[charm.HtpasswdProxyCharm], before: testing.State
) -> testing.State:
    """The state after nginx was started and has answered its check."""
    after = context.run(context.on.config_changed(), before)
    return context.run(context.on.update_status(), healthy(after))


def text(
    context: testing.Context[charm.HtpasswdProxyCharm], after: testing.State, path: str
) -> str:
    root = after.get_container("nginx").get_filesystem(context)
    return (root / path.lstrip("/")).read_text()


def users(context: testing.Context[charm.HtpasswdProxyCharm], after: testing.State) -> set[str]:
    return {line.split(":")[0] for line in text(context, after, nginx.PATHS.users).splitlines()}


def config(context: testing.Context[charm.HtpasswdProxyCharm], after: testing.State) -> str:
    return text(context, after, nginx.PATHS.config)


def secret(after: testing.State, label: str) -> testing.Secret:
    return after.get_secret(label=label)
