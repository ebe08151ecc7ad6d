"""Unpack charms, compiled: else a unit's first hook would compile every module of ops."""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib
import secrets
import shutil
import subprocess
import sys
import threading
import zipfile

from onebox import model, pods

_COMPILING = threading.Lock()
"""Held while a charm is compiled: the next one then finds most of its modules done."""


def unpacked(directory: pathlib.Path, charm: model.Charm) -> pathlib.Path:
    """Return the unpacked files of a charm, which is unpacked once.

    Args:
        directory: the home of the onebox.
        charm: which one.
    """
    wanted = directory / "charms" / charm.digest[:16]
    if wanted.is_dir():
        return wanted
    partial = wanted.with_name(_unique(wanted))
    with zipfile.ZipFile(charm.path) as archive:
        for entry in archive.infolist():
            path = pathlib.Path(archive.extract(entry, partial))
            path.chmod((entry.external_attr >> 16) & 0o777 or 0o644)
    with _COMPILING:
        _compile(partial)
    try:
        partial.rename(wanted)
    except OSError:
        # Another unit of the same charm was faster.
        shutil.rmtree(partial)
    return wanted


def _compile(root: pathlib.Path) -> None:
    """Put compiled modules beside their sources; the same source is compiled once per machine.

    Charms differ by few modules, but compiling all the others takes a core two seconds. Where a
    module is, its compiled form does not say: Python fills that in when it imports it.
    """
    cache = pods.cache() / "bytecode"
    cache.mkdir(parents=True, exist_ok=True)
    kept = {
        source: cache / f"{hashlib.sha256(source.read_bytes()).hexdigest()}.{_TAG}.pyc"
        for source in root.rglob("*.py")
    }
    new = [source for source, file in kept.items() if not file.exists()]
    if new:
        subprocess.run(
            [
                sys.executable,
                *("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-i", "-"),
            ],
            input="\n".join(map(str, new)),
            text=True,
            check=False,
        )
    for source, file in kept.items():
        compiled = pathlib.Path(importlib.util.cache_from_source(source))
        if file.exists():
            compiled.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, compiled)
        elif compiled.exists():  # unless it is no Python, which its import will say
            partial = file.with_name(_unique(file))
            shutil.copyfile(compiled, partial)
            partial.rename(file)


_TAG = sys.implementation.cache_tag


def _unique(path: pathlib.Path) -> str:
    return f"{path.name}.{secrets.token_hex(4)}"
