"""A keeper of manifests with the wire of the Charmhub charm `resource-dispatcher`."""

from __future__ import annotations

import ops

import manifests
from mlflow_kit import databag, problems, secrets, workload
from mlflow_kit.databag import Absent, Invalid


class ResourceDispatcherCharm(ops.CharmBase):
    """Keeps what it was sent in files of its container."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._container = self.unit.get_container("resource-dispatcher")
        self._problems: tuple[problems.Problem, ...] | None = None
        relations = [self.on[endpoint] for endpoint in manifests.KINDS]
        for event in (
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.update_status,
            self.on.secret_changed,
            self.on["resource-dispatcher"].pebble_ready,
            *(relation.relation_created for relation in relations),
            *(relation.relation_changed for relation in relations),
            *(relation.relation_broken for relation in relations),
        ):
            framework.observe(event, self._on_reconcile)
        for event in (self.on.stop, self.on.remove):
            framework.observe(event, self._on_stop)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_reconcile(self, _: ops.EventBase) -> None:
        self._problems = self._reconcile()

    def _on_stop(self, _: ops.EventBase) -> None:
        self._problems = (problems.maintenance("stopping"),)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        # After an event for which nothing was looked at, the status stays what it is.
        if self._problems is not None:
            problems.report(event, self._problems)

    def _reconcile(self) -> tuple[problems.Problem, ...]:
        contents: dict[str, str] = {}
        found: list[problems.Problem] = []
        for endpoint in manifests.KINDS:
            content, faults = self._read(endpoint)
            contents[endpoint] = content
            found.extend(faults)
        health = workload.apply(self._container, manifests.plan(contents))
        return (*health.problems, *found)

    def _read(self, endpoint: str) -> tuple[str, list[problems.Problem]]:
        """Return what the file of an endpoint shall hold.

        With a problem it stays as it is, as the real charm leaves the namespaces alone then.
        """
        sent: list[manifests.Manifest] = []
        found: list[problems.Problem] = []
        for relation in self.model.relations[endpoint]:
            answer = manifests.read(
                databag.remote_app(relation),
                secrets.reader(self.model),
                manifests.KINDS[endpoint],
            )
            if isinstance(answer, Absent):
                text = f"waiting for {answer.waiting_for} from {relation.app.name}"
                found.append(problems.waiting(text))
            elif isinstance(answer, Invalid):
                text = f"{endpoint} of {relation.app.name}: {answer.reason}"
                found.append(problems.blocked(text))
            else:
                sent.extend(answer)
        found.extend(
            problems.blocked(f"{endpoint}: {name} was sent more than once")
            for name in manifests.duplicates(sent)
        )
        if found:
            kept = workload.read_text(self._container, manifests.path(endpoint))
            return kept or manifests.dump([]), found
        return manifests.dump(sent), []


if __name__ == "__main__":
    ops.main(ResourceDispatcherCharm)
