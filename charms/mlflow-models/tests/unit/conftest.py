"""A unit of the charm whose container holds what its programs would have written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ops
import pytest
from ops import testing

import charm
import layout
import scoring
from mlflow_kit import testing as kit_testing

TRACKING_URI = "http://mlflow-server.m.svc.cluster.local:5000"
STORE = {
    "access-key": "key",
    "secret-key": "canary'; # secret",
    "namespace": "m",
    "port": 9000,
    "secure": False,
    "service": "minio",
}


def mlflow(**bag: str) -> testing.Relation:
    return testing.Relation("mlflow", remote_app_name="mlflow-server", remote_app_data=bag)


def tracking() -> testing.Relation:
    return mlflow(**{"tracking-uri": TRACKING_URI, "version": "3.17.2"})


def object_storage(**changes: object) -> testing.Relation:
    return testing.Relation(
        "object-storage",
        remote_app_name="minio",
        remote_app_data={
            "_supported_versions": "- v1\n",
            "data": json.dumps({**STORE, **changes}),
        },
    )


class Unit:
    """One unit, from event to event.

    Attributes:
        state: what Juju knows, and what the last event left.
    """

    def __init__(self, folder: Path) -> None:
        self._context = testing.Context(charm.MlflowModelsCharm, app_name="models")
        self._folder = folder
        # Without mounts, ops.testing would empty the file system before each event.
        mounts: dict[str, testing.Mount] = {}
        for name in ("etc", "opt", "run", "var"):
            (folder / name).mkdir(parents=True)
            mounts[name] = testing.Mount(location=f"/{name}", source=folder / name)
        self.state = testing.State(
            leader=True,
            containers={testing.Container(layout.CONTAINER, can_connect=True, mounts=mounts)},
            model=testing.Model(name="m"),
        )

    @property
    def on(self) -> testing.CharmEvents:
        return self._context.on

    @property
    def logs(self) -> str:
        return "\n".join(log.message for log in self._context.juju_log)

    @property
    def action_results(self) -> dict[str, Any] | None:
        return self._context.action_results

    @property
    def container(self) -> testing.Container:
        return self.state.get_container(layout.CONTAINER)

    @property
    def status(self) -> object:
        return self.state.unit_status

    @property
    def message(self) -> str:
        return self.state.unit_status.message

    @property
    def running(self) -> set[str]:
        """Names of the services that run."""
        return {
            name
            for name, status in self.container.service_statuses.items()
            if status is ops.pebble.ServiceStatus.ACTIVE
        }

    def set(self, **changes: Any) -> None:
        """Change what Juju knows."""
        self.state = dataclasses.replace(self.state, **changes)

    def run(self, event: Any) -> testing.State:
        self.state = self._context.run(event, self.state)
        return self.state

    def configure(self, **options: Any) -> testing.State:
        found = {key.replace("_", "-"): value for key, value in options.items()}
        self.set(config={**self.state.config, **found})
        return self.run(self.on.config_changed())

    def file(self, path: str) -> Path:
        """A file of the container."""
        return self._folder / path.lstrip("/")

    def json(self, path: str) -> Any:
        return json.loads(self.file(path).read_text())

    def notice(self) -> testing.State:
        notice = testing.Notice(key="charm.mlflow/changed")
        found = dataclasses.replace(self.container, notices=[notice])
        self.set(containers={found})
        return self.run(self.on.pebble_custom_notice(found, notice))

    def fetched(self, serial: int = 1, uri: str = "models:/wine/1") -> testing.State:
        """Have the fetcher finish its job."""
        requested = self.json(layout.JOB_FILE)["uri"]
        path = f"{layout.STORE}/models/{serial}"
        model = {"serial": serial, "path": path, "uri": uri, "requested": requested}
        return self._result({"error": "", "blocked": False, "model": model})

    def not_fetched(self, error: str, *, blocked: bool) -> testing.State:
        """Have the fetcher give up on its job."""
        old = self.file(layout.RESULT_FILE)
        model = json.loads(old.read_text())["model"] if old.exists() else None
        return self._result({"error": error, "blocked": blocked, "model": model})

    def _result(self, content: dict[str, Any]) -> testing.State:
        job = self.json(layout.JOB_FILE)["id"]
        self.file(layout.RESULT_FILE).write_text(json.dumps({"job": job, **content}))
        return self.notice()

    def report(self, server: str, status: str, error: str = "") -> testing.State:
        """Have a server say how far it is."""
        asked = self.json(layout.slot_file(server))
        content = {
            "generation": asked["generation"],
            "serial": asked["serial"],
            "status": status,
            "error": error,
            "mlflow": "3.17.2",
        }
        self.file(layout.report_file(server)).write_text(json.dumps(content))
        return self.notice()

    def check_up(self) -> testing.State:
        """Have the health check succeed."""
        info = testing.CheckInfo(
            layout.CHECK,
            status=ops.pebble.CheckStatus.UP,
            successes=3,
            failures=0,
            threshold=scoring.THRESHOLD,
        )
        self.set(containers={dataclasses.replace(self.container, check_infos={info})})
        return self.run(self.on.update_status())

    def serving(self) -> None:
        """Bring the unit to serving `models:/wine@champion`, which is version 1."""
        self.set(relations={tracking()})
        self.configure(models_uri="models:/wine@champion")
        self.fetched()
        self.report("serve-a", "up")
        self.check_up()


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    with kit_testing.simulation():
        yield Unit(tmp_path / "first")
