"""What a notebook of Kubeflow gets: a PodDefault and a Secret in each user's namespace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from conftest import DEPLOY_MINUTES, ROOT, SETTLE_MINUTES, Stack, kubectl

pytestmark = pytest.mark.abort_on_fail

# The label that resource-dispatcher goes by (its option target_namespace_label).
LABEL = "user.kubeflow.org/enabled=true"

# What the dispatcher and PodDefaults need and the overlay takes from Kubeflow.
KUBEFLOW = {"metacontroller-operator": "4.11/stable", "admission-webhook": "1.10/stable"}


@pytest.fixture(scope="module")
def user_namespace() -> Iterator[str]:
    """The namespace of a user, as Kubeflow makes one for a profile."""
    name = f"mlflow-user-{time.time_ns()}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, LABEL)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


async def test_deploys(stack: Stack):
    for charm, channel in KUBEFLOW.items():
        await stack.juju("deploy", charm, f"--channel={channel}", "--trust")
    await stack.settle(minutes=DEPLOY_MINUTES)
    await stack.deploy(ROOT / "overlays" / "kubeflow.yaml")


async def test_manifests_reach_the_users_namespace(stack: Stack, user_namespace: str):
    # GIVEN the namespace of a user, WHEN the dispatcher has had its time
    deadline = time.monotonic() + SETTLE_MINUTES * 60
    while True:
        defaults = json.loads(kubectl("get", "poddefaults", "-n", user_namespace, "-o", "json"))
        if defaults["items"]:
            break
        assert time.monotonic() < deadline, f"no PodDefault in {user_namespace}"
        await asyncio.sleep(10)
    # THEN its PodDefault sets the address of MLflow
    (default,) = (item for item in defaults["items"] if "mlflow" in item["metadata"]["name"])
    variables = {entry["name"]: entry for entry in default["spec"]["env"]}
    assert variables["MLFLOW_TRACKING_URI"]["value"].startswith("http")
    # THEN the password comes from a Secret that is there too, and is not in the PodDefault
    reference = variables["MLFLOW_TRACKING_PASSWORD"]["valueFrom"]["secretKeyRef"]
    secret = json.loads(
        kubectl("get", "secret", reference["name"], "-n", user_namespace, "-o", "json")
    )
    assert reference["key"] in secret["data"]
    assert "value" not in variables["MLFLOW_TRACKING_PASSWORD"]
