"""A charm that does nothing: what any ops charm costs at least."""

import ops


class NoopCharm(ops.CharmBase):
    """Active, and echoes."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        framework.observe(self.on.echo_action, self._on_echo)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        event.add_status(ops.ActiveStatus())

    def _on_echo(self, event: ops.ActionEvent) -> None:
        event.set_results({"text": event.params["text"]})


if __name__ == "__main__":
    ops.main(NoopCharm)
