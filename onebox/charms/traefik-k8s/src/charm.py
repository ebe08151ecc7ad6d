"""An ingress with the wire of the Charmhub charm `traefik-k8s`."""

from __future__ import annotations

import ops

import nginx
import wire
from mlflow_kit import databag, problems, uris, workload
from mlflow_kit.databag import Absent, Invalid

_ENDPOINT = "ingress"
_OPTION = "external_hostname"

# nginx answers at once; a busy machine may take its time.
_SETTLE = 20


class TraefikCharm(ops.CharmBase):
    """Every unit serves all routes."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._container = self.unit.get_container("traefik")
        self._problems: tuple[problems.Problem, ...] | None = None
        pebble = self.on["traefik"]
        relation = self.on[_ENDPOINT]
        for event in (
            self.on.config_changed,
            self.on.upgrade_charm,
            self.on.leader_elected,
            self.on.update_status,
            pebble.pebble_ready,
            pebble.pebble_check_failed,
            pebble.pebble_check_recovered,
            relation.relation_created,
            relation.relation_changed,
            relation.relation_departed,
            relation.relation_broken,
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
        try:
            external = self._external_host()
        except ValueError as error:
            # Routes and addresses stay as they are.
            return (problems.blocked(str(error)),)
        self.unit.set_ports(nginx.PORT)
        routes, found = self._routes()
        resolv_conf = workload.read_text(self._container, "/etc/resolv.conf")
        plan = nginx.plan([*routes.values()], nginx.nameserver(resolv_conf or ""))
        health = workload.apply(self._container, plan, settle=_SETTLE)
        if external is None:
            found.append(problems.waiting(f"waiting for an address; {_OPTION} can give one"))
        # While nginx is away, what was sent stays: it comes back under the same address.
        if health.ok and external and self.unit.is_leader():
            self._publish(routes, external)
        return (*health.problems, *found)

    def _external_host(self) -> uris.Endpoint | None:
        """Return where clients reach this ingress, or None while nobody knows.

        Raises:
            ValueError: the option is neither a host nor a host and a port.
        """
        option = str(self.config[_OPTION])
        if option:
            try:
                return uris.parse_endpoint(option, nginx.PORT)
            except ValueError as error:
                raise ValueError(f"option {_OPTION} {error}") from None
        binding = self.model.get_binding(_ENDPOINT)
        address = binding.network.ingress_address if binding else None
        return uris.Endpoint(str(address), nginx.PORT) if address else None

    def _routes(self) -> tuple[dict[int, nginx.Route], list[problems.Problem]]:
        """Read all requests, by relation id; a path that two want is given to neither."""
        routes: dict[int, nginx.Route] = {}
        found: list[problems.Problem] = []
        for relation in self.model.relations[_ENDPOINT]:
            units = sorted(relation.units, key=lambda unit: unit.name)
            route = wire.read(
                databag.remote_app(relation), [dict(relation.data[unit]) for unit in units]
            )
            if isinstance(route, Invalid):
                found.append(problems.blocked(f"{relation.app.name}: {route.reason}"))
            elif not isinstance(route, Absent):
                # A relation that has not asked yet is no problem of ours.
                routes[relation.id] = route
        prefixes = [route.prefix for route in routes.values()]
        twice = {prefix for prefix in prefixes if prefixes.count(prefix) > 1}
        found.extend(
            problems.blocked(f"several applications ask for the path {prefix}")
            for prefix in sorted(twice)
        )
        return {key: route for key, route in routes.items() if route.prefix not in twice}, found

    def _publish(self, routes: dict[int, nginx.Route], external: uris.Endpoint) -> None:
        """Give each relation its address, and take back what has no route any more."""
        host = uris.bracketed(external.host) if external.port == nginx.PORT else str(external)
        for relation in self.model.relations[_ENDPOINT]:
            route = routes.get(relation.id)
            url = f"http://{host}{route.prefix}" if route else ""
            databag.save(relation.data[self.app], wire.answer(url))


if __name__ == "__main__":
    ops.main(TraefikCharm)
