"""Read a packed charm: from its ``.charm`` file to the metadata that Juju acts on."""

from __future__ import annotations

import hashlib
import pathlib
import typing
import zipfile

import yaml

from onebox import model


class CharmError(Exception):
    """A file is not a charm that can be deployed; the text names the file and why."""


def read(path: pathlib.Path) -> model.Charm:
    """Return the metadata of a packed charm.

    Args:
        path: a ``.charm`` file.

    Raises:
        CharmError: the file is not there, is no charm, or has metadata that Juju would refuse.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            files = {
                name: yaml.safe_load(archive.read(f"{name}.yaml")) or {}
                for name in ("metadata", "config", "actions", "manifest")
                if f"{name}.yaml" in names
            }
    except FileNotFoundError:
        raise CharmError(f'no charm was found at "{path}"') from None
    except (zipfile.BadZipFile, IsADirectoryError, PermissionError) as error:
        raise CharmError(f'"{path}" is not a packed charm: {error}') from None
    except yaml.YAMLError as error:
        raise CharmError(f'"{path}" has malformed metadata: {error}') from None
    if "metadata" not in files:
        raise CharmError(f'"{path}" has no metadata.yaml')
    if "manifest" not in files:
        # Juju refuses charms of metadata format v1 on Kubernetes (juju-runtime 4.5).
        raise CharmError(f'"{path}" has no manifest.yaml: format v1 charms cannot be deployed')
    if "dispatch" not in names:
        raise CharmError(f'"{path}" has no dispatch file')
    return _charm(files, digest, path)


def _charm(files: dict[str, typing.Any], digest: str, path: pathlib.Path) -> model.Charm:
    metadata = files["metadata"]
    endpoints: dict[str, model.EndpointSpec] = {}
    for section, role in (
        ("provides", "provider"),
        ("requires", "requirer"),
        ("peers", "peer"),
    ):
        for name, spec in (metadata.get(section) or {}).items():
            endpoints[name] = model.EndpointSpec(
                name=name,
                interface=spec["interface"],
                role=typing.cast(typing.Literal["provider", "requirer", "peer"], role),
                limit=int(spec.get("limit") or 0),
                optional=bool(spec.get("optional", True)),
            )
    storage = {
        name: model.StorageSpec(
            name=name,
            location=spec.get("location", ""),
            size=mebibytes(spec.get("minimum-size", "1G")),
            minimum=int(str((spec.get("multiple") or {}).get("range", "1")).split("-")[0]),
        )
        for name, spec in (metadata.get("storage") or {}).items()
    }
    containers = {
        name: model.ContainerSpec(
            name=name,
            resource=(spec or {}).get("resource", ""),
            mounts=[
                (mount["storage"], mount["location"])
                for mount in ((spec or {}).get("mounts") or [])
            ],
        )
        for name, spec in (metadata.get("containers") or {}).items()
    }
    return model.Charm(
        name=metadata["name"],
        digest=digest,
        path=str(path),
        summary=metadata.get("summary", ""),
        endpoints=endpoints,
        containers=containers,
        storage=storage,
        resources={
            name: spec.get("upstream-source", "")
            for name, spec in (metadata.get("resources") or {}).items()
            if spec.get("type") == "oci-image"
        },
        options={
            name: model.Option(
                type=spec.get("type", "string"),
                default=spec.get("default"),
                description=spec.get("description", ""),
            )
            for name, spec in (files.get("config", {}).get("options") or {}).items()
        },
        actions={
            name: model.ActionSpec(
                description=(spec or {}).get("description", ""),
                params=(spec or {}).get("params") or {},
                required=(spec or {}).get("required") or [],
                additional=bool((spec or {}).get("additionalProperties", True)),
            )
            for name, spec in files.get("actions", {}).items()
        },
    )


def mebibytes(size: str) -> int:
    """Turn Juju's sizes (``1G``, ``500M``) into MiB; a bare number is MiB."""
    units = {"M": 1, "G": 1024, "T": 1024 * 1024}
    text = str(size).strip()
    return int(float(text[:-1]) * units[text[-1]]) if text[-1:] in units else int(text)
