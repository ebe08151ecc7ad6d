"""Container images: what the folders of images/ say, built with Podman.

An image is named ``localhost/onebox/NAME:HASH``, where the hash covers everything that it is made
from: its folder, the images it begins with, the pins of the program it holds. So an image that
has the name is the image that is wanted, and a second run builds nothing. ``:latest`` is a second
name of the newest, for use by hand.

Nothing half-built is ever used: Podman names an image after its last step.
"""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Mapping

from onebox import pods
from tools import goprogram

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "images"
REPOSITORY = "localhost/onebox"

DEBIAN = "debian"
"""The image under all others. It has no Containerfile: debootstrap makes it."""

_DEBIAN_MIRROR = "http://deb.debian.org/debian"
_DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR = re.compile(r"^(?:deb |URIs:).*?(http\S+/debian)/?\s", re.MULTILINE)
_NEARLY_FULL = 16 * 1024**2
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class BuildError(Exception):
    """A step failed.

    Args:
        step: what was being done, for example ``image mlflow``.
        log: what the failed program printed.
        disk_full: whether a full disk is why.
    """

    def __init__(self, step: str, log: str, disk_full: bool = False) -> None:
        super().__init__(f"{step} failed:\n{last_lines(log)}")
        self.step = step
        self.disk_full = disk_full


def last_lines(log: str) -> str:
    """Return the end of what a program printed, where it says why it failed."""
    lines = [line for line in log.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-15:])


@dataclasses.dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: the folder under images/, or ``debian``.
        tag: a hash of everything it is made from.
        parents: the images it begins with, by the argument of its Containerfile that names them.
        program: the folder of tools/go with the program that it holds, or None.
    """

    name: str
    tag: str
    parents: Mapping[str, Image]
    program: str | None = None

    @property
    def reference(self) -> str:
        """The full name, for example ``localhost/onebox/mlflow:0123456789ab``."""
        return f"{REPOSITORY}/{self.name}:{self.tag}"


@dataclasses.dataclass(frozen=True)
class _Debian:
    """The content of images/base/debian.toml."""

    suite: str
    packages: list[str]
    left_out: list[str]


def read() -> dict[str, Image]:
    """Return all images by name; each comes after those that it begins with."""
    folders = {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/Containerfile"))}
    images = {DEBIAN: Image(DEBIAN, _digest([FOLDER / "base" / "debian.toml"], ()), {})}

    def add(name: str) -> Image:
        if name not in images:
            text = (folders[name] / "Containerfile").read_text()
            named = re.findall(rf"^ARG (\w+)={REPOSITORY}/([\w-]+):latest$", text, re.MULTILINE)
            parents = {argument: add(parent) for argument, parent in named}
            program = name if "/run/program/" in text else None
            pins = [goprogram.PROGRAMS / program] if program else []
            tag = _digest([folders[name], *pins], [parent.tag for parent in parents.values()])
            images[name] = Image(name, tag, parents, program)
        return images[name]

    for name in folders:
        add(name)
    return images


def with_parents(image: Image) -> list[Image]:
    """Return an image and all that it begins with, those first."""
    found: list[Image] = []
    for parent in image.parents.values():
        found += [one for one in with_parents(parent) if one not in found]
    return [*found, image]


def present() -> dict[str, str]:
    """Return the identifiers of the images that Podman has, by full name."""
    listed = pods.podman("images", "--format", "{{.Repository}}:{{.Tag}} {{.Id}}")
    return dict(line.split(" ", 1) for line in listed.splitlines())


def name_latest(images: Iterable[Image]) -> None:
    """Give images that are present their second name, ``:latest``."""
    there = present()
    for image in images:
        latest = f"{REPOSITORY}/{image.name}:latest"
        if there[image.reference] != there.get(latest):
            pods.podman("tag", image.reference, latest)


def build(image: Image, work: pathlib.Path, program: pathlib.Path | None = None) -> None:
    """Build an image whose parents are present.

    Args:
        image: what to build.
        work: a directory for temporary files.
        program: the built program that the image holds, if it holds one.

    Raises:
        BuildError: a step of the build failed.
    """
    with tempfile.TemporaryDirectory(dir=work) as name:
        scratch = pathlib.Path(name)
        if image.name == DEBIAN:
            _make_debian(image, scratch)
            return
        parents = [f"{key}={parent.reference}" for key, parent in image.parents.items()]
        mounts = _host_access(scratch)
        if program:
            mounts["/run/program"] = str(program.parent)
        _run(
            image,
            scratch,
            *("podman", "build", "--network", "host", "--isolation", "chroot"),
            *("--pull=never", "--force-rm", "--tag", image.reference),
            # One layer without what its upgrades replaced, for all others to share.
            *(["--squash-all"] if image.name == "base" else []),
            *(f"--build-arg={parent}" for parent in parents),
            *(f"--volume={source}:{target}:ro" for target, source in mounts.items()),
            str(FOLDER / image.name),
        )


def push(image: Image, registry: str) -> str:
    """Push an image to a registry, and return its name there.

    Args:
        image: an image that is present.
        registry: ``HOST[:PORT][/NAMESPACE]``. One on this machine is spoken to without TLS.

    Raises:
        ValueError: the registry is written in another way.
        pods.PodmanError: the registry did not take it.
    """
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", registry):
        raise ValueError(
            f"registry {registry!r} is not HOST[:PORT][/NAMESPACE], such as localhost:32000/mlflow"
        )
    host = re.split("[:/]", registry)[0]
    plain = ["--tls-verify=false"] if host in {"localhost", "127.0.0.1"} else []
    target = f"{registry}/{image.name}:{image.tag}"
    pods.podman("push", "--quiet", *plain, image.reference, f"docker://{target}")
    return target


def _make_debian(image: Image, scratch: pathlib.Path) -> None:
    """Make the image under all others from Debian's packages."""
    settings = _debian()
    root = scratch / "root"
    variables = {"http_proxy": proxy} if (proxy := _apt_setting("http::Proxy")) else {}
    _run(
        image,
        scratch,
        *("debootstrap", "--variant=minbase", f"--keyring={_DEBIAN_KEYRING}"),
        f"--include={','.join(settings.packages)}",
        *(settings.suite, str(root), _mirror()),
        variables=variables,
    )
    # Later packages leave out the same files as this image does.
    rules = [f"path-exclude={pattern}\n" for pattern in settings.left_out]
    (root / "etc/dpkg/dpkg.cfg.d/left-out").write_text("".join(rules))
    (root / "etc/apt/sources.list").write_text(_sources(_DEBIAN_MIRROR))
    (root / "etc/machine-id").write_text("")
    caches = ["/var/cache/apt/*", "/var/lib/apt/lists/*", "/var/log/*"]
    excluded = [f"--exclude=.{pattern}" for pattern in (*settings.left_out, *caches)]
    archive = scratch / "root.tar"
    _run(image, scratch, "tar", "-C", str(root), *excluded, "-cf", str(archive), ".")
    _run(image, scratch, "podman", "import", "--quiet", str(archive), image.reference)


def _host_access(scratch: pathlib.Path) -> dict[str, str]:
    """Return what a build needs to reach package sources the way this machine does.

    Certificate authorities, proxies, mirrors and pip's settings are the machine's own; mounted,
    they are no part of the image.

    Returns:
        Paths of this machine by the path where the build has to see them.
    """
    # Not over the image's own bundle, which the package ca-certificates wants to replace.
    authorities = "/run/host/ca-certificates.crt"
    proxies = {name: _apt_setting(name) for name in ("http::Proxy", "https::Proxy")}
    apt = {"https::CaInfo": authorities, **{name: one for name, one in proxies.items() if one}}
    (scratch / "apt.conf").write_text(
        "".join(f'Acquire::{name} "{value}";\n' for name, value in apt.items())
    )
    (scratch / "sources.list").write_text(_sources(_mirror()))
    mounts = {
        authorities: os.environ.get("SSL_CERT_FILE", _AUTHORITIES),
        "/etc/apt/apt.conf.d/90host": str(scratch / "apt.conf"),
        "/etc/apt/sources.list": str(scratch / "sources.list"),
        "/etc/pip.conf": str(scratch / "pip.conf"),
    }
    settings = {"cert": authorities, **_pip_settings()}
    for key in ("cert", "client-cert", "find-links"):
        if (path := pathlib.Path(settings.get(key, ""))).is_absolute() and path.exists():
            mounts[f"/run/host/{key}"] = str(path)
            settings[key] = f"/run/host/{key}"
    lines = [f"{key} = {value}\n" for key, value in sorted(settings.items())]
    (scratch / "pip.conf").write_text("".join(["[global]\n", *lines]))
    return mounts


def _pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine: its files', then its environment variables'.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    home = pathlib.Path.home()
    files = ["/etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([*files, *filter(None, [os.environ.get("PIP_CONFIG_FILE")])])
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update(parser[section])
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _apt_setting(name: str) -> str:
    """Return one of apt's settings under ``Acquire``, empty when it is not set."""
    done = subprocess.run(
        ["apt-config", "shell", "value", f"Acquire::{name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^value='(.*)'$", done.stdout, re.MULTILINE)
    return found[1] if found else ""


def _mirror() -> str:
    """Return this machine's mirror of Debian, or Debian's own (on Ubuntu, for example)."""
    lists = pathlib.Path("/etc/apt/sources.list.d").glob("*.list")
    deb822 = pathlib.Path("/etc/apt/sources.list.d").glob("*.sources")
    for path in [pathlib.Path("/etc/apt/sources.list"), *sorted(lists), *sorted(deb822)]:
        if path.is_file() and (found := _MIRROR.search(path.read_text())):
            return found[1]
    return _DEBIAN_MIRROR


def _sources(mirror: str) -> str:
    """Return a sources.list: the suite, its updates and its security updates."""
    suite = _debian().suite
    return (
        f"deb {mirror} {suite} main\n"
        f"deb {mirror} {suite}-updates main\n"
        f"deb {mirror.removesuffix('/debian')}/debian-security {suite}-security main\n"
    )


def _debian() -> _Debian:
    return _Debian(**tomllib.loads((FOLDER / "base" / "debian.toml").read_text()))


def _digest(paths: Iterable[pathlib.Path], more: Iterable[str]) -> str:
    """Return a short hash of files, of the files in folders, and of strings."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    for text in more:
        digest.update(f"{text}\0".encode())
    return digest.hexdigest()[:12]


def _run(
    image: Image, scratch: pathlib.Path, *command: str, variables: Mapping[str, str] | None = None
) -> None:
    """Run one program of a build."""
    done = subprocess.run(
        command,
        env={**pods.environment(), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        # debootstrap does not always say that it is the disk.
        nearly_full = shutil.disk_usage(scratch).free < _NEARLY_FULL
        full = nearly_full or "No space left on device" in done.stdout
        raise BuildError(f"image {image.name}", done.stdout, full)
