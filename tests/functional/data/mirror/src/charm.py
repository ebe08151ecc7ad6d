"""A charm that writes all that it can read into all that it can write.

Run once by ops-scenario and once on onebox for the same event and state, it must leave the same
databags, secrets, ports and status behind.
"""

import json

import ops


class MirrorCharm(ops.CharmBase):
    """Mirrors what it reads."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        for event in self.on.events().values():
            if not issubclass(event.event_type, ops.LifecycleEvent):
                framework.observe(event, self._on_event)

    def _on_event(self, event: ops.EventBase) -> None:
        seen = self._see()
        for endpoint in ("giver", "taker", "replicas"):
            for relation in self.model.relations[endpoint]:
                if not relation.active:
                    continue
                text = json.dumps({"event": type(event).__name__, **seen}, sort_keys=True)
                relation.data[self.unit]["seen"] = text
                relation.data[self.unit]["gone"] = ""
                if self.unit.is_leader():
                    relation.data[self.app]["seen"] = text
        self._keep_secret(str(len(seen["relations"])))
        self.unit.set_ports(5000 + len(seen["relations"]))
        self.unit.status = ops.ActiveStatus(json.dumps(seen["config"], sort_keys=True))

    def _see(self) -> dict[str, object]:
        relations: list[object] = []
        for endpoint in ("giver", "taker", "replicas"):
            for relation in self.model.relations[endpoint]:
                bags = {
                    str(owner.name): dict(relation.data[owner])
                    for owner in (relation.app, *relation.units)
                    if owner not in (None, self.app)
                }
                for bag in bags.values():
                    # Scenario and Juju differ in the addresses that they make up.
                    for key in ("egress-subnets", "ingress-address", "private-address"):
                        bag.pop(key, None)
                relations.append([endpoint, relation.id, relation.active, bags])
        return {
            "config": {key: str(value) for key, value in self.config.items()},
            "leader": self.unit.is_leader(),
            "relations": relations,
            "given": self._given(),
        }

    def _given(self) -> object:
        uri = self.config.get("secret")
        if not uri:
            return None
        try:
            return self.model.get_secret(id=str(uri)).get_content()
        except (ops.SecretNotFoundError, ops.ModelError):
            # Scenario knows only secrets that can be read, so it says "not found" for both.
            return "unreadable"

    def _keep_secret(self, value: str) -> None:
        if not self.unit.is_leader():
            return
        try:
            secret = self.model.get_secret(label="mine")
        except ops.SecretNotFoundError:
            self.app.add_secret({"value": value}, label="mine")
        else:
            if secret.peek_content() != {"value": value}:
                secret.set_content({"value": value})


if __name__ == "__main__":
    ops.main(MirrorCharm)
