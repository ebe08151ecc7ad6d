"""charmcraft's own model of a project accepts each charmcraft.yaml, and reads it as we do."""

from __future__ import annotations

import re
from pathlib import Path

import pack
import pydantic
import pytest
import stage
import yaml
from charmcraft.models import manifest, metadata, project

# charmcraft warns about a field of its own that it asks for itself.
pytestmark = pytest.mark.filterwarnings("ignore:The 'charmhub' field:DeprecationWarning")


def _read(charm: Path) -> dict:
    return yaml.safe_load((charm / "charmcraft.yaml").read_text())


def test_accepts_every_charm(charm: Path):
    # WHEN charmcraft reads the project
    model = project.PlatformCharm.unmarshal(_read(charm))
    # THEN it is the charm that its folder's name promises
    assert model.name == charm.name


def test_metadata_is_what_charmcraft_writes(charm: Path):
    # GIVEN what charmcraft would write as metadata.yaml
    model = project.PlatformCharm.unmarshal(_read(charm))
    theirs = metadata.CharmMetadata.from_charm(model).marshal()
    # WHEN our packer writes it
    ours = pack.metadata(_read(charm))
    # THEN both say the same
    assert ours == theirs


def test_config_and_actions_are_what_charmcraft_writes(charm: Path):
    theirs = project.PlatformCharm.unmarshal(_read(charm)).marshal()
    ours = _read(charm)
    for key in ("config", "actions"):
        assert ours.get(key) == theirs.get(key)


def test_manifest_is_one_of_charmcraft(charm: Path):
    model = manifest.Manifest.unmarshal(pack.manifest(_read(charm)))
    assert model.bases
    assert model.bases[0].architectures == ["amd64", "arm64"]


def test_staged_project_packs_everything_that_we_pack(charm: Path, tmp_path: Path):
    """A real charmcraft packs only what a part primes; the uv plugin takes src and lib."""
    # GIVEN a staged charm, which charmcraft accepts as well
    staged = stage.stage(charm, tmp_path)
    model = project.PlatformCharm.unmarshal(_read(staged))
    # WHEN its parts are read
    primed = {"src", "lib"}
    for part in model.parts.values():
        if part["plugin"] == "dump":
            primed |= set(part.get("prime", ()))
    # THEN each of its files is primed by some part
    tops = {path.name for path in staged.iterdir()}
    assert tops - {"charmcraft.yaml", "pyproject.toml", "uv.lock"} - primed == set()
    assert [part["plugin"] for part in model.parts.values()].count("uv") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"parts": {"charm": {"plugin": "no-such-plugin"}}},
        {"links": "nowhere"},
        {"unknown-key": True},
        {"platforms": {"mainframe": None}},
        {"name": "Not A Name"},
    ],
)
def test_rejects_a_broken_project(change: dict):
    with pytest.raises((pydantic.ValidationError, ValueError)):
        project.PlatformCharm.unmarshal(_read(Path(__file__).parent / "data" / "noop") | change)


def test_packer_rejects_unknown_key():
    with pytest.raises(pack.PackError, match=re.escape("unknown key in charmcraft.yaml: wants")):
        pack.metadata({"name": "x", "wants": {}})


@pytest.mark.parametrize("project_yaml", [{}, {"base": "ubuntu@24.04"}, {"base": "ubuntu"}])
def test_packer_rejects_a_charm_without_base(project_yaml: dict):
    with pytest.raises(pack.PackError, match="needs a `base`"):
        pack.manifest(project_yaml)
