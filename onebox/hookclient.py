"""The charm's side of the hook tools, hooktool.c: compiled once per machine."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess

from onebox import hooktools, pods

SOURCE = pathlib.Path(__file__).with_name("hooktool.c")


class CompileError(Exception):
    """The client cannot be compiled; the text says why."""


def install(directory: pathlib.Path) -> None:
    """Put the client in place, under each tool's name.

    Args:
        directory: what charms have first on their PATH.

    Raises:
        CompileError: it is not there and cannot be compiled.
    """
    client = directory / "hooktool"
    partial = client.with_suffix(".new")
    shutil.copy(build(), partial)
    # In place of one that a hook of the last daemon may be running.
    partial.replace(client)
    for name in hooktools.NAMES:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(client.name)


def build() -> pathlib.Path:
    """Compile the client, unless that was done, and return where it is.

    Raises:
        CompileError: there is no compiler, or it fails.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    program = pods.cache() / "hooktool" / digest
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        _compile(partial)
        partial.replace(program)
    return program


def _compile(path: pathlib.Path) -> None:
    # Static, as it runs in whatever image the charm has.
    command = ["cc", "-std=c11", "-O2", "-static", "-o", path, SOURCE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CompileError("cc is not installed: run 'python3 -m onebox.setup'") from None
    if done.returncode != 0:
        raise CompileError(f"cc cannot compile {SOURCE.name}:\n{done.stderr}")
