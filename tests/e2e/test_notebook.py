"""What a notebook gets through relation data is all that it needs."""

from __future__ import annotations

import json
import re
import typing

import jubilant
import pytest

from onebox import stack
from tests.e2e import users

DISPATCHER = "resource-dispatcher"
Manifest = dict[str, typing.Any]


def manifests(juju: jubilant.Juju, endpoint: str) -> list[Manifest]:
    """Return what the dispatcher keeps for users' namespaces."""
    file = f"/manifests/{endpoint}.json"
    return json.loads(juju.ssh(f"{DISPATCHER}/0", "cat", file, container=DISPATCHER))


def environment(pod_default: Manifest, secrets: list[Manifest]) -> dict[str, str]:
    """Return the variables of a container that a PodDefault is applied to.

    Kubeflow's admission webhook adds ``spec.env`` to each container of a pod with the labels of
    the selector, and the kubelet looks up the references to Secrets of the namespace.
    """
    known = {secret["metadata"]["name"]: secret["stringData"] for secret in secrets}
    found: dict[str, str] = {}
    for entry in pod_default["spec"]["env"]:
        if "value" in entry:
            found[entry["name"]] = entry["value"]
        else:
            reference = entry["valueFrom"]["secretKeyRef"]
            found[entry["name"]] = known[reference["name"]][reference["key"]]
    return found


@pytest.fixture(scope="module")
def notebook(made: users.Made) -> dict[str, str]:
    """The environment of a notebook with the label that Charmed Kubeflow's users set."""
    juju = jubilant.Juju(model=stack.MODEL)
    label = f"{stack.SERVER}-minio"
    matching = [
        manifest
        for manifest in manifests(juju, "pod-defaults")
        if manifest["spec"]["selector"]["matchLabels"] == {label: "true"}
    ]
    assert [manifest["kind"] for manifest in matching] == ["PodDefault"]
    return environment(matching[0], manifests(juju, "secrets"))


def test_the_example_runs_in_a_notebook_with_nothing_else(
    notebook: dict[str, str], client: users.Client
) -> None:
    before = set(client.session("runs")["runs"])
    printed = users.Client(notebook, inside=True).python("/examples/notebook_run.py")
    run = re.search(r"run (\w{32}): r2 0\.\d+, the model was read back", printed)
    assert run, printed
    # THEN the run is where everybody sees it
    assert set(client.session("runs")["runs"]) - before == {run[1]}


def test_a_notebook_logs_in_with_an_account_of_its_own(
    notebook: dict[str, str], access: stack.Access
) -> None:
    login = notebook["MLFLOW_TRACKING_USERNAME"], notebook["MLFLOW_TRACKING_PASSWORD"]
    assert login[0] != access.username
    assert users.http(access.tracking_uri, login=login).status == 200
    # and has no keys of the object store, which it does not need
    assert not [name for name in notebook if name.startswith("AWS_")]


def test_the_account_is_revoked_with_the_relation(
    notebook: dict[str, str], access: stack.Access, juju: jubilant.Juju
) -> None:
    old = notebook["MLFLOW_TRACKING_USERNAME"], notebook["MLFLOW_TRACKING_PASSWORD"]
    pair = f"{stack.SERVER}:basic-auth", f"{stack.PROXY}:basic-auth"
    juju.remove_relation(*pair)
    try:
        # THEN it is refused, and what a notebook would get has no login any more
        users.until(juju, lambda _: users.http(access.tracking_uri, login=old).status == 401)
        users.until(juju, lambda _: manifests(juju, "secrets") == [])
    finally:
        users.until(juju, lambda status: "basic-auth" not in status.apps[stack.SERVER].relations)
        juju.integrate(*pair)
    # AND a new relation brings a new one, which works
    users.settle(juju)
    default, *_ = manifests(juju, "pod-defaults")
    new = environment(default, manifests(juju, "secrets"))
    login = new["MLFLOW_TRACKING_USERNAME"], new["MLFLOW_TRACKING_PASSWORD"]
    assert login != old
    assert users.http(access.tracking_uri, login=login).status == 200
    assert users.http(access.tracking_uri, login=old).status == 401
