"""Where storage is on this machine: a directory, or a volume of its own that can be full.

A volume is an ext4 filesystem in a sparse file beside the directory where it is mounted. Storage
is one when its size was asked for (``juju deploy --storage data=64M``); all other storage is a
plain directory, which needs no loop device and is as large as the disk.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess

from onebox import model


def ensure(storage: model.Storage) -> None:
    """Make the directory of a storage; make and mount its volume if it is not mounted.

    Raises:
        OSError: the machine cannot do so; the text is that of mkfs or mount.
    """
    path = pathlib.Path(storage.path)
    path.mkdir(parents=True, exist_ok=True)
    if not storage.limited or path.is_mount():
        return
    image = _image(path)
    if not image.exists():
        partial = image.with_suffix(".new")
        with partial.open("wb") as file:
            file.truncate(storage.size << 20)
        # Nothing is kept back for root: the servers in the pods may be root.
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(partial))
        partial.rename(image)
    _run("mount", "-o", "loop", str(image), str(path))
    # Servers want an empty directory.
    if (path / "lost+found").exists():
        (path / "lost+found").rmdir()


def remove(storage: model.Storage) -> None:
    """Remove a storage with all that is in it; no error when it is not there."""
    path = pathlib.Path(storage.path)
    if path.is_mount():
        # Lazily: the charm may have left a program running that uses it.
        _run("umount", "--lazy", str(path))
    shutil.rmtree(path, ignore_errors=True)
    _image(path).unlink(missing_ok=True)


def _image(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.img")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
