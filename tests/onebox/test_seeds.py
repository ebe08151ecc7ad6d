"""What `tests.e2e.seeds` takes for the same, and for a difference."""

from __future__ import annotations

import base64
import pathlib
import urllib.parse

from onebox import model
from tests.e2e import seeds


def made(name: str, address: str, password: str, port: str = "5432") -> model.Model:
    """Return a model with one unit, whose relation says in many forms how to log in."""
    found = model.Model(name, f"uuid-of-{name}")
    charm = model.Charm("db", "", "")
    found.applications["db"] = model.Application("db", charm)
    found.applications["db"].units["db/0"] = model.Unit("db/0", address=address)
    content = {"password": password, "username": "admin"}
    identifier = f"id-of-the-secret-of-{name}"
    revision = model.Revision(content, created=name)
    found.secrets[identifier] = model.Secret(
        identifier, "db", label="login", revisions={1: revision}
    )
    relation = model.Relation(0, [model.Endpoint("db", "peers", "peers", "peer")])
    found.relations[0] = relation
    relation.bag("db").data = {
        "host": f"db.{name}.svc",
        "address": f"{address}:{port}",
        "id": f"secret://uuid-of-{name}/{identifier}",
        "plain": f"admin:{password}",
        "quoted": urllib.parse.quote(password, safe=""),
        "coded": base64.b64encode(password.encode()).decode(),
    }
    return found


def normal(world: model.Model) -> seeds.Snapshot:
    replace = seeds.normaliser(world)
    return {place: replace(text) for place, text in seeds.known_to_juju(world)}


def test_what_no_two_deployments_share_makes_no_difference():
    one = normal(made("s-1", "10.0.0.1", "abcdefghijklmnopqrstuvw="))
    other = normal(made("s-12", "10.0.0.12", "1234567890/1234567890/123"))

    assert seeds.differences(one, other) == ""


def test_what_differs_is_told_with_its_place():
    one = normal(made("s-1", "10.0.0.1", "abcdefghijklmnopqrstuvw="))
    other = normal(made("s-1", "10.0.0.1", "abcdefghijklmnopqrstuvw=", port="5433"))

    told = seeds.differences(one, other).splitlines()

    assert told[0] == "--- databag of db in db:peers, in Juju's order"
    assert [line for line in told[2:] if line[0] in "-+"] == [
        '- "address": "ADDRESS-OF-db/0:5432",',
        '+ "address": "ADDRESS-OF-db/0:5433",',
    ]


def test_files_are_compared_by_content_mode_and_owner(tmp_path: pathlib.Path):
    snapshots: list[seeds.Snapshot] = []
    for name, text, mode in (("a", "x", 0o600), ("b", "x", 0o644), ("c", "y", 0o600)):
        layer = tmp_path / name
        (layer / "etc").mkdir(parents=True)
        (layer / "etc" / "config").write_text(text)
        (layer / "etc" / "config").chmod(mode)
        # Files that the charm did not write.
        (layer / "charm").mkdir()
        (layer / "charm" / "socket").write_text(name)
        (layer / "etc" / "server.pid").write_text(name)
        snapshots.append(dict(seeds.written(layer)))

    assert snapshots[0].keys() == {"/etc", "/etc/config", "/etc/server.pid"}
    assert "-rw-------" in seeds.differences(snapshots[0], snapshots[1])
    assert "+y" in seeds.differences(snapshots[0], snapshots[2])
    assert seeds.differences(snapshots[0], snapshots[0]) == ""
