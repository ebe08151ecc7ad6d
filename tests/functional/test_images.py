"""The images as they are built, run as the user of the services (root, for Podman)."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from onebox import images, pods, setup

DAEMON = "584792:584792"
ROOT = pathlib.Path(__file__).resolve().parents[2]

VERSIONS = """
import importlib.metadata, json
found = importlib.metadata.distributions(path=[path for path in __import__("sys").path if path])
print(json.dumps({one.name.lower().replace("_", "-"): one.version for one in found}))
"""

UNCOMPILED = """
import importlib.util, pathlib
root = pathlib.Path(importlib.util.find_spec("mlflow").origin).parent.parent
sources = [path for path in root.rglob("*.py") if "templates" not in path.parts]
print(len(sources), *[
    path for path in sources
    if not pathlib.Path(importlib.util.cache_from_source(str(path))).exists()
])
"""

TRACKING = """
import boto3, psycopg2, pymysql, uvloop, httptools
import mlflow.server.fastapi_app
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
store = SqlAlchemyStore("sqlite:////tmp/mlflow.db", "/tmp/artifacts")
experiment = store.create_experiment("wine")
print(store.get_experiment(experiment).name)
"""

SERVING = """
import boto3, lightgbm, xgboost, skops, pandas
import mlflow.pyfunc, mlflow.sklearn, mlflow.pyfunc.scoring_server
from sklearn.linear_model import LinearRegression
model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
mlflow.sklearn.save_model(model, "/tmp/model", pip_requirements=["scikit-learn"])
app = mlflow.pyfunc.scoring_server.init(mlflow.pyfunc.load_model("/tmp/model"))
print(sorted(route.path for route in app.routes if route.path in {"/ping", "/invocations"}))
print(mlflow.pyfunc.load_model("/tmp/model").predict(pandas.DataFrame([[2.0]])).round(6).tolist())
"""

NGINX = """\
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    limit_req_zone $binary_remote_addr zone=one:1m rate=1r/s;
    server {
        listen 8080;
        location / { auth_request /auth; limit_req zone=one; proxy_pass http://127.0.0.1:9; }
        location = /auth { internal; return 204; }
        location = /status { stub_status; }
    }
}
"""


def run(image: str, *command: str, user: str | None = DAEMON) -> str:
    """Run a command in a container without a network, and return what it printed."""
    return pods.podman(
        *("run", "--rm", "--network", "none"),
        *(["--user", user] if user else []),
        *("--entrypoint", json.dumps(command[:1]), image, *command[1:]),
    ).strip()


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """All images, by name."""
    setup.ensure_all()
    return {name: image.reference for name, image in images.read().items()}


def pins(name: str) -> dict[str, str]:
    lines = (images.FOLDER / name / "requirements.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines)


@pytest.mark.parametrize("name", ["mlflow", "mlflow-models"])
def test_packages_are_the_pinned_ones_and_compiled(built: dict[str, str], name: str) -> None:
    installed = json.loads(run(built[name], "python3", "-c", VERSIONS))
    assert {package: installed.get(package) for package in pins(name)} == pins(name)

    count, *uncompiled = run(built[name], "python3", "-c", UNCOMPILED).split()
    assert int(count) > 1000
    assert uncompiled == []


def test_the_mlflow_of_all_images_is_one() -> None:
    packages = ("mlflow", "mlflow-skinny", "mlflow-tracing")

    found = {pins(name)[package] for name in ("mlflow", "mlflow-models") for package in packages}

    assert len(found) == 1


def test_the_tracking_server_has_what_it_imports(built: dict[str, str]) -> None:
    # `test_serve.py` has it serve from the public image's layout, too
    assert run(built["mlflow"], "python3", "-c", TRACKING).splitlines()[-1] == "wine"
    assert run(built["mlflow"], "mlflow", "--version").endswith(pins("mlflow")["mlflow"])


def test_a_model_is_saved_loaded_and_served(built: dict[str, str]) -> None:
    routes, predictions = run(built["mlflow-models"], "python3", "-c", SERVING).splitlines()[-2:]

    assert json.loads(routes.replace("'", '"')) == ["/invocations", "/ping"]
    assert json.loads(predictions) == [5.0]


@pytest.mark.parametrize("name", ["nginx", "lookalike-nginx"])
def test_nginx_takes_what_a_proxy_needs(
    built: dict[str, str], name: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "nginx.conf").write_text(NGINX)
    command = ["nginx", "-t", "-c", "/conf/nginx.conf"]
    pods.podman(
        *("run", "--rm", "--network", "none", "--user", "0:0"),
        *("--volume", f"{tmp_path}:/conf:ro", "--entrypoint", json.dumps(command), built[name]),
    )


def test_nginx_of_ours_serves_no_site(built: dict[str, str]) -> None:
    listens = re.compile(r"^\s*listen\b", re.MULTILINE)

    assert not listens.search(run(built["nginx"], "nginx", "-T", user="0:0"))
    assert listens.search(run(built["lookalike-nginx"], "nginx", "-T", user="0:0"))


@pytest.mark.parametrize(
    ("name", "script"),
    [
        (
            "postgresql",
            "initdb -D /tmp/data >/dev/null && pg_ctl -D /tmp/data -w start && psql -l",
        ),
        (
            "mariadb",
            "mariadb-install-db --datadir=/tmp/data --auth-root-authentication-method=normal",
        ),
        ("minio", "minio --version"),
        ("base", "cd && python3 -c 'import ssl; ssl.create_default_context()' && pwd"),
    ],
)
def test_the_service_user_can_run_it(built: dict[str, str], name: str, script: str) -> None:
    assert run(built[name], "sh", "-ec", script)


def test_servers_are_of_the_versions_that_the_docs_name(built: dict[str, str]) -> None:
    assert " 15." in run(built["postgresql"], "postgres", "--version")
    assert "10.11." in run(built["mariadb"], "mariadbd", "--version")


@pytest.mark.parametrize(
    "name", ["mlflow", "mlflow-models", "nginx", "postgresql", "mariadb", "minio"]
)
def test_an_image_of_ours_is_not_run_as_root(built: dict[str, str], name: str) -> None:
    assert run(built[name], "id", "-u", user=None) == "584792"


@pytest.mark.parametrize("name", ["mlflow", "nginx"])
def test_nothing_of_this_machine_is_in_an_image(built: dict[str, str], name: str) -> None:
    script = "find /run/host /etc/pip.conf /etc/apt/apt.conf.d/90host -type f -size +0; env"

    printed = run(built[name], "sh", "-ec", script)

    assert "/run/host" not in printed
    assert "/etc/" not in printed
    assert "pip" not in printed.lower()


def test_the_lookalike_of_mlflow_is_laid_out_as_the_public_image(built: dict[str, str]) -> None:
    script = (
        "id -u; command -v python3; command -v mlflow; ls /usr/bin/python3 2>&1;"
        "getent passwd 584792 || echo -;"
        "python3 -c 'import importlib.util, sys; print(sys.prefix,"
        ' importlib.util.find_spec("mlflow").origin)\''
    )

    assert run(built["lookalike-mlflow"], "sh", "-c", script, user=None).splitlines() == [
        "0",
        "/usr/local/bin/python3",
        "/usr/local/bin/mlflow",
        "ls: cannot access '/usr/bin/python3': No such file or directory",
        "-",
        "/usr/local /usr/local/lib/python3.11/site-packages/mlflow/__init__.py",
    ]


def test_the_lookalike_of_nginx_is_laid_out_as_the_public_image(built: dict[str, str]) -> None:
    script = "id -u; id -u nginx; command -v python3 || echo -; getent passwd 584792 || echo -"

    printed = run(built["lookalike-nginx"], "sh", "-c", script, user=None)

    assert printed.split() == ["0", "101", "-", "-"]


def test_a_second_run_builds_nothing(
    built: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = images.present()
    start = time.monotonic()

    setup.ensure_all()

    assert time.monotonic() - start < 5
    assert images.present() == before
    assert "building" not in capsys.readouterr().err
    for name, reference in built.items():
        assert before[f"{images.REPOSITORY}/{name}:latest"] == before[reference]


def test_a_changed_file_changes_an_image_and_what_begins_with_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images.read()
    shutil.copytree(images.FOLDER, tmp_path / "images")
    monkeypatch.setattr(images, "FOLDER", tmp_path / "images")
    assert images.read() == before

    with (tmp_path / "images/mlflow/requirements.txt").open("a") as stream:
        stream.write("example==1.0\n")

    after = images.read()
    changed = {name for name, image in after.items() if image.tag != before[name].tag}
    assert changed == {"mlflow", "lookalike-mlflow"}


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_a_full_disk_is_told_and_nothing_half_built_is_used(small_disk: pathlib.Path) -> None:
    debian = dataclasses.replace(images.read()[images.DEBIAN], tag="full-disk")

    with pytest.raises(images.BuildError, match="image debian failed") as caught:
        images.build(debian, small_disk)

    assert caught.value.disk_full
    assert debian.reference not in images.present()
    assert list(small_disk.iterdir()) == []


def test_too_little_disk_is_told_before_anything_is_built(
    small_disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEBOX_CACHE", str(small_disk))

    with pytest.raises(setup.SetupError, match=rf"not enough disk space in {small_disk}: about 3"):
        setup.ensure_all()


def test_a_failed_build_shows_why(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, built: dict[str, str]
) -> None:
    shutil.copytree(images.FOLDER, tmp_path / "images")
    monkeypatch.setattr(images, "FOLDER", tmp_path / "images")
    with (tmp_path / "images/nginx/Containerfile").open("a") as stream:
        stream.write("RUN echo 'out of luck' && false\n")
    broken = images.read()["nginx"]

    with pytest.raises(images.BuildError, match="out of luck") as caught:
        images.build(broken, tmp_path)

    assert not caught.value.disk_full
    assert broken.reference not in images.present()


def test_an_image_that_is_not_there_is_named() -> None:
    with pytest.raises(setup.SetupError, match="no image 'mlflo'; there are base, debian, "):
        setup.ensure_image("mlflo")


@pytest.mark.parametrize(
    "registry", ["", "host/Upper", "host:port/x", "https://host/x", "host/x y"]
)
def test_a_registry_that_is_none_is_refused(registry: str, built: dict[str, str]) -> None:
    with pytest.raises(setup.SetupError, match=r"is not HOST\[:PORT\]\[/NAMESPACE\]"):
        setup.publish(registry)


def answer_of(address: str) -> str:
    """Return how a registry answers whether it is one."""
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/v2/")
            response = connection.getresponse()
            return f"{response.status} {response.reason}"
    except (OSError, http.client.HTTPException) as error:
        return str(error)


@pytest.fixture
def registry(
    built: dict[str, str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A real registry on this machine, from Debian's package."""
    with monkeypatch.context() as patch:
        shutil.copytree(images.FOLDER, tmp_path / "images")
        patch.setattr(images, "FOLDER", tmp_path / "images")
        (tmp_path / "images/registry").mkdir()
        (tmp_path / "images/registry/Containerfile").write_text(
            f"ARG BASE={images.REPOSITORY}/base:latest\n"
            "FROM ${BASE}\n"
            "RUN apt-get update && apt-get install --yes --no-install-recommends docker-registry\n"
            "COPY open.yml /\n"
        )
        (tmp_path / "images/registry/open.yml").write_text(
            "version: 0.1\n"
            "storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}\n"
            "http: {addr: ':5000'}\n"
        )
        image = setup.ensure_image("registry")
    container = pods.podman(
        *("run", "--detach", "--rm", "--publish", "127.0.0.1::5000", image),
        *("docker-registry", "serve", "/open.yml"),
    ).strip()
    try:
        address = pods.podman("port", container, "5000/tcp").strip()
        deadline = time.monotonic() + 10
        while "200 OK" not in answer_of(address):
            assert time.monotonic() < deadline, pods.podman("logs", container)
            time.sleep(0.1)
        yield address
    finally:
        pods.podman("rm", "--force", "--time", "0", container)


def test_published_images_can_be_pulled(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "PUBLISHED", ("nginx",))
    image = images.read()["nginx"]

    published = setup.publish(f"{registry}/mlflow")

    assert published == {"nginx": f"{registry}/mlflow/nginx:{image.tag}"}
    pods.podman("pull", "--quiet", "--tls-verify=false", published["nginx"])
    there = images.present()
    pods.podman("rmi", published["nginx"])
    assert there[published["nginx"]] == there[image.reference]


def test_a_registry_that_does_not_answer_is_named(built: dict[str, str]) -> None:
    with pytest.raises(setup.SetupError, match="connection refused"):
        setup.publish("127.0.0.1:9/mlflow")


def test_a_given_pebble_serves(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, built: dict[str, str]
) -> None:
    own = setup.ensure_go_program("pebble")
    monkeypatch.setenv("ONEBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PEBBLE_BIN", str(own))

    program = setup.ensure_go_program("pebble")

    assert program.is_relative_to(tmp_path)
    assert (tmp_path / "cache/pebble").resolve() == program.parent
    assert program.read_bytes() == own.read_bytes()


@pytest.mark.parametrize("given", ["/bin/true", "/nothing/here"])
def test_a_given_pebble_that_is_none_is_refused(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEBBLE_BIN", given)

    with pytest.raises(setup.SetupError, match=f"PEBBLE_BIN={given}: no Pebble 1.32.1 or newer"):
        setup.ensure_go_program("pebble")


def test_podman_too_old_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\necho 3.4.4\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    with pytest.raises(setup.SetupError, match=r"Podman 3\.4\.4 is too old: onebox needs 4\.3"):
        setup.ensure_system()


def test_who_is_not_root_is_told_to_use_sudo() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "onebox.setup"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "setup: onebox makes networks and containers, which takes root: use sudo\n"
    )
