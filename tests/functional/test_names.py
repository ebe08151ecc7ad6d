"""What a killed test run leaves behind is removed by the next one, and nothing else is."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys

from onebox import pods
from tests.functional import names

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OTHER = """
import signal
from onebox import pods
from tests.functional import names
name = names.fresh()
pods.Podman(f"onebox-{name}", None, names.STATE / name).ensure_network()
print(name, flush=True)
signal.pause()
"""


def networks() -> str:
    return pods.podman("network", "ls", "--format", "{{.Name}}")


def test_only_what_nobody_holds_is_swept() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        # A run at work, though it is not pytest, keeps what is its own.
        assert name not in names.sweep()
        assert f"onebox-{name}" in networks()
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert name in names.sweep()
    assert f"onebox-{name}" not in networks()
