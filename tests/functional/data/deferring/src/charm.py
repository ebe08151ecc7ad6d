"""A charm that defers an event, as ops lets it."""

import os
import pathlib

import ops

JOURNAL = pathlib.Path("/var/lib/juju/storage/deferred")


class DeferringCharm(ops.CharmBase):
    """Notes in which dispatches it handles config-changed."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        framework.observe(self.on.config_changed, self._on_config_changed)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)

    def _on_config_changed(self, event: ops.ConfigChangedEvent) -> None:
        if self.config["defer"]:
            JOURNAL.parent.mkdir(parents=True, exist_ok=True)
            with JOURNAL.open("a") as file:
                print(os.environ["JUJU_DISPATCH_PATH"], file=file)
            event.defer()

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        event.add_status(ops.ActiveStatus())


if __name__ == "__main__":
    ops.main(DeferringCharm)
