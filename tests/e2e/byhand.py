"""A tracking server that is deployed charm by charm, with the commands that Juju users type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jubilant

from onebox import home, images, stack
from tests.e2e import users

MODEL = "hand"
BUILD = home.CHECKOUT / "build"
SERVER, MODELS, PROXY = f"{stack.SERVER}/0", f"{stack.MODELS}/0", f"{stack.PROXY}/0"
TRACKING_URI = f"http://{stack.SERVER}.{MODEL}.svc.cluster.local:5000"

Seen = list[tuple[str, str]]
"""Statuses of a unit with their messages, in order, without repetitions."""


@dataclasses.dataclass(frozen=True)
class Hand:
    """What was deployed, and what the server said on the way.

    Attributes:
        juju: the model.
        alone: statuses of the server with no relation.
        stored: statuses once it has an object store.
        complete: statuses once it has a database, until it is active.
        client: MLflow's client in a pod, straight at the server, with no password: a proxy is
            not there at first. It has to be a pod: where no proxy keeps MLflow from it, the
            server sends clients to the object store for downloads, by a name that is known
            inside only.
    """

    juju: jubilant.Juju
    alone: Seen
    stored: Seen
    complete: Seen
    client: users.Client

    def address(self, unit: str) -> str:
        """Return the IP address of a unit."""
        return self.juju.status().get_units(unit.partition("/")[0])[unit].address

    def ensure_models(self, image: str = "mlflow-models") -> None:
        """Have mlflow-models there, related to the server, on one of our images."""
        self._ensure(stack.MODELS, {"mlflow-models-image": image})
        self._ensure_relation(stack.MODELS, f"{stack.SERVER}:mlflow")

    def ensure_proxy(self, image: str = "nginx") -> None:
        """Have htpasswd-proxy there, in front of the server, on one of our images."""
        self._ensure(stack.PROXY, {"nginx-image": image})
        self._ensure_relation(f"{stack.SERVER}:ingress", f"{stack.PROXY}:upstreams")

    def _ensure(self, application: str, resources: Mapping[str, str]) -> None:
        named = {resource: image(name) for resource, name in resources.items()}
        if application in self.juju.status().apps:
            self.juju.refresh(application, resources=named)
        else:
            self.juju.deploy(BUILD / f"{application}.charm", resources=named)

    def _ensure_relation(self, one: str, other: str) -> None:
        application, _, endpoint = other.partition(":")
        if not self.juju.status().apps[application].relations.get(endpoint):
            self.juju.integrate(one, other)

    def page(self, login: tuple[str, str] | None = None) -> users.Answer:
        """Ask for MLflow's page where the proxy is, which knows itself by its Service's name."""
        url = f"http://{self.address(PROXY)}:8080/{stack.SERVER}/"
        host = f"{stack.PROXY}.{MODEL}.svc.cluster.local:8080"
        return users.http(url, host=host, login=login)

    def credentials(self) -> tuple[str, str]:
        """Return the proxy's first user and the password, as its action tells to find it."""
        told = self.juju.run(PROXY, "get-credentials").results
        content = self.juju.show_secret(told["secret"], reveal=True).content
        return told["username"], content["password"]

    def predict(self) -> users.Answer:
        """Ask the served model about one wine."""
        return users.predict(f"http://{self.address(MODELS)}:8080")

    def story(self, name: str) -> None:
        """Log, register and name a model, have it served, and compare its predictions.

        Args:
            name: of the model, a new one.
        """
        done = self.client.session() | self.client.session(["train_wine", name])
        failed = {
            key: answer
            for key, answer in done.items()
            if isinstance(answer, dict) and "error" in answer
        }
        assert not failed, failed
        uri = f"models:/{name}@champion"
        self.juju.config(stack.MODELS, {"models-uri": uri})
        users.until(self.juju, lambda status: "serving" in users.message(status, MODELS)[1])
        users.settle(self.juju)
        url = f"http://{self.address(MODELS)}:8080"
        served, own = self.client.session(["predictions", url, uri])["predictions"]
        assert served == own != []


def deploy(juju: jubilant.Juju, client: users.Client) -> Hand:
    """Deploy the server, then what it asks for, one after the other."""
    juju.deploy(
        BUILD / "mlflow-server.charm",
        resources={"mlflow-image": image("mlflow")},
        # Each worker imports MLflow by itself; two of them are tested in test_migrate.py.
        config={"workers": 1},
    )
    alone = watch(juju, lambda status, _: status == "blocked")
    juju.deploy(
        BUILD / "minio.charm",
        resources={"oci-image": image("minio")},
        storage={"minio-data": "1G"},
    )
    # What Juju users type; jubilant says `integrate`.
    juju.cli("relate", "minio", stack.SERVER)
    users.until(juju, lambda status: jubilant.all_active(status, "minio"))
    stored = watch(juju, lambda status, _: status == "blocked")
    juju.deploy(
        BUILD / "postgresql-k8s.charm",
        resources={"postgresql-image": image("postgresql")},
        storage={"pgdata": "1G"},
        channel="14/stable",
        trust=True,
    )
    juju.cli("relate", "postgresql-k8s", stack.SERVER)
    complete = watch(juju, lambda status, _: status == "active")
    users.settle(juju)
    return Hand(juju, alone, stored, complete, client)


def image(name: str) -> str:
    """Return the full name of an image of this checkout."""
    return images.read()[name].reference


def watch(juju: jubilant.Juju, until: Callable[[str, str], bool]) -> Seen:
    """Note the server's statuses until one fits."""
    seen: Seen = []

    def look(status: jubilant.Status) -> bool:
        found = status.get_units(stack.SERVER)
        if SERVER not in found:
            return False
        current = users.message(status, SERVER)
        if not seen or seen[-1] != current:
            seen.append(current)
        return until(*current)

    # More often than others look: a status may last for one hook only.
    users.until(juju, look, delay=0.2)
    return seen
