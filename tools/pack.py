"""Make build/<charm>.charm from a charm's folder: the offline twin of `charmcraft pack`.

The result is what charmcraft 4 makes with its `uv` plugin, with three differences, each of which
makes one file serve more machines:

- Only pure Python is packed, in `venv/` itself and not in `venv/lib/python3.12/site-packages`,
  so the charm runs on whichever Python from 3.10 on the unit has.
- `dispatch` therefore needs no virtual environment, and starts nothing but Python.
- The same sources give the same bytes.

    python tools/pack.py [--build-dir FOLDER] [charm ...]

A charm whose inputs have not changed since it was packed is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import typing
import zipfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import stage
import yaml

# Keys of charmcraft.yaml that go into metadata.yaml under the same name: the fields of
# `CharmMetadata` in charmcraft/models/metadata.py (4.5.0), where all others are ignored.
METADATA_KEYS = frozenset(
    {
        "assumes",
        "charm-user",
        "containers",
        "description",
        "devices",
        "extra-bindings",
        "name",
        "peers",
        "provides",
        "requires",
        "resources",
        "storage",
        "subordinate",
        "summary",
        "terms",
    }
)

# Keys that charmcraft reads itself, writes to a file of their own, or renames.
OTHER_KEYS = frozenset(
    {
        "actions",
        "adopt-info",
        "analysis",
        "base",
        "build-base",
        "charmhub",
        "charm-libs",
        "config",
        "links",
        "parts",
        "platforms",
        "title",
        "type",
        "version",
    }
)

# The oldest Python that a charm runs on. Requirements are resolved for it, because it needs the
# backports that newer ones do without.
OLDEST_PYTHON = "3.10"

# Packages with an optional compiled half: without it they fall back on Python.
_COMPILED_HALF_IS_OPTIONAL = frozenset({"charset_normalizer", "markupsafe", "yaml"})

# Left out of the packed packages: compiled code, its sources, type stubs, and what only an
# installer reads. METADATA and entry_points.txt stay, OpenTelemetry finds its context by them.
_NOT_PACKED_SUFFIXES = frozenset({".c", ".h", ".pyc", ".pxd", ".pyd", ".pyi", ".pyx", ".so"})
_NOT_PACKED_NAMES = frozenset(
    {".lock", "INSTALLER", "RECORD", "REQUESTED", "WHEEL", "direct_url.json", "py.typed"}
)
_NOT_PACKED_FOLDERS = frozenset({"__pycache__", "test", "tests"})

# Everything that decides what is packed, besides a charm's own files.
_OWN_SOURCES = (Path(__file__), Path(stage.__file__))

_ZIP_EPOCH = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)

DISPATCH = """\
#!/bin/sh
# Juju runs this file for every event. Nothing is started but Python itself; -S leaves the
# machine's own site-packages out, as a virtual environment would.
case "$JUJU_DISPATCH_PATH" in
# No charm here acts on these: config-changed follows install and has just been before start,
# and relation-changed for the same unit follows relation-joined at once.
hooks/install | hooks/start | hooks/*-relation-joined) exit 0 ;;
esac
JUJU_CHARM_DIR="${JUJU_CHARM_DIR:-${0%/*}}"
PYTHONPATH="$JUJU_CHARM_DIR/lib:$JUJU_CHARM_DIR/venv"
export JUJU_CHARM_DIR PYTHONPATH
exec python3 -S "$JUJU_CHARM_DIR/src/charm.py"
"""


class PackError(Exception):
    """A charm cannot be packed; the message says why."""


class Entry(typing.NamedTuple):
    """One file of a .charm."""

    content: bytes
    executable: bool = False


def metadata(project: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """The content of metadata.yaml.

    Args:
        project: The content of charmcraft.yaml.

    Raises:
        PackError: charmcraft.yaml has a key that charmcraft does not know.
    """
    unknown = sorted(project.keys() - METADATA_KEYS - OTHER_KEYS)
    if unknown:
        raise PackError(f"unknown key in charmcraft.yaml: {', '.join(unknown)}")
    result = {key: value for key, value in project.items() if key in METADATA_KEYS}
    if "title" in project:
        result["display-name"] = project["title"]
    links = dict(project.get("links", {}))
    if "documentation" in links:
        result["docs"] = links.pop("documentation")
    if "contact" in links:
        contact = links.pop("contact")
        result["maintainers"] = [contact] if isinstance(contact, str) else contact
    return result | links


def manifest(project: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """The content of manifest.yaml, from which Juju learns the charm's base.

    Args:
        project: The content of charmcraft.yaml, in charmcraft's form with one `base` and
            architectures as `platforms`.

    Raises:
        PackError: There is no base or no platform.
    """
    name, _, channel = str(project.get("base", "")).partition("@")
    architectures = sorted(project.get("platforms") or {})
    if not (name and channel and architectures):
        raise PackError("charmcraft.yaml needs a `base` such as ubuntu@24.04, and `platforms`")
    return {
        "charmcraft-version": "4.5.0",
        # A real date would make the bytes differ from run to run.
        "charmcraft-started-at": _ZIP_EPOCH.isoformat(),
        "bases": [{"name": name, "channel": channel, "architectures": architectures}],
        "analysis": {
            "attributes": [
                {"name": "language", "result": "python"},
                {"name": "framework", "result": "operator"},
            ]
        },
    }


def entries(staged: Path, venv: Path) -> dict[str, Entry]:
    """The files of a .charm.

    Args:
        staged: A folder made by `stage.stage`.
        venv: The charm's packages, made by `environment`.

    Returns:
        The files by their path in the charm.

    Raises:
        PackError: charmcraft.yaml cannot be turned into Juju's files.
    """
    project = yaml.safe_load((staged / "charmcraft.yaml").read_text())
    found = {
        "metadata.yaml": Entry(_dump(metadata(project))),
        "manifest.yaml": Entry(_dump(manifest(project))),
        "dispatch": Entry(DISPATCH.encode(), executable=True),
    }
    for key in ("config", "actions"):
        if project.get(key):
            found[f"{key}.yaml"] = Entry(_dump(project[key]))
    for path in _walk(staged):
        name = str(path.relative_to(staged))
        if name not in stage.FOR_PACKERS:
            found[name] = Entry(path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    for path in _walk(venv):
        found[str(Path("venv") / path.relative_to(venv))] = Entry(path.read_bytes())
    return found


def write_zip(files: Mapping[str, Entry], path: Path) -> None:
    """Write a .charm such that the same files give the same bytes; all of it or nothing."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with (
            os.fdopen(fd, "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for entry_name, entry in sorted(files.items()):
                info = zipfile.ZipInfo(entry_name, _date(entry.content))
                info.create_system = 3  # Unix, or readers ignore the mode
                mode = 0o755 if entry.executable else 0o644
                info.external_attr = (stat.S_IFREG | mode) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, entry.content)
        path.parent.joinpath(name).chmod(0o644)
        path.parent.joinpath(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def environment(charm: Path, build: Path) -> Path:
    """Install the packages of a charm's uv.lock, pure Python only.

    Charms with the same requirements share one folder, which is made once.

    Args:
        charm: A folder with pyproject.toml and uv.lock.
        build: Where environments are kept.

    Returns:
        The folder with the packages.

    Raises:
        PackError: uv is missing or fails, or a package is compiled and has no fallback.
    """
    requirements = _uv(
        *("export", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate"),
        *("--project", str(charm)),
    )
    digest = hashlib.sha256(requirements.encode())
    digest.update(Path(__file__).read_bytes())
    venv = build / ".venvs" / digest.hexdigest()[:16]
    if venv.is_dir():
        return venv
    venv.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=venv.parent) as scratch:
        listed = Path(scratch, "requirements.txt")
        listed.write_text(requirements)
        installed = Path(scratch, "venv")
        # The platform only decides which wheel is taken where a package has several; the
        # compiled part is removed below.
        _uv(
            *("pip", "install", "--quiet", "--target", str(installed), "--no-deps"),
            *("--python", sys.executable, "--python-version", OLDEST_PYTHON),
            *("--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"),
            *("--require-hashes", "-r", str(listed)),
        )
        _strip(installed)
        installed.rename(venv)
    return venv


def pack(charm: Path, build: Path = stage.BUILD) -> Path:
    """Pack one charm, unless nothing has changed since it was last packed.

    Args:
        charm: The charm's folder.
        build: Where the staged folder and the .charm go.

    Returns:
        The .charm.

    Raises:
        stage.StageError: The charm's folder cannot be staged.
        PackError: The charm cannot be packed.
    """
    target = build / f"{charm.name}.charm"
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build / ".lock"):
        if not (charm / "uv.lock").exists():
            print(f"{charm.name}: no uv.lock yet, making one; commit it", flush=True)
            _uv("lock", "--quiet", "--project", str(charm))
        inputs = _inputs(charm)
        stamp = build / ".inputs" / charm.name
        if target.exists() and stamp.exists():
            recorded = stamp.read_text().split()
            if recorded == [inputs, _digest(target)]:
                print(f"{charm.name}: unchanged ({_megabytes(target)})", flush=True)
                return target
        started = time.monotonic()
        staged = stage.stage(charm, build)
        write_zip(entries(staged, environment(staged, build)), target)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(f"{inputs} {_digest(target)}\n")
    elapsed = time.monotonic() - started
    print(f"{charm.name}: packed ({_megabytes(target)}, {elapsed:.1f} s)", flush=True)
    return target


def _strip(venv: Path) -> None:
    """Remove what a charm does not need, and refuse what would tie it to one machine."""
    for path in sorted(venv.rglob("*"), reverse=True):
        relative = path.relative_to(venv)
        if path.suffix == ".pth":
            raise PackError(f"{relative}: path files are not read, since Python is run with -S")
        if path.suffix in {".so", ".pyd"} and relative.parts[0] not in _COMPILED_HALF_IS_OPTIONAL:
            raise PackError(f"{relative}: compiled, so the charm would run on one Python only")
        if path.is_dir():
            if path.name in _NOT_PACKED_FOLDERS or relative == Path("bin"):
                shutil.rmtree(path)
        elif path.suffix in _NOT_PACKED_SUFFIXES or path.name in _NOT_PACKED_NAMES:
            path.unlink()


def _date(content: bytes) -> tuple[int, int, int, int, int, int]:
    """A date for a file that follows from its content alone, between 1980 and 2019.

    Python takes cached bytecode for current as long as the date and size of its source are the
    same. With one fixed date, a unit that unpacks a new revision over an old one could run the
    old bytecode.
    """
    # A zip file counts in steps of two seconds.
    seconds = int.from_bytes(hashlib.sha256(content).digest()[:4]) % (40 * 365 * 43200) * 2
    date = _ZIP_EPOCH + datetime.timedelta(seconds=seconds)
    return (date.year, date.month, date.day, date.hour, date.minute, date.second)


def _inputs(charm: Path) -> str:
    """A digest of everything that decides what the .charm holds."""
    digest = hashlib.sha256()
    for name, path in [*stage.sources(charm).items(), *((str(p), p) for p in _OWN_SOURCES)]:
        executable = path.stat().st_mode & stat.S_IXUSR
        digest.update(f"{name}\0{executable}\0{_digest(path)}\n".encode())
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _dump(content: object) -> bytes:
    return yaml.safe_dump(content, sort_keys=True).encode()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold a lock file, so that two runs in one checkout do not mix their staged folders."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _uv(*arguments: str) -> str:
    """Run uv, the one installed next to this Python before the one on PATH."""
    program = Path(sys.executable).with_name("uv")
    found = str(program) if program.exists() else shutil.which("uv")
    if found is None:
        raise PackError("uv is not installed; `make` installs it, or run tools/bootstrap")
    # uv would otherwise complain that the charm's project is not in the active environment.
    environ = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    command = [found, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise PackError(f"uv {arguments[0]} failed:\n{done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Pack the charms named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("charm", nargs="*", help="a charm's name or folder; all of them if none")
    parser.add_argument("--build-dir", type=Path, default=stage.BUILD, help="where to put them")
    options = parser.parse_args(arguments)
    try:
        folders = [stage.find(name) for name in options.charm] or list(stage.charms().values())
        for charm in folders:
            pack(charm, options.build_dir.resolve())
    except (PackError, stage.StageError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
