"""The environment of notebooks, as Kubernetes objects; pure.

The names are those of Charmed Kubeflow's mlflow-server where it has them: people's notebooks
and pipelines refer to them.
"""

from __future__ import annotations

from mlflow_kit.interfaces import kubernetes_manifest
from state import State


def secrets(state: State) -> list[kubernetes_manifest.Manifest]:
    """Return the Secrets."""
    found: list[kubernetes_manifest.Manifest] = []
    if state.account is not None and state.proxied is not None:
        found.append(
            _secret(
                _credentials(state),
                {
                    "MLFLOW_TRACKING_USERNAME": state.account.username,
                    "MLFLOW_TRACKING_PASSWORD": state.account.password,
                },
            )
        )
    if state.config.notebook_object_storage:
        found.append(
            _secret(
                _artifact_keys(state),
                {
                    "AWS_ACCESS_KEY_ID": state.storage.access_key,
                    "AWS_SECRET_ACCESS_KEY": state.storage.secret_key,
                },
            )
        )
    return found


def pod_defaults(state: State) -> list[kubernetes_manifest.Manifest]:
    """Return the PodDefaults; they hold no secrets, only references to them."""
    app = state.identity.application
    environment = [_value("MLFLOW_TRACKING_URI", state.internal_url)]
    if state.proxied is not None:
        environment += [
            _reference(name, _credentials(state))
            for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        ]
    if state.config.notebook_object_storage:
        environment.append(_value("MLFLOW_S3_ENDPOINT_URL", state.storage.url))
    found = [_pod_default(f"{app}-minio", "Allow access to MLflow", f"{app}-minio", environment)]
    if state.config.notebook_object_storage:
        found.append(
            _pod_default(
                f"{app}-access-minio",
                "Allow access to the object store of MLflow",
                "access-minio",
                [
                    _reference("AWS_ACCESS_KEY_ID", _artifact_keys(state)),
                    _reference("AWS_SECRET_ACCESS_KEY", _artifact_keys(state)),
                    _value("MINIO_ENDPOINT_URL", state.storage.url),
                ],
            )
        )
    return found


def _credentials(state: State) -> str:
    return f"{state.identity.application}-credentials"


def _artifact_keys(state: State) -> str:
    return f"{state.identity.application}-minio-artifact"


def _secret(name: str, content: dict[str, str]) -> kubernetes_manifest.Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": content,
    }


def _pod_default(
    name: str, description: str, label: str, environment: list[dict[str, object]]
) -> kubernetes_manifest.Manifest:
    return {
        "apiVersion": "kubeflow.org/v1alpha1",
        "kind": "PodDefault",
        "metadata": {"name": name},
        "spec": {
            "desc": description,
            "env": environment,
            "selector": {"matchLabels": {label: "true"}},
        },
    }


def _value(name: str, value: str) -> dict[str, object]:
    return {"name": name, "value": value}


def _reference(name: str, secret: str) -> dict[str, object]:
    reference = {"name": secret, "key": name, "optional": False}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}
