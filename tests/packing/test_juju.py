"""Juju's own parser takes every charm and the bundle, and refuses broken ones."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import stage
import yaml
from conftest import NOOP, Judge

BUNDLE = stage.ROOT / "bundle.yaml"
OVERLAYS = sorted((stage.ROOT / "overlays").glob("*.yaml"))
ONEBOX_OVERLAY = stage.ROOT / "onebox" / "overlay.yaml"


def _project(charm: Path) -> dict:
    return yaml.safe_load((charm / "charmcraft.yaml").read_text())


def test_reads_every_charm(charm: Path, packed: dict[str, Path], juju: Judge):
    # GIVEN a packed charm, WHEN Juju reads it
    read = juju.charm(packed[charm.name])
    # THEN it sees all that charmcraft.yaml declares
    project = _project(charm)

    def types(entries: dict) -> dict[str, str]:
        return {name: entry["type"] for name, entry in entries.items()}

    assert read["name"] == project["name"]
    assert read["bases"] == ["ubuntu@24.04/stable on amd64, arm64"]
    assert read["containers"] == {
        name: container["resource"] for name, container in project.get("containers", {}).items()
    }
    assert read["resources"] == types(project.get("resources", {}))
    assert read["storage"] == types(project.get("storage", {}))
    assert read["options"] == types(project.get("config", {}).get("options", {}))
    assert read["actions"] == sorted(project.get("actions", {}))
    for role in ("provides", "requires", "peers"):
        assert read[role] == {
            name: relation["interface"] for name, relation in project.get(role, {}).items()
        }
    assert read["assumes"] == ("assumes" in project)


def _repack(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a .charm with some of its files changed."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.yaml", None, "metadata.yaml"),
        (
            "metadata.yaml",
            "name: x\nsummary: s\ndescription: d\nstorage: {data: {type: tape}}\n",
            "tape",
        ),
        ("metadata.yaml", "name: x\nsummary: s\n", "description"),
        (
            "metadata.yaml",
            "name: x\nsummary: s\ndescription: d\ncontainers: {x: {resource: image}}\n",
            "image",
        ),
        ("config.yaml", "options: {a: {type: integer}}\n", "integer"),
        ("config.yaml", "options: {a: {type: int, default: many}}\n", "many"),
        ("actions.yaml", "echo: {params: {text: {type: words}}}\n", "words"),
        ("manifest.yaml", None, "first format"),
        ("dispatch", None, "no dispatch"),
    ],
)
def test_refuses_a_broken_charm(
    packed: dict[str, Path],
    juju: Judge,
    tmp_path: Path,
    name: str,
    content: str | None,
    message: str,
):
    # GIVEN a charm in which one file is missing or wrong
    def change(files: dict[str, bytes]) -> None:
        if content is None:
            del files[name]
        else:
            files[name] = content.encode()

    broken = _repack(packed[NOOP.name], tmp_path / "broken.charm", change)
    # WHEN Juju reads it, THEN it says what is wrong
    with pytest.raises(ValueError, match=message):
        juju.charm(broken)


def test_takes_the_bundle(packed: dict[str, Path], juju: Judge):
    juju.bundle(BUNDLE)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_takes_the_bundle_with_each_overlay(packed: dict[str, Path], juju: Judge, overlay: Path):
    juju.bundle(BUNDLE, overlay)


def test_takes_the_bundle_on_onebox(packed: dict[str, Path], juju: Judge):
    juju.bundle(BUNDLE, ONEBOX_OVERLAY)


@pytest.fixture
def copy(tmp_path: Path, packed: dict[str, Path]) -> Callable[[Callable[[dict], None]], Path]:
    """Writes a changed copy of the bundle, for which the charms are where it expects them."""

    def write(change: Callable[[dict], None]) -> Path:
        bundle = yaml.safe_load(BUNDLE.read_text())
        change(bundle)
        target = tmp_path / "bundle.yaml"
        target.write_text(yaml.safe_dump(bundle))
        (tmp_path / "build").mkdir(exist_ok=True)
        for charm in packed.values():
            shutil.copy(charm, tmp_path / "build")
        return target

    return write


def _without_resource(bundle: dict) -> None:
    resources = bundle["applications"]["mlflow-server"]["resources"]
    del resources[next(iter(resources))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda bundle: bundle["relations"].append(["mlflow-server:postgresql", "ghost:db"]),
            "ghost",
        ),
        (
            lambda bundle: bundle["relations"].append(bundle["relations"][0]),
            "defined more than once",
        ),
        (
            lambda bundle: bundle["relations"].append(
                ["mlflow-server:no-such-endpoint", "htpasswd-proxy:upstreams"]
            ),
            "no-such-endpoint",
        ),
        (
            lambda bundle: bundle["applications"]["mlflow-server"].update(
                options={"no-such-option": 1}
            ),
            "no-such-option",
        ),
        (
            lambda bundle: bundle["applications"]["mlflow-server"].update(charm="./no.charm"),
            "does not exist",
        ),
        (_without_resource, "needs resource"),
        (
            lambda bundle: bundle["applications"]["mlflow-server"].update(nonsense=1),
            "nonsense",
        ),
        (lambda bundle: bundle.update(bundle="vax"), "vax"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_a_broken_bundle(
    copy: Callable[[Callable[[dict], None]], Path],
    juju: Judge,
    change: Callable[[dict], None],
    message: str,
):
    # GIVEN that the bundle itself is fine
    juju.bundle(copy(lambda _: None))
    # WHEN one thing in it is wrong, THEN Juju names it
    with pytest.raises(ValueError, match=message):
        juju.bundle(copy(change))


def test_overlays_do_not_contradict_the_bundle():
    """An overlay's applications either are in the bundle or bring their charm with them."""
    known = yaml.safe_load(BUNDLE.read_text())["applications"]
    for path in itertools.chain(OVERLAYS, [ONEBOX_OVERLAY]):
        for document in yaml.safe_load_all(path.read_text()):
            for name, application in (document.get("applications") or {}).items():
                assert name in known or (application or {}).get("charm"), f"{path.name}: {name}"
