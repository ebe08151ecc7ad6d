"""Help for tests that use ops.testing; not packed into charms."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any
from unittest import mock

import ops
import yaml


@contextlib.contextmanager
def simulation() -> Generator[None]:
    """Have ops.testing simulate what the charms look at, and lose no time."""
    with _ownership(), _counted_checks(), _libyaml():
        yield


@contextlib.contextmanager
def _ownership() -> Generator[None]:
    """Have the simulated file system of ops.testing remember who owns a file.

    It keeps content and mode but not the owner, so that each file would look wrong to
    `mlflow_kit.workload` and be written again. Owners are known by path, which is enough for
    charms with one container per path.
    """
    owners: dict[str, tuple[int, int]] = {}
    push, make_dir, list_files = (
        ops.Container.push,
        ops.Container.make_dir,
        ops.Container.list_files,
    )

    def owned_push(self: ops.Container, path: Any, source: Any, **options: Any) -> None:
        push(self, path, source, **options)
        owners[str(path)] = (options.get("user_id") or 0, options.get("group_id") or 0)

    def owned_make_dir(self: ops.Container, path: Any, **options: Any) -> None:
        make_dir(self, path, **options)
        owners[str(path)] = (options.get("user_id") or 0, options.get("group_id") or 0)

    def owned_list_files(self: ops.Container, path: Any, **options: Any) -> list[Any]:
        found = list_files(self, path, **options)
        for info in found:
            if info.path in owners:
                info.user_id, info.group_id = owners[info.path]
        return found

    with (
        mock.patch.object(ops.Container, "push", owned_push),
        mock.patch.object(ops.Container, "make_dir", owned_make_dir),
        mock.patch.object(ops.Container, "list_files", owned_list_files),
    ):
        yield


@contextlib.contextmanager
def _counted_checks() -> Generator[None]:
    """Have the checks that ops.testing adds from a layer say that they have not run yet.

    It leaves their ``successes`` out, as Pebble before 1.23 did.
    """
    get_checks = ops.Container.get_checks

    def counted_get_checks(
        self: ops.Container, *names: str, **options: Any
    ) -> Mapping[str, ops.pebble.CheckInfo]:
        found = get_checks(self, *names, **options)
        for info in found.values():
            info.successes = info.successes or 0
        return found

    with mock.patch.object(ops.Container, "get_checks", counted_get_checks):
        yield


@contextlib.contextmanager
def _libyaml() -> Generator[None]:
    """Have YAML read and written by libyaml, if PyYAML was built with it.

    ops.testing writes a charm's metadata for each event that it runs, which takes Python's own
    YAML as long as everything else in that event.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with mock.patch.multiple(yaml, SafeLoader=loader, SafeDumper=dumper):
        yield
