"""What we tell other applications; pure: State and health to databags."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import config
import notebook
from mlflow_kit import uris, workload
from mlflow_kit.interfaces import (
    ingress,
    kubernetes_manifest,
    mlflow_client,
    mysql_client,
    object_storage,
    postgresql_client,
)
from state import PORT, Identity, State


def unit_requests(identity: Identity) -> dict[str, Mapping[str, str]]:
    """Return what each unit asks for, by endpoint."""
    return {
        "ingress": ingress.unit_request(
            host=uris.unit_host(identity.unit, identity.model), ip=identity.address
        )
    }


def requests(identity: Identity, settings: config.Config | None) -> dict[str, Mapping[str, str]]:
    """Return what the application asks for, by endpoint.

    Args:
        identity: who we are.
        settings: the options; None when they are wrong, and then what depends on them is not
            asked for anew.
    """
    found: dict[str, Mapping[str, str]] = {
        "object-storage": object_storage.request(),
        "ingress": ingress.request(
            application=identity.application,
            model=identity.model,
            port=PORT,
            prefix=f"/{identity.application}/",
        ),
    }
    if settings is not None:
        found["postgresql"] = postgresql_client.request(settings.database)
        found["mysql"] = mysql_client.request(settings.database)
    return found


def outgoing(
    state: State | None, health: workload.Health, version: str
) -> dict[str, Mapping[str, str]]:
    """Return what the application answers, by endpoint.

    Args:
        state: the inputs; None when the server must not run.
        health: whether it runs.
        version: MLflow's version.
    """
    found: dict[str, Mapping[str, str]] = {
        "pod-defaults": kubernetes_manifest.plaintext(
            notebook.pod_defaults(state) if state else []
        )
    }
    if state is not None and health.ok:
        found["mlflow"] = mlflow_client.write(
            mlflow_client.Tracking(uri=state.direct_url, version=version, artifacts="proxied")
        )
    elif state is None or not health.starting:
        found["mlflow"] = mlflow_client.write(None)
    return found


def connection(state: State) -> dict[str, str]:
    """Return the answer of the action ``get-connection``."""
    uri = state.external_url or state.internal_url
    found = {"tracking-uri": uri, "in-cluster-uri": state.internal_url}
    if state.external_url:
        found["external-uri"] = state.external_url
    lines = [f"export MLFLOW_TRACKING_URI={shlex.quote(uri)}"]
    if state.account is not None and state.proxied is not None:
        # Juju's commands take the bare id; databags of other models hold a long form.
        secret = state.account.secret.rpartition("/")[2].removeprefix("secret:")
        found["username"] = state.account.username
        found["password-secret"] = f"secret:{secret}"
        pick = (
            "import json, sys; print(next(iter(json.load(sys.stdin).values()))"
            '["content"]["Data"]["password"])'
        )
        show = f"juju show-secret --reveal --format json {shlex.quote(secret)}"
        lines += [
            f"export MLFLOW_TRACKING_USERNAME={shlex.quote(state.account.username)}",
            f'export MLFLOW_TRACKING_PASSWORD="$({show} | python3 -c {shlex.quote(pick)})"',
        ]
    found["environment"] = "\n".join(lines)
    return found
