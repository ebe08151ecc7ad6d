"""What the charm `resource-dispatcher` keeps of what it was sent."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import ops
import pytest
from ops import testing

import charm
from mlflow_kit import testing as kit_testing
from onebox.charms import simulation

Unit = simulation.Unit[charm.ResourceDispatcherCharm]
Manifest = dict[str, Any]


@pytest.fixture(autouse=True)
def pebble() -> Iterator[None]:
    with kit_testing.simulation():
        yield


@pytest.fixture
def make_unit(tmp_path: pathlib.Path) -> Callable[..., Unit]:
    def make(**options: Any) -> Unit:
        return simulation.Unit(
            charm.ResourceDispatcherCharm,
            "resource-dispatcher",
            tmp_path,
            keeps=("/run",),
            **options,
        )

    return make


def secret(name: str, namespace: str = "", **data: str) -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def relation(endpoint: str = "secrets", **remote: str) -> testing.Relation:
    return testing.Relation(endpoint, remote_app_data=remote)


def plain(
    *manifests: Manifest, endpoint: str = "secrets", app: str = "remote"
) -> testing.Relation:
    bag = {"kubernetes_manifests": json.dumps(manifests)}
    return testing.Relation(endpoint, remote_app_name=app, remote_app_data=bag)


def kept(unit: Unit, endpoint: str) -> list[Manifest]:
    return json.loads(file(unit, endpoint).read_text())


def file(unit: Unit, endpoint: str) -> pathlib.Path:
    folder = unit.container.get_filesystem(unit.context) / "manifests"
    return folder / f"{endpoint}.json"


def test_plaintext_manifests_are_kept(make_unit: Callable[..., Unit]) -> None:
    # GIVEN objects in the databag, as library 0.1 sends them
    unit = make_unit(relations={plain(secret("b"), app="x"), plain(secret("a"), app="y")})
    # WHEN the charm runs
    unit.run()
    # THEN all of them are in the endpoint's file, in a stable order, for root only
    assert unit.status == ops.ActiveStatus()
    assert kept(unit, "secrets") == [secret("a"), secret("b")]
    assert file(unit, "secrets").stat().st_mode & 0o777 == 0o600
    assert kept(unit, "pod-defaults") == []


def test_manifests_in_a_secret_are_kept(make_unit: Callable[..., Unit]) -> None:
    # GIVEN objects in a Juju secret, as library 0.2 sends them
    content = {"manifests": json.dumps([secret("a", key="canary")])}
    stored = testing.Secret(content)
    unit = make_unit(
        secrets={stored},
        relations={relation(kubernetes_manifests=stored.id, is_secret="true")},
    )
    # WHEN the charm runs
    unit.run()
    # THEN they are in the file, and nowhere in what Juju shows
    assert kept(unit, "secrets") == [secret("a", key="canary")]
    assert "canary" not in str([log.message for log in unit.context.juju_log])


def test_new_revision_is_read(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a secret whose first revision was read, and that has changed since
    stored = testing.Secret(
        {"manifests": json.dumps([secret("old")])},
        latest_content={"manifests": json.dumps([secret("new")])},
    )
    unit = make_unit(
        secrets={stored},
        relations={relation(kubernetes_manifests=stored.id, is_secret="true")},
    )
    # WHEN Juju says so
    unit.run(unit.context.on.secret_changed(stored))
    # THEN the new content is kept
    assert kept(unit, "secrets") == [secret("new")]


def test_secret_that_is_not_granted_is_waited_for(make_unit: Callable[..., Unit]) -> None:
    # GIVEN the URI of a secret that may not be read
    unit = make_unit(
        relations={relation(kubernetes_manifests="secret:0123456789abcdefghij", is_secret="true")}
    )
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    message = "waiting for a grant of its secret from remote"
    assert unit.status == ops.WaitingStatus(message)


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("secrets", "Secret"),
        ("service-accounts", "ServiceAccount"),
        ("pod-defaults", "PodDefault"),
        ("config-maps", "ConfigMap"),
    ],
)
def test_each_endpoint_takes_its_kind(
    make_unit: Callable[..., Unit], endpoint: str, kind: str
) -> None:
    # GIVEN an object of the endpoint's kind
    manifest = {"kind": kind, "metadata": {"name": "a"}}
    unit = make_unit(relations={plain(manifest, endpoint=endpoint)})
    # WHEN the charm runs
    unit.run()
    # THEN it is in that endpoint's file
    assert kept(unit, endpoint) == [manifest]


def test_name_may_occur_once_in_each_namespace(make_unit: Callable[..., Unit]) -> None:
    # GIVEN one name for everyone and for two namespaces
    sent = [secret("a"), secret("a", "x"), secret("a", "y")]
    unit = make_unit(relations={plain(*sent)})
    # WHEN the charm runs
    unit.run()
    # THEN all are kept
    assert unit.status == ops.ActiveStatus()
    assert kept(unit, "secrets") == sent


def test_name_that_two_send_blocks(make_unit: Callable[..., Unit]) -> None:
    # GIVEN two applications that send the same name
    unit = make_unit(relations={plain(secret("a"), app="x"), plain(secret("a"), app="y")})
    # WHEN the charm runs
    unit.run()
    # THEN it says which
    assert unit.status == ops.BlockedStatus("secrets: a was sent more than once")
    assert kept(unit, "secrets") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "manifests are not JSON"),
        ("secret:0123456789abcdefghij", "manifests are not JSON"),
        ("{}", "manifests are not a list"),
        ("[1]", "a manifest is not a mapping"),
        (
            '[{"kind": "PodDefault", "metadata": {"name": "a"}}]',
            "a manifest is not of kind Secret",
        ),
        ('[{"kind": "Secret"}]', "a manifest has no name"),
        ('[{"kind": "Secret", "metadata": {"name": 1}}]', "a manifest has no name"),
    ],
)
def test_malformed_manifests_block_and_keep_the_last_ones(
    make_unit: Callable[..., Unit], tmp_path: pathlib.Path, text: str, reason: str
) -> None:
    # GIVEN objects that were kept
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "secrets.json").write_text(json.dumps([secret("a")]))
    unit = make_unit(relations={relation(kubernetes_manifests=text)})
    mount = testing.Mount(location="/manifests/secrets.json", source=folder / "secrets.json")
    unit.change_container(mounts={**unit.container.mounts, "secrets": mount})
    # WHEN something malformed arrives
    unit.run()
    # THEN the status says what it is, and the file stays
    assert unit.status == ops.BlockedStatus(f"secrets of remote: {reason}")
    assert kept(unit, "secrets") == [secret("a")]


@pytest.mark.parametrize("remote", [{}, {"kubernetes_manifests": "[]"}, {"later": "x"}])
def test_nothing_sent_is_nothing_kept(
    make_unit: Callable[..., Unit], remote: dict[str, str]
) -> None:
    # GIVEN a relation without objects
    unit = make_unit(relations={relation(**remote)})
    # WHEN the charm runs
    unit.run()
    # THEN it is active, and the file is an empty list
    assert unit.status == ops.ActiveStatus()
    assert kept(unit, "secrets") == []


def test_objects_go_with_their_relation(make_unit: Callable[..., Unit]) -> None:
    # GIVEN objects of a relation
    sender = plain(secret("a"))
    unit = make_unit(relations={sender})
    # WHEN it is removed
    unit.run(unit.context.on.relation_broken(sender))
    # THEN they are not kept
    assert kept(unit, "secrets") == []


def test_follower_keeps_them_too(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit that is not the leader
    unit = make_unit(number=1, leader=False, relations={plain(secret("a"))})
    # WHEN it runs
    unit.run()
    # THEN it has the objects
    assert kept(unit, "secrets") == [secret("a")]


def test_unreachable_container_waits(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a container whose Pebble does not answer
    unit = make_unit()
    unit.change_container(can_connect=False)
    # WHEN the charm runs
    unit.run()
    # THEN it waits
    message = "container resource-dispatcher is not ready"
    assert unit.status == ops.WaitingStatus(message)


def test_stopping_is_said(make_unit: Callable[..., Unit]) -> None:
    # GIVEN a unit
    unit = make_unit()
    # WHEN it stops
    unit.run(unit.context.on.stop())
    # THEN it does not claim to be active
    assert unit.status == ops.MaintenanceStatus("stopping")
