"""A charm that writes down what Juju does to it, and can be told to misbehave."""

import json
import os
import pathlib
import subprocess
import time

import ops

JOURNAL = pathlib.Path("/var/lib/juju/storage/journal.jsonl")


class ProbeCharm(ops.CharmBase):
    """Journals every dispatch."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._journal()
        framework.observe(self.on.collect_unit_status, self._on_collect_status)
        framework.observe(self.on.answer_action, self._on_answer)
        for event in self.on.events().values():
            if not issubclass(event.event_type, ops.LifecycleEvent | ops.ActionEvent):
                framework.observe(event, self._on_any)

    def _journal(self, **more: str) -> None:
        line: dict[str, object] = {
            key: value
            for key, value in os.environ.items()
            if key.startswith("JUJU_") and key != "JUJU_CONTEXT_ID"
        }
        line |= {"leader": self.unit.is_leader(), **more}
        JOURNAL.parent.mkdir(parents=True, exist_ok=True)
        with JOURNAL.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _on_any(self, event: ops.EventBase) -> None:
        hook, _, how = str(self.config["misbehave"]).partition(":")
        if how == "defer" and isinstance(event, ops.ConfigChangedEvent):
            self._journal(deferred="config-changed")
            event.defer()
        if hook and hook == os.environ["JUJU_HOOK_NAME"]:
            self._misbehave(how)

    def _misbehave(self, how: str) -> None:
        """Do something that Juju does not let pass."""
        peers = self.model.get_relation("replicas")
        if how == "raise":
            # Everything that was written before the crash must be forgotten.
            if peers is not None:
                peers.data[self.unit]["written"] = "before the crash"
            if self.unit.is_leader():
                self.app.add_secret({"crashed": "yes"}, label=f"crash-{time.time_ns()}")
            self.unit.open_port("tcp", 9999)
            self.unit.status = ops.MaintenanceStatus("set before the crash")
            raise RuntimeError("told to crash")
        if how == "write-app" and peers is not None:
            # By the tool, since ops itself would refuse before Juju can.
            number = str(peers.id)
            subprocess.run(
                ["relation-set", "-r", f"replicas:{number}", "--app", "key=value"],
                check=True,
            )
        if how == "slow":
            time.sleep(3)

    def _on_answer(self, event: ops.ActionEvent) -> None:
        event.log("working on it")
        if event.params["crash"]:
            raise RuntimeError("told to crash")
        time.sleep(event.params["wait"])
        event.set_results({"text": event.params["text"], "nested": {"leader": "yes"}})
        if event.params["fail"]:
            event.fail("told to fail")

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        event.add_status(ops.ActiveStatus())


if __name__ == "__main__":
    ops.main(ProbeCharm)
