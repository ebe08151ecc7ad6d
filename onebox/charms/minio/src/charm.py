"""MinIO with the wire of the Charmhub charm `minio`."""

from __future__ import annotations

import re
import secrets

import ops
import yaml

import minio
from mlflow_kit import databag, problems, workload
from mlflow_kit.interfaces import sdi

_ENDPOINT = "object-storage"
_LABEL = "root-account"

# MinIO answers within a second or two; a busy machine may take its time.
_SETTLE = 30


class MinioCharm(ops.CharmBase):
    """One MinIO server on the storage of unit 0."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._container = self.unit.get_container("minio")
        self._problems: tuple[problems.Problem, ...] | None = None
        pebble = self.on["minio"]
        relation = self.on[_ENDPOINT]
        for event in (
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.update_status,
            self.on["minio-data"].storage_attached,
            pebble.pebble_ready,
            pebble.pebble_check_failed,
            pebble.pebble_check_recovered,
            relation.relation_created,
            relation.relation_changed,
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
        if not self.unit.name.endswith("/0"):
            return (problems.blocked("MinIO serves from one unit here: scale to 1"),)
        try:
            credentials = self._credentials()
        except ValueError as error:
            # The server keeps running with the last good credentials.
            return (problems.blocked(str(error)),)
        if credentials is None:
            return (problems.waiting("waiting for leadership to make the secret key"),)
        self.unit.set_ports(minio.PORT)
        health = workload.apply(self._container, minio.plan(credentials), settle=_SETTLE)
        if minio.SERVICE in health.restarted:
            self._set_version()
        if self.unit.is_leader():
            for relation in self.model.relations[_ENDPOINT]:
                self._publish(relation, credentials, ready=health.ok)
        return health.problems

    def _credentials(self) -> minio.Credentials | None:
        """Return the root account, or None where only the leader can make it.

        Raises:
            ValueError: if an option is out of bounds.
        """
        access_key = str(self.config["access-key"])
        if secret_key := str(self.config["secret-key"]):
            return minio.Credentials(access_key=access_key, secret_key=secret_key)
        try:
            content = self.model.get_secret(label=_LABEL).get_content()
        except ops.SecretNotFoundError:
            if not self.unit.is_leader():
                return None
            content = {"secret-key": secrets.token_urlsafe(30)}
            self.app.add_secret(content, label=_LABEL, description="root account of MinIO")
        return minio.Credentials(access_key=access_key, secret_key=content["secret-key"])

    def _publish(
        self, relation: ops.Relation, credentials: minio.Credentials, *, ready: bool
    ) -> None:
        """Say which versions we speak and, once both are known, send the account.

        What was sent stays during an outage, as with the real charm: its clients try again,
        and taking it away would stop them.
        """
        bag = relation.data[self.app]
        databag.save(bag, sdi.versions("v1"))
        if ready and sdi.speaks(databag.remote_app(relation)):
            data = {
                "access-key": credentials.access_key,
                "namespace": self.model.name,
                "port": minio.PORT,
                "secret-key": credentials.secret_key,
                "secure": False,
                "service": self.app.name,
            }
            databag.save(bag, {"data": yaml.safe_dump(data)})

    def _set_version(self) -> None:
        output, _ = self._container.exec(["minio", "--version"], timeout=20).wait_output()
        # The first line is "minio version RELEASE.2026-02-12T20-18-48Z (commit-id=...)"; a program
        # built from a Go module does not know its release.
        release = re.match(r"minio version (RELEASE\.\S+)", output)
        if release:
            self.unit.set_workload_version(release[1])


if __name__ == "__main__":
    ops.main(MinioCharm)
