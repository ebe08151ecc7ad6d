"""The kit's small parts: statuses, databags and secrets, on ops.testing."""

from __future__ import annotations

import ops
import pytest
from ops import testing

from mlflow_kit import databag, problems, secrets, shared_secret

META = {"name": "probe", "requires": {"db": {"interface": "x"}}}


class Probe(ops.CharmBase):
    """Does what a test asks for."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.collect_unit_status, self._on_collect)
        self.problems: tuple[problems.Problem, ...] = ()

    def _on_update_status(self, _: ops.EventBase) -> None:
        pass

    def _on_collect(self, event: ops.CollectStatusEvent) -> None:
        problems.report(event, self.problems, "all is well")


@pytest.fixture
def ctx() -> testing.Context[Probe]:
    return testing.Context(Probe, META)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ((), testing.ActiveStatus("all is well")),
        ((problems.waiting("w"),), testing.WaitingStatus("w")),
        (
            (problems.waiting("w"), problems.maintenance("m")),
            testing.MaintenanceStatus("m"),
        ),
        (
            (problems.waiting("w"), problems.blocked("first"), problems.blocked("second")),
            testing.BlockedStatus("first"),
        ),
    ],
)
def test_the_most_urgent_problem_is_the_status(ctx, found, status):
    with ctx(ctx.on.update_status(), testing.State()) as manager:
        manager.charm.problems = found
        assert manager.run().unit_status == status


def test_a_databag_is_written_only_where_it_differs(ctx):
    relation = testing.Relation("db", local_app_data={"a": "1", "b": "2"})
    state = testing.State(leader=True, relations={relation})
    with ctx(ctx.on.update_status(), state) as manager:
        charm = manager.charm
        bag = charm.model.relations["db"][0].data[charm.app]
        assert not databag.save(bag, {"a": "1", "c": ""})
        assert databag.save(bag, {"a": "1", "b": "", "c": "3"})
        out = manager.run()
    assert out.get_relation(relation.id).local_app_data == {"a": "1", "c": "3"}


def test_the_databag_of_the_other_application(ctx):
    relation = testing.Relation("db", remote_app_data={"a": "1"})
    with ctx(ctx.on.update_status(), testing.State(relations={relation})) as manager:
        assert databag.remote_app(manager.charm.model.relations["db"][0]) == {"a": "1"}


def test_the_newest_revision_of_a_secret_is_read(ctx):
    secret = testing.Secret({"password": "old"}, latest_content={"password": "new"})
    with ctx(ctx.on.update_status(), testing.State(secrets={secret})) as manager:
        assert secrets.reader(manager.charm.model)(secret.id) == {"password": "new"}


@pytest.mark.parametrize("uri", ["secret:unknown0000000000000", "", "no secret", "\n", "x" * 1000])
def test_a_secret_that_cannot_be_read_is_none(ctx, uri):
    with ctx(ctx.on.update_status(), testing.State()) as manager:
        assert secrets.reader(manager.charm.model)(uri) is None


def test_a_shared_secret_follows_its_content(ctx):
    def keep(state: testing.State, content: dict[str, str] | None) -> testing.State:
        with ctx(ctx.on.update_status(), state) as manager:
            charm = manager.charm
            secret = shared_secret.keep(charm.model, charm.app, "mine", content)
            if secret is not None:
                assert shared_secret.uri(secret).startswith("secret:")
            return manager.run()

    none = keep(testing.State(leader=True), None)
    assert not list(none.secrets)
    made = keep(none, {"key": "1"})
    assert made.get_secret(label="mine").latest_content == {"key": "1"}
    same = keep(made, {"key": "1"})
    assert same.get_secret(label="mine").id == made.get_secret(label="mine").id
    changed = keep(same, {"key": "2"})
    assert changed.get_secret(label="mine").latest_content == {"key": "2"}
    gone = keep(changed, None)
    assert not list(gone.secrets)
