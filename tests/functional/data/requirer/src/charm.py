"""A charm that has endpoints and says nothing of its own."""

import ops


class RequirerCharm(ops.CharmBase):
    """Active, whatever happens."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        event.add_status(ops.ActiveStatus())


if __name__ == "__main__":
    ops.main(RequirerCharm)
