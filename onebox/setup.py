"""Prepare this machine for onebox: Debian packages, Go programs, container images.

``python3 -m onebox.setup`` does all of it, saying what it does; where everything is there, it
takes a second. Programs are kept in ``/var/cache/onebox`` (or the directory that ``ONEBOX_CACHE``
names), images in Podman's storage. All checkouts on a machine share both.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import functools
import graphlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from onebox import hookclient, images, pods, progress
from tools import goprogram

PROGRAMS = ("pebble", "minio")
"""The Go programs that onebox needs; folders of tools/go."""

PUBLISHED = ("mlflow", "mlflow-models", "nginx")
"""The images that the charms of the bundle run on."""

_PODMAN = (4, 3)
_PEBBLE = (1, 32, 1)
_IMAGE_STORAGE = pathlib.Path("/var/lib/containers")

# Debian packages, each with a file that shows it to be there. Most are what Podman's network
# needs and its package does not pull in.
_PACKAGES = {
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "debootstrap": "/usr/sbin/debootstrap",
    "e2fsprogs": "/usr/sbin/mkfs.ext4",
    "gcc": "/usr/bin/gcc",
    "iproute2": "/usr/sbin/tc",
    "iptables": "/usr/sbin/iptables",
    "libc6-dev": "/usr/include/stdio.h",
    "netavark": "/usr/lib/podman/netavark",
    "podman": "/usr/bin/podman",
    "runc": "/usr/sbin/runc",
    "uidmap": "/usr/bin/newuidmap",
    "util-linux": "/usr/bin/nsenter",
}

# What each step takes on two cores, by measurement: seconds, and GiB of disk while it runs.
_PROGRAM_COSTS = {"pebble": (30, 0.6), "minio": (150, 3.0)}
_IMAGE_COSTS = {
    "debian": (45, 0.7),
    "base": (15, 0.2),
    "mlflow": (60, 1.2),
    "mlflow-models": (80, 2.0),
    "nginx": (15, 0.2),
    "postgresql": (25, 0.3),
    "mariadb": (25, 0.4),
    "minio": (10, 0.3),
    "lookalike-mlflow": (10, 0.5),
    "lookalike-nginx": (5, 0.2),
}
_OTHER_COSTS = (60, 1.0)


class SetupError(Exception):
    """The machine cannot be prepared; the text says what is wrong, and what to do about it."""


def ensure_all() -> None:
    """Do everything that is missing.

    Raises:
        SetupError: something cannot be done.
    """
    ensure_system()
    try:
        hookclient.build()
    except hookclient.CompileError as error:
        raise SetupError(str(error)) from error
    _ensure(PROGRAMS, images.read().values())


def ensure_system() -> None:
    """Install the Debian packages that are missing.

    Raises:
        SetupError: this is neither Debian nor Ubuntu, the user is not root, the packages cannot
            be installed, or Podman is too old.
    """
    if platform.system() != "Linux" or not shutil.which("apt-get"):
        raise SetupError("onebox runs on Debian and Ubuntu; this machine is neither")
    if os.geteuid() != 0:
        raise SetupError("onebox makes networks and containers, which takes root: use sudo")
    missing = [package for package, path in _PACKAGES.items() if not pathlib.Path(path).exists()]
    if missing:
        print(f"installing the Debian packages {', '.join(missing)} ...", file=sys.stderr)
        # It also fails for a source that has nothing to do with these packages; whether they can
        # be had, the next command tells.
        _apt("update")
        failed = _apt("install", "--no-install-recommends", *missing)
        if failed:
            raise SetupError(failed)
    version = pods.podman("version", "--format", "{{.Client.Version}}").strip()
    if _numbers(version) < _PODMAN:
        raise SetupError(
            f"Podman {version} is too old: onebox needs 4.3 or newer (Debian 12, Ubuntu 24.04)"
        )


def ensure_go_program(name: str) -> pathlib.Path:
    """Build a Go program, unless it is there.

    A ``pebble`` that ``PEBBLE_BIN`` names, or that is on PATH, serves as well when it is not
    older than ours.

    Args:
        name: a folder of tools/go.

    Returns:
        The program. The folder of Pebble is also ``pods.cache() / "pebble"``.

    Raises:
        SetupError: it cannot be built, or PEBBLE_BIN names something else.
    """
    program = _given_pebble() if name == "pebble" else None
    if program is None:
        try:
            program = goprogram.build(name)
        except goprogram.GoProgramError as error:
            if "no space left on device" in str(error).lower():
                raise SetupError(_disk_full(f"program {name}", _PROGRAM_COSTS[name][1])) from error
            raise SetupError(str(error)) from error
    if name == "pebble":
        _link(pods.cache() / "pebble", program.parent)
    return program


def ensure_image(name: str) -> str:
    """Build an image and what it begins with, unless it is there.

    Args:
        name: a folder of images/.

    Returns:
        The full name of the image.

    Raises:
        SetupError: there is no such image, or it cannot be built.
    """
    known = images.read()
    if name not in known:
        raise SetupError(f"no image {name!r}; there are {', '.join(sorted(known))}")
    _ensure((), images.with_parents(known[name]))
    return known[name].reference


def publish(registry: str) -> dict[str, str]:
    """Push the images that the charms of the bundle run on to a registry.

    Args:
        registry: ``HOST[:PORT][/NAMESPACE]``, for example ``localhost:32000/mlflow``.

    Returns:
        The full name in the registry, by image.

    Raises:
        SetupError: an image cannot be built or pushed.
    """
    for name in PUBLISHED:
        ensure_image(name)
    known = images.read()
    names: dict[str, str] = {}
    with _progress(len(PUBLISHED)) as shown:
        for name in PUBLISHED:
            try:
                with shown.step(f"pushing {name} to {registry}", 20):
                    names[name] = images.push(known[name], registry)
            except (ValueError, pods.PodmanError) as error:
                raise SetupError(str(error)) from error
    return names


def _ensure(programs: Sequence[str], wanted: Iterable[images.Image]) -> None:
    """Build the programs and images that are missing. Parents come before their images."""
    with _alone():
        there = images.present()
        wanted = list(wanted)
        missing = [image for image in wanted if image.reference not in there]
        unbuilt = [name for name in programs if not _program_there(name)]
        _check_disk(unbuilt, missing)
        if unbuilt or missing:
            with _progress(len(unbuilt) + len(missing)) as shown:
                _build(unbuilt, missing, shown)
        images.name_latest(wanted)
        if "pebble" in programs:
            ensure_go_program("pebble")


def _build(
    programs: Sequence[str], missing: Sequence[images.Image], shown: progress.Progress
) -> None:
    """Build two things at a time, as one mostly computes while the other mostly downloads."""
    work = pods.cache() / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tasks: dict[str, Callable[[], object]] = {}
    order: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for one in missing:
        needs = [parent.name for parent in one.parents.values() if parent in missing]
        if one.program in programs:
            needs.append(f"program {one.program}")
        order.add(one.name, *needs)
        tasks[one.name] = functools.partial(_build_image, one, work, shown)
    for name in programs:
        order.add(f"program {name}")
        tasks[f"program {name}"] = functools.partial(_build_program, name, shown)
    order.prepare()
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        running: dict[concurrent.futures.Future[object], str] = {}
        try:
            while order.is_active():
                running |= {pool.submit(tasks[name]): name for name in order.get_ready()}
                ended = concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done
                for future in ended:
                    future.result()
                    order.done(running.pop(future))
        finally:
            pool.shutdown(cancel_futures=True)
    shutil.rmtree(work, ignore_errors=True)


def _build_program(name: str, shown: progress.Progress) -> None:
    with shown.step(f"building program {name}", _PROGRAM_COSTS[name][0]):
        ensure_go_program(name)


def _build_image(image: images.Image, work: pathlib.Path, shown: progress.Progress) -> None:
    program = ensure_go_program(image.program) if image.program else None
    seconds, space = _IMAGE_COSTS.get(image.name, _OTHER_COSTS)
    try:
        with shown.step(f"building image {image.name}", seconds):
            images.build(image, work, program)
    except images.BuildError as error:
        if error.disk_full:
            raise SetupError(_disk_full(error.step, space)) from error
        raise SetupError(str(error)) from error


@contextlib.contextmanager
def _progress(total: int) -> Iterator[progress.Progress]:
    shown = progress.Progress(total)
    with shown.signs_of_life():
        yield shown


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep two setups on this machine from building the same things."""
    pods.cache().mkdir(parents=True, exist_ok=True)
    with (pods.cache() / "setup.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another setup on this machine to end ...", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _check_disk(programs: Iterable[str], missing: Iterable[images.Image]) -> None:
    """Refuse to start what would not fit.

    Raises:
        SetupError: a directory has too little space.
    """
    building = sum(_PROGRAM_COSTS[name][1] for name in programs)
    storing = sum(_IMAGE_COSTS.get(image.name, _OTHER_COSTS)[1] for image in missing)
    needs: dict[int, list[tuple[pathlib.Path, float]]] = {}
    for directory, space in ((pods.cache(), building), (_IMAGE_STORAGE, storing)):
        existing = next(path for path in (directory, *directory.parents) if path.exists())
        needs.setdefault(existing.stat().st_dev, []).append((existing, space))
    for places in needs.values():
        needed = sum(space for _, space in places)
        free = shutil.disk_usage(places[0][0]).free / 1024**3
        if free < needed:
            names = " and ".join(str(path) for path, space in places if space)
            raise SetupError(
                f"not enough disk space in {names}: about {needed:.1f} GiB are needed, "
                f"{free:.1f} GiB are free"
            )


def _disk_full(step: str, space: float) -> str:
    return (
        f"{step}: the disk is full; free about {space:.1f} GiB in {_IMAGE_STORAGE} and "
        f"{pods.cache()}, then run this again"
    )


def _apt(*arguments: str) -> str:
    """Run apt-get, and return why it failed; empty when it did not."""
    # It waits for another apt to end: unattended upgrades run at any time.
    command = ["apt-get", "--quiet", "--yes", "--option=DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return ""
    return f"apt-get {arguments[0]} failed:\n{images.last_lines(done.stdout)}"


def _program_there(name: str) -> bool:
    given = _given_pebble() if name == "pebble" else None
    return given is not None or goprogram.location(name).exists()


def _given_pebble() -> pathlib.Path | None:
    """Return a Pebble that this machine has, if it is new enough.

    Raises:
        SetupError: PEBBLE_BIN names a program that is not, or too old.
    """
    named = os.environ.get("PEBBLE_BIN")
    found = named or shutil.which("pebble")
    if not found:
        return None
    program = pathlib.Path(found).resolve()
    try:
        done = subprocess.run(
            [program, "version", "--client"], capture_output=True, text=True, check=False
        )
        version = done.stdout.strip()
    except OSError as error:
        version = str(error)
    if _numbers(version) >= _PEBBLE and re.match(r"v?\d", version):
        return _copied(program)
    if named:
        raise SetupError(
            f"PEBBLE_BIN={named}: no Pebble 1.32.1 or newer ({version or 'no answer'})"
        )
    return None


def _copied(program: pathlib.Path) -> pathlib.Path:
    """Return a copy of a program in a folder of its own, because pods get the whole folder."""
    changed = program.stat()
    copy = pods.cache() / "given" / f"{changed.st_ino}-{changed.st_mtime_ns}" / "pebble"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_suffix(f".{os.getpid()}")
        shutil.copy2(program, temporary)
        temporary.replace(copy)
    return copy


def _link(link: pathlib.Path, target: pathlib.Path) -> None:
    """Point a symbolic link at a target; no reader ever finds it missing."""
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare this machine; optionally push the images to a registry."""
    parser = argparse.ArgumentParser(
        prog="python3 -m onebox.setup", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--registry",
        metavar="HOST[:PORT][/NAMESPACE]",
        help="also push the images of the bundle's charms there",
    )
    options = parser.parse_args(arguments)
    try:
        ensure_all()
        if options.registry:
            for name, target in publish(options.registry).items():
                print(f"{name}: {target}")
    except (SetupError, pods.PodmanError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
