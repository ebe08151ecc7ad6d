"""Put a charm and the shared library together in build/<charm>/, as charmcraft wants them.

A charm lives in charms/<charm> (ours) or onebox/charms/<charm> (the small backing charms) and
imports `mlflow_kit` from lib/. Juju knows only self-contained charms, so this program copies both
into one folder. `tools/pack.py` makes the .charm from there, and so does a real
`charmcraft pack` on an Ubuntu machine, for which the staged charmcraft.yaml also names the files
that no plugin of charmcraft takes by itself.

    python tools/stage.py [charm ...]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

# Where charms live, in the order in which they are packed.
CHARM_FOLDERS = (ROOT / "charms", ROOT / "onebox" / "charms")

# What the packers read and a packed charm does not hold.
FOR_PACKERS = frozenset({"charmcraft.yaml", "pyproject.toml", "uv.lock"})

# What a charm's folder holds for its developers only.
_NOT_STAGED = frozenset({"tests", "__pycache__"})

# Modules of the library that only tests import (they need ops.testing).
_LIBRARY_FOR_TESTS = frozenset({"testing.py"})


class StageError(Exception):
    """A charm's folder cannot be staged; the message says what is wrong with it."""


def charms() -> dict[str, Path]:
    """All charms of this repository.

    Returns:
        The folder of each charm by its name.
    """
    return {
        manifest.parent.name: manifest.parent
        for folder in CHARM_FOLDERS
        for manifest in sorted(folder.glob("*/charmcraft.yaml"))
    }


def find(name: str) -> Path:
    """The folder of one charm.

    Args:
        name: The name of a charm of this repository, or the path of any charm's folder.

    Raises:
        StageError: There is no such charm.
    """
    known = charms()
    if name in known:
        return known[name]
    folder = Path(name).resolve()
    if (folder / "charmcraft.yaml").is_file():
        return folder
    raise StageError(f"no charm {name!r}; there are: {', '.join(known)}")


def sources(charm: Path) -> dict[str, Path]:
    """The files that make up a staged charm.

    Args:
        charm: The charm's folder.

    Returns:
        The file to copy, by its path in the staged charm, in a stable order.

    Raises:
        StageError: The folder holds a symbolic link, or a `lib` of its own.
    """
    if (charm / "lib").exists():
        raise StageError(f"{charm}/lib: shared code belongs in lib/ at the top of the repository")
    found = {str(path.relative_to(charm)): path for path in _files(charm, _NOT_STAGED)}
    library = ROOT / "lib"
    for path in _files(library / "mlflow_kit", _NOT_STAGED | _LIBRARY_FOR_TESTS):
        found[str(Path("lib") / path.relative_to(library))] = path
    found["LICENSE"] = ROOT / "LICENSE"
    return dict(sorted(found.items()))


def stage(charm: Path, build: Path = BUILD) -> Path:
    """Copy a charm and the library to `build`/<charm>, replacing what was there.

    Args:
        charm: The charm's folder.
        build: Where staged charms go.

    Returns:
        The staged folder.

    Raises:
        StageError: The charm cannot be staged.
    """
    files = sources(charm)
    into = build / charm.name
    shutil.rmtree(into, ignore_errors=True)
    for name, path in files.items():
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    project = into / "charmcraft.yaml"
    project.write_text(_with_files_part(project.read_text(), files))
    return into


def _with_files_part(charmcraft_yaml: str, names: Iterable[str]) -> str:
    """Name everything that is staged in charmcraft.yaml.

    charmcraft's uv plugin takes `src`, `lib` and the packages; anything else is packed only if
    another part primes it.
    """
    project = yaml.safe_load(charmcraft_yaml)
    tops = {Path(name).parts[0] for name in names} - FOR_PACKERS - {"lib", "src"}
    project["parts"]["files"] = {"plugin": "dump", "source": ".", "prime": sorted(tops)}
    return yaml.safe_dump(project, sort_keys=False)


def _files(folder: Path, excluded: frozenset[str]) -> Iterator[Path]:
    """The files below a folder, but for hidden ones and those named in `excluded`."""
    for path in sorted(folder.iterdir()):
        if path.name in excluded or path.name.startswith(".") or path.suffix == ".pyc":
            continue
        # charmcraft's plugins copy links as links, and they point nowhere inside a unit.
        if path.is_symlink():
            raise StageError(f"{path}: a charm holds no symbolic links")
        if path.is_dir():
            yield from _files(path, excluded)
        else:
            yield path


def main(arguments: list[str]) -> int:
    """Stage the charms named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("charm", nargs="*", help="a charm's name or folder; all of them if none")
    names: list[str] = parser.parse_args(arguments).charm
    try:
        for charm in [find(name) for name in names] or list(charms().values()):
            print(f"{charm.name}: {stage(charm)}")
    except StageError as error:
        print(f"stage: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
