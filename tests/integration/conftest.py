"""The bundle on a real Juju controller: the one that the `juju` command talks to.

Needs, beside the controller with its Kubernetes cloud: `juju` and `kubectl` on PATH, and a network
in which this machine reaches the addresses that the ingress gives out (on MicroK8s: the add-ons
dns, hostpath-storage and metallb).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_operator.plugin import OpsTest

ROOT = Path(__file__).resolve().parents[2]

# Minutes until a fresh cluster has pulled all images and everything is active.
DEPLOY_MINUTES = 30
SETTLE_MINUTES = 10

# The image of each of our charms, by the option that replaces it.
IMAGES = {
    "--mlflow-image": ("mlflow-server", "mlflow-image"),
    "--models-image": ("mlflow-models", "mlflow-models-image"),
    "--nginx-image": ("htpasswd-proxy", "nginx-image"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let images from a registry of one's own replace those of bundle.yaml."""
    for option, (charm, resource) in IMAGES.items():
        parser.addoption(option, metavar="IMAGE", help=f"{resource} of {charm}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this folder: each of them needs a controller."""
    for item in items:
        item.add_marker(pytest.mark.controller)


@dataclasses.dataclass(frozen=True)
class Access:
    """How users reach the stack.

    Attributes:
        tracking_uri: MLflow behind the proxy.
        model_url: The served model behind the proxy, without `/invocations`.
        username: The first user of the proxy.
        password: That user's password.
    """

    tracking_uri: str
    model_url: str
    username: str
    password: str = dataclasses.field(repr=False)

    def environment(self) -> dict[str, str]:
        """What MLflow's client reads."""
        return {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


def kubectl(*arguments: str) -> str:
    """Run kubectl in the cluster of the current context and answer with its output."""
    done = subprocess.run(["kubectl", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Stack:
    """The bundle in a model of its own."""

    def __init__(self, ops_test: OpsTest, scratch: Path):
        self._ops_test = ops_test
        self._scratch = scratch

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace of the model, which bears its name."""
        return self._ops_test.model_name

    async def juju(self, *arguments: str) -> str:
        """Run a command of `juju` in the test's model and answer with its output."""
        command, *rest = arguments
        code, stdout, stderr = await self._ops_test.juju(
            command, "--model", self._ops_test.model_full_name, *rest
        )
        assert code == 0, f"juju {' '.join(arguments)}: {stderr or stdout}"
        return stdout

    async def deploy(self, *overlays: Path) -> None:
        """Deploy bundle.yaml with overlays, as users do, and wait until all is active."""
        images = self._images_overlay()
        arguments = [f"--overlay={path}" for path in (*overlays, *images)]
        await self.juju("deploy", str(ROOT / "bundle.yaml"), "--trust", *arguments)
        await self.settle(minutes=DEPLOY_MINUTES)

    async def settle(self, minutes: int = SETTLE_MINUTES) -> None:
        """Wait until every application of the model is active and idle."""
        await self._ops_test.model.wait_for_idle(
            status="active", timeout=minutes * 60, idle_period=20, raise_on_error=False
        )

    async def status(self, application: str) -> tuple[str, str]:
        """The workload status and message of an application's first unit."""
        await self._ops_test.model.block_until(
            lambda: bool(self._ops_test.model.applications[application].units), timeout=60
        )
        unit = self._ops_test.model.applications[application].units[0]
        return unit.workload_status, unit.workload_status_message

    async def wait_for_status(self, application: str, status: str) -> str:
        """Wait for a workload status and answer with its message."""
        await self._ops_test.model.wait_for_idle(
            apps=[application], status=status, timeout=SETTLE_MINUTES * 60, idle_period=5
        )
        return (await self.status(application))[1]

    async def leader_of(self, application: str) -> str:
        """The name of an application's leader."""
        for unit in self._ops_test.model.applications[application].units:
            if await unit.is_leader_from_status():
                return unit.name
        raise AssertionError(f"{application} has no leader")

    async def access(self) -> Access:
        """What the proxy tells about its addresses and its first user."""
        view = json.loads(await self.juju("show-unit", "mlflow-server/0", "--format=json"))
        (bag,) = (
            relation["application-data"]
            for relation in view["mlflow-server/0"]["relation-info"]
            if relation["endpoint"] == "basic-auth"
        )
        urls = {
            endpoint["application"]: endpoint.get("external-url") or endpoint["url"]
            for endpoint in json.loads(bag["endpoints"])
        }
        leader = await self.leader_of("htpasswd-proxy")
        ran = json.loads(await self.juju("run", leader, "get-credentials", "--format=json"))
        secret = ran[leader]["results"]["secret"]
        shown = json.loads(await self.juju("show-secret", secret, "--reveal", "--format=json"))
        (login,) = (entry["content"]["Data"] for entry in shown.values())
        return Access(
            tracking_uri=urls["mlflow-server"],
            model_url=urls["mlflow-models"],
            username=login["username"],
            password=login["password"],
        )

    async def example(self, name: str, *arguments: str) -> str:
        """Run a program of examples/ in a Python with MLflow and nothing else configured."""
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")
        }
        environ |= (await self.access()).environment()
        requirements = ROOT / "images" / "mlflow-models" / "requirements.txt"
        done = subprocess.run(
            [
                *("uv", "run", "--quiet", "--no-project", "--isolated"),
                *("--with-requirements", str(requirements)),
                *("python", str(ROOT / "examples" / name), *arguments),
            ],
            check=False,
            capture_output=True,
            text=True,
            env=environ,
            cwd=self._scratch,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _images_overlay(self) -> list[Path]:
        """An overlay with the images that the command line names, if it names any."""
        applications: dict[str, dict] = {}
        for option, (charm, resource) in IMAGES.items():
            if image := self._ops_test.request.config.getoption(option):
                applications.setdefault(charm, {})["resources"] = {resource: image}
        if not applications:
            return []
        overlay = self._scratch / "images.yaml"
        overlay.write_text(json.dumps({"applications": applications}))
        return [overlay]


@pytest.fixture(scope="session")
def charms() -> None:
    """The charms, packed where bundle.yaml expects them."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "pack.py")], check=True)


@pytest.fixture(scope="module")
def stack(ops_test: OpsTest, charms: None, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The test module's model."""
    return Stack(ops_test, tmp_path_factory.mktemp("stack"))
