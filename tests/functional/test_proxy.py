"""The password proxy as its charm runs it: real nginx, real Pebble, in pods (root, for Podman)."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import http.client
import importlib
import json
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any

import ops
import pytest
import stack

from mlflow_kit import plan as plans
from mlflow_kit import uris, workload
from mlflow_kit.interfaces import ingress

CHARM = stack.ROOT / "charms" / "htpasswd-proxy"
ECHO = pathlib.Path(__file__).parent / "data" / "echo.py"
PORT = 5000


def _charm_modules(*names: str) -> list[types.ModuleType]:
    """Import modules of the charm, and leave no trace of their everyday names."""
    source = CHARM / "src"
    before = dict(sys.modules)
    sys.path.insert(0, str(source))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(source))
        for name in set(sys.modules) - before.keys():
            file = getattr(sys.modules[name], "__file__", None)
            if file and pathlib.Path(file).is_relative_to(source):
                del sys.modules[name]


accounts, htpasswd, nginx, state = _charm_modules("accounts", "htpasswd", "nginx", "state")

ADMIN = accounts.Account(name="admin", password="6v9JmF2xYrZ0cQeTgHbNwUaLkDs", generated=True)
ADA = accounts.Account(name="ada", password="correct horse battery", generated=False)
BOB = accounts.Account(name="bob", password="pässwörd: with colons", generated=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> dict:
        return json.loads(self.text)


def login(account, password: str = "") -> dict[str, str]:
    pair = f"{account.name}:{password or account.password}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def title(pid: int | str) -> str:
    """Return what a process of nginx says that it does; one that has ended is shutting down."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "shutting down"


class Proxy:
    """A unit of htpasswd-proxy: its container, and the charm's plan applied to it."""

    def __init__(self, pods: stack.Pods, name: str, image: str) -> None:
        self.pods = pods
        self.name = name
        self.container = pods.start(name, image)
        self.state = state.State(
            application="htpasswd-proxy",
            model="t",
            unit="htpasswd-proxy/0",
            address=self.address,
            realm="MLflow",
            first="admin",
            first_secret="secret:d6q0000000000000000g",
            accounts=(ADMIN,),
            salt_key=b"k" * 32,
        )

    @property
    def address(self) -> str:
        return self.pods.address(self.name)

    def apply(self, **changes: object) -> workload.Health:
        """Change what the charm knows, and do what it does then."""
        self.state = dataclasses.replace(self.state, **changes)
        known = workload.read_text(self.container, nginx.PATHS.users) or ""
        users = htpasswd.render(self.state.accounts, self.state.salt_key, known)
        plan = nginx.plan(self.state, users)
        reloads = nginx.candidate(plan).content != running_config(self)
        old = self.processes()[1:] if reloads else []
        assert workload.accepts(
            self.container, nginx.candidate(plan), nginx.trial(), directories=plan.directories
        )
        health = workload.apply(self.container, plan, settle=10)
        # Workers of the old configuration finish what they have begun, and take nothing new.
        stack.eventually(
            lambda: all("shutting down" in title(pid) for pid in old), what=f"a reload of {old}"
        )
        return health

    def forget(self) -> None:
        """Stop nginx, with the guesses and the verdicts that it remembers."""
        workload.apply(self.container, plans.Plan())
        self.container.remove_path(nginx.PATHS.cache, recursive=True)

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, nginx.PORT, timeout=timeout)

    def request(
        self,
        path: str,
        account=None,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            sent = {**(login(account) if account else {}), **(headers or {})}
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read().decode())

    def raw(self, text: bytes, seconds: float = 10) -> bytes:
        """Send bytes as they are, and return all that comes back."""
        with socket.create_connection((self.address, nginx.PORT), timeout=seconds) as connection:
            connection.sendall(text)
            found = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    found += piece
            return found

    def processes(self) -> list[int]:
        """Return the nginx processes of the pod, the master first, without those that end."""
        init = self.pods.podman.init_pid(f"t.{self.name}-0", self.name)
        space = pathlib.Path(f"/proc/{init}/ns/pid").readlink()
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    (process / "ns" / "pid").readlink() == space
                    and (process / "comm").read_text().strip() == "nginx"
                    and "shutting down" not in title(process.name)
                ):
                    found.append(int(process.name))
        # Not by number alone: numbers start over when they are used up.
        return sorted(found, key=lambda pid: ("master process" not in title(pid), pid))

    def master(self) -> int:
        return self.processes()[0]

    def processor_time(self) -> float:
        """Return the seconds that all nginx processes have computed."""
        ticks = 0
        for process in self.processes():
            words = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class Echo:
    """The application behind the proxy, in a pod of its own."""

    def __init__(self, pods: stack.Pods) -> None:
        self.pods = pods
        self.container = pods.start("echo", "base")
        self.start()

    def start(self) -> None:
        program = plans.File(path="/tmp/echo.py", content=ECHO.read_text())
        service = plans.Service(
            name="echo",
            argv=("python3", program.path, str(PORT)),
            user_id=stack.USER,
            group_id=stack.USER,
        )
        assert workload.apply(self.container, plans.Plan(services=(service,), files=(program,))).ok
        stack.eventually(self.answers)

    def stop(self) -> None:
        workload.apply(self.container, plans.Plan())

    @property
    def address(self) -> str:
        return self.pods.address("echo")

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return stack.get(self.address, PORT, "/seen")[0] == 200
        return False

    def forget(self) -> None:
        stack.get(self.address, PORT, "/forget")

    def seen(self) -> list[str]:
        return json.loads(stack.get(self.address, PORT, "/seen")[1])["seen"]

    def received(self) -> int:
        return json.loads(stack.get(self.address, PORT, "/seen")[1])["received"]


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Pods]:
    found = stack.Pods(tmp_path_factory.mktemp("pods"))
    try:
        yield found
    finally:
        found.destroy()


@pytest.fixture(scope="module")
def running_echo(pods: stack.Pods) -> Echo:
    return Echo(pods)


@pytest.fixture(scope="module")
def running_proxy(pods: stack.Pods) -> Proxy:
    return Proxy(pods, "proxy", "nginx")


@pytest.fixture
def echo(running_echo: Echo) -> Echo:
    running_echo.start()
    running_echo.forget()
    return running_echo


@pytest.fixture
def proxy(running_proxy: Proxy, echo: Echo) -> Proxy:
    """A proxy in front of the application, with two users."""
    health = running_proxy.apply(
        accounts=(ADMIN, ADA), upstreams=(upstream(echo.address),), behind_ingress=False
    )
    assert health.ok, health
    return running_proxy


@pytest.fixture
def fresh_proxy(running_proxy: Proxy, proxy: Proxy) -> Proxy:
    """The same, with no verdicts and no guesses on record."""
    running_proxy.forget()
    health = running_proxy.apply()
    assert health.ok, health
    return proxy


def answers(proxy: Proxy) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return proxy.request("/health").status == 200
    return False


def upstream(*servers: str, path: str = "mlflow-server", strip: bool = True):
    request = ingress.Requirer(application=path, model="t", port=PORT, strip_prefix=strip)
    return state.Upstream(relation_id=7, request=request, path=path, servers=servers)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X-NEW")
PATHS = (
    "/",
    "//",
    "/.",
    "/nothing",
    "/mlflow-server",
    "/mlflow-server/",
    "/mlflow-server/health",
    "/mlflow-server/api/2.0/mlflow/runs/create",
    "/mlflow-server/api/2.0/mlflow-artifacts/artifacts/a",
    "/mlflow-server/get-artifact?path=a&presigned=true",
    "/mlflow-server/ajax-api/3.0/mlflow/assistant/config",
    "//mlflow-server//api",
    "/./mlflow-server/api",
    "/%6dlflow-server/api",
    "/mlflow-server/%2e%2e/mlflow-server/api",
    "/mlflow-server/..%2fmlflow-server/api",
    "/health/",
    "/health/../mlflow-server/api",
    "/health%2f..%2fmlflow-server/api",
    "/health;/../mlflow-server/api",
    "/HEALTH",
    "/healthz",
    "/verdict",
    "/index.html",
    "/users",
    "/nginx.conf",
)


def test_everything_but_health_needs_the_password(proxy: Proxy, echo: Echo) -> None:
    # WHEN every kind of request is sent without a password
    found = {
        (method, path): proxy.request(path, method=method).status
        for path in PATHS
        for method in METHODS
    }
    # THEN all are refused, and none has reached the application
    assert {key: status for key, status in found.items() if status != 401} == {}
    assert echo.seen() == []
    # AND browsers are told to ask
    refused = proxy.request("/mlflow-server/")
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="MLflow", charset="UTF-8"'
    assert refused.json["error_code"] == "UNAUTHENTICATED"
    assert proxy.request("/health").text == "ok"


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://elsewhere/mlflow-server/api HTTP/1.1",
        b"GET verdict HTTP/1.1",
        b"GET @401 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE /mlflow-server/ HTTP/1.1",
        b"CONNECT mlflow-server:5000 HTTP/1.1",
        b"GET /mlflow-server/api HTTP/1.0",
        b"GET /mlflow-server/\xff HTTP/1.1",
        b"GET /mlflow-server/%00 HTTP/1.1",
        b"GET /mlflow-server/api HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade",
        b"GET /mlflow-server/api HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
        b"POST /mlflow-server/api HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue",
        b"POST /mlflow-server/api HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4",
        b"POST /mlflow-server/api HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        b"POST /mlflow-server/api HTTP/1.1\r\nTransfer-Encoding: xchunked",
        b"GET /mlflow-server/api HTTP/1.1\r\nHost: second",
        b"GET /mlflow-server/api HTTP/1.1\r\nAuthorization: Bearer abc",
        b"GET /mlflow-server/api HTTP/1.1\r\nAuthorization: Basic",
        b"GET /mlflow-server/api HTTP/1.1\r\nAuthorization: Basic !!!!",
        b"GET /mlflow-server/api HTTP/1.1\r\nAuthorization: Basic YWRtaW4=",
        b"GET /mlflow-server/api HTTP/1.1\r\nX-Verified-User: admin\r\nRemote-User: admin",
    ],
)
def test_odd_requests_do_not_get_past_either(proxy: Proxy, echo: Echo, line: bytes) -> None:
    found = proxy.raw(line + b"\r\nHost: proxy\r\nConnection: close\r\n\r\nhello")
    # nginx says "continue" to whoever waits for it, and throws away what then comes.
    found = found.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 (4\d\d|501) ", found), found[:200]
    assert echo.seen() == []


def test_application_sees_the_user_and_no_password(proxy: Proxy) -> None:
    # WHEN a user asks, with headers that pretend
    forged = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-User": "root",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "for=127.0.0.1",
        "Connection": "Upgrade, X-Real-IP",
        "Upgrade": "websocket",
        "TE": "trailers",
    }
    found = proxy.request("/mlflow-server/api?a=%20b", ADMIN, headers=forged).json
    # THEN the application sees who asks, from where, and nothing that was made up
    headers = found["headers"]
    assert found["path"] == "/api?a=%20b"
    assert headers["x-forwarded-user"] == "admin"
    assert headers["host"] == f"{proxy.address}:{nginx.PORT}"
    assert headers["x-forwarded-host"] == headers["host"]
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-for"] == headers["x-real-ip"] != "127.0.0.1"
    unwanted = {"authorization", "forwarded", "x-forwarded-prefix", "upgrade", "te", "connection"}
    assert not unwanted & headers.keys()


def test_ingress_outside_says_the_scheme_and_not_the_client(proxy: Proxy) -> None:
    # GIVEN a proxy behind an ingress
    proxy.apply(behind_ingress=True)
    came = {"X-Forwarded-For": "127.0.0.1, 203.0.113.9", "X-Forwarded-Proto": "https"}
    # THEN its scheme is passed on, and the address is the one that we saw ourselves
    stack.eventually(
        lambda: (
            proxy.request("/mlflow-server/a", ADMIN, headers=came).json["headers"][
                "x-forwarded-proto"
            ]
            == "https"
        )
    )
    headers = proxy.request("/mlflow-server/a", ADMIN, headers=came).json["headers"]
    assert headers["x-forwarded-for"] not in {"127.0.0.1", "203.0.113.9"}
    # AND a scheme that is none is not passed on
    odd = {"X-Forwarded-Proto": "https, evil"}
    headers = proxy.request("/mlflow-server/a", ADMIN, headers=odd).json["headers"]
    assert headers["x-forwarded-proto"] == "http"
    # AND a redirect holds under the path that the ingress took away
    prefix = {"X-Forwarded-Prefix": "/t-htpasswd-proxy"}
    answer = proxy.request("/mlflow-server/redirect", ADMIN, headers=prefix)
    assert answer.headers["Location"] == "/t-htpasswd-proxy/mlflow-server/elsewhere"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/mlflow-server/", "/"),
        ("/mlflow-server//api//x", "/api/x"),
        ("/mlflow-server/./api/../x", "/x"),
        ("/mlflow-server/%2e%2e/mlflow-server/x", "/x"),
        ("/mlflow-server/a%2Fb", "/a/b"),
        ("/mlflow-server/a%20b%3Fc%23d%25e", "/a%20b%3Fc%23d%25e"),
        ("/mlflow-server/%252e%252e/x", "/%252e%252e/x"),
        ("/mlflow-server/%0d%0aX:y", "/%0D%0AX:y"),
        ("/mlflow-server/mod%C3%A8le", "/mod%C3%A8le"),
        ("/%6dlflow-server/x?q=%2e%2e", "/x?q=%2e%2e"),
    ],
)
def test_application_sees_the_path_that_was_checked(proxy: Proxy, sent: str, seen: str) -> None:
    assert proxy.request(sent, ADMIN).json["path"] == seen


@pytest.mark.parametrize(
    "path",
    [
        "ajax-api/3.0/mlflow/assistant",
        "ajax-api/3.0/mlflow/assistant/config",
        "ajax-api/3.0/mlflow//assistant/config",
        "ajax-api/3.0/mlflow/%61ssistant/config",
        "x/%2e%2e/ajax-api/3.0/mlflow/assistant/config",
        "api/2.0/mlflow-artifacts/presigned/a",
        "ajax-api/2.0/mlflow-artifacts/presigned/a",
        "api/2.0/mlflow-artifacts/mpu/create/a",
        "api/2.0/mlflow-artifacts/artifacts/..%2fmpu/create/a",
        "api/2.0/mlflow/artifacts/presigned-download-url",
        "get-artifact?path=a&presigned=true",
        "get-artifact?presigned=True&path=a",
        "model-versions/get-artifact?presigned=1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_refused_paths_look_as_if_they_were_not_there(
    proxy: Proxy, echo: Echo, path: str, method: str
) -> None:
    answer = proxy.request(f"/mlflow-server/{path}", ADMIN, method=method, body="{}")
    assert answer.status == 404
    assert answer.json["error_code"] == "ENDPOINT_NOT_FOUND"
    assert echo.seen() == []


@pytest.mark.parametrize("query", ["path=a", "path=a&presigned=false", "presigned="])
def test_downloads_through_the_server_work(proxy: Proxy, query: str) -> None:
    path = f"/model-versions/get-artifact?{query}"
    assert proxy.request(f"/mlflow-server{path}", ADMIN).json["path"] == path


def test_application_that_keeps_its_prefix_gets_it(proxy: Proxy, echo: Echo) -> None:
    proxy.apply(upstreams=(upstream(echo.address, path="app", strip=False),))
    stack.eventually(lambda: proxy.request("/app/x", ADMIN).status == 200)
    assert proxy.request("/app/a%20b?c", ADMIN).json["path"] == "/app/a%20b?c"
    assert proxy.request("/app/get-artifact?c", ADMIN).json["path"] == "/app/get-artifact?c"
    assert proxy.request("/app/v1/traces", ADMIN).json["path"] == "/app/v1/traces"


def test_page_and_redirect_are_relative(proxy: Proxy) -> None:
    page = proxy.request("/", ADMIN)
    assert page.status == 200
    assert 'href="mlflow-server/"' in page.text
    answer = proxy.request("/mlflow-server?a=b", ADMIN)
    assert (answer.status, answer.headers["Location"]) == (308, "mlflow-server/?a=b")
    assert proxy.request("/nothing", ADMIN).json["error_code"] == "ENDPOINT_NOT_FOUND"
    # AND a redirect of the application gets the prefix that it does not know of
    answer = proxy.request("/mlflow-server/redirect", ADMIN)
    assert answer.headers["Location"] == "/mlflow-server/elsewhere"


def test_password_may_have_any_character(proxy: Proxy) -> None:
    proxy.apply(accounts=(ADMIN, BOB))
    stack.eventually(lambda: proxy.request("/", BOB).status == 200)
    assert proxy.request("/mlflow-server/x", BOB).json["headers"]["x-forwarded-user"] == "bob"


def test_known_password_is_hashed_once(fresh_proxy: Proxy) -> None:
    # GIVEN a user whose password takes long to hash, and who has logged in
    before = fresh_proxy.processor_time()
    assert fresh_proxy.request("/mlflow-server/x", ADA).status == 200
    once = fresh_proxy.processor_time() - before
    # WHEN the user asks 200 times more
    with contextlib.closing(fresh_proxy.connect()) as connection:
        for _ in range(200):
            connection.request("GET", "/mlflow-server/x", headers=login(ADA))
            assert connection.getresponse().read()
    # THEN all of these together cost less than ten hashes, on whatever machine
    rest = fresh_proxy.processor_time() - before - once
    assert once > 0.02, "the password was not hashed at all"
    assert rest < 10 * once


def test_bodies_have_no_part_in_the_verdict(fresh_proxy: Proxy, echo: Echo) -> None:
    # GIVEN passwords that are not known yet, each of which comes first with a body
    fresh_proxy.apply(accounts=tuple(dataclasses.replace(ADMIN, name=f"u{n}") for n in range(8)))
    found = []
    for account in fresh_proxy.state.accounts:
        answer = fresh_proxy.request("/mlflow-server/x", account, method="POST", body="x" * 100)
        found.append((answer.status, answer.json.get("length")))
        chunks = iter([b"y" * 50, b"z" * 50])
        answer = fresh_proxy.request("/mlflow-server/x", account, method="POST", body=chunks)
        found.append((answer.status, answer.json.get("length")))
    # THEN all of them are let in, and the application has got all bodies whole
    assert found == [(200, 100)] * 16
    # AND one without a password is refused, whatever its body says
    smuggled = "GET /somebody HTTP/1.1\r\nHost: auth\r\n\r\n"
    assert fresh_proxy.request("/mlflow-server/x", method="POST", body=smuggled).status == 401
    assert fresh_proxy.request("/mlflow-server/x").status == 401


def test_guesses_are_limited_and_users_are_not(fresh_proxy: Proxy) -> None:
    # GIVEN a user who is logged in
    assert fresh_proxy.request("/", ADA).status == 200
    # WHEN somebody at the same address guesses the password
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = list(
            pool.map(
                lambda number: fresh_proxy.request("/", headers=login(ADA, f"wrong {number}")),
                range(12),
            )
        )
    # THEN few of the guesses are looked at, and the others are told to wait
    statuses = [answer.status for answer in found]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 10
    late = next(answer for answer in found if answer.status == 429)
    assert late.headers["Retry-After"] == "60"
    assert late.json["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    # AND neither the user nor another one who comes now notices
    assert fresh_proxy.request("/", ADA).status == 200
    assert fresh_proxy.request("/", ADMIN).status == 200
    # AND whoever brings no password is asked for it
    assert fresh_proxy.request("/").status == 401


def test_guesses_through_an_ingress_are_counted_per_client(fresh_proxy: Proxy) -> None:
    # GIVEN a proxy behind an ingress, which adds the client's address to what it was sent
    fresh_proxy.apply(behind_ingress=True)
    stack.eventually(lambda: "X-Forwarded-For" in running_config(fresh_proxy))

    def guess(number: int, client: str) -> int:
        came = {"X-Forwarded-For": f"198.51.100.{number}, {client}"}
        return fresh_proxy.request("/", headers={**login(ADA, f"wrong {number}"), **came}).status

    # WHEN one client guesses, and pretends to be several
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda number: guess(number, "203.0.113.9"), range(12)))
    # THEN it is stopped, and another client is not
    assert found.count(429) >= 2
    assert guess(99, "203.0.113.10") == 401


def running_config(proxy: Proxy) -> str:
    return workload.read_text(proxy.container, nginx.PATHS.config) or ""


def test_time_does_not_tell_which_users_there_are(fresh_proxy: Proxy) -> None:
    # GIVEN the times until a wrong password is refused, of one user that is there and others
    def seconds(name: str, number: int) -> float:
        pair = base64.b64encode(f"{name}:wrong {number}".encode()).decode()
        started = time.monotonic()
        answer = fresh_proxy.request("/", headers={"Authorization": f"Basic {pair}"})
        assert answer.status == 401
        return time.monotonic() - started

    times = [(seconds("ada", number), seconds(f"eve{number}", number)) for number in range(5)]
    # THEN the shortest of each, to which a busy machine adds nothing, differ by much less than
    # the hash takes, which is 85 ms
    known, unknown = (min(column) for column in zip(*times, strict=True))
    assert abs(known - unknown) < 0.03, times


def test_removed_user_is_refused_at_once(fresh_proxy: Proxy) -> None:
    # GIVEN a user who is logged in, so that the verdict is known
    assert fresh_proxy.request("/mlflow-server/x", ADA).status == 200
    master = fresh_proxy.master()
    # WHEN the user is removed
    fresh_proxy.apply(accounts=(ADMIN,))
    # THEN the user is refused within a moment, for good, and nothing was restarted
    stack.eventually(lambda: fresh_proxy.request("/mlflow-server/x", ADA).status == 401, seconds=5)
    assert [fresh_proxy.request("/", headers=login(ADA)).status for _ in range(2)] == [401, 401]
    assert fresh_proxy.request("/mlflow-server/x", ADMIN).status == 200
    assert fresh_proxy.master() == master


def test_changed_password_counts_at_once(fresh_proxy: Proxy) -> None:
    assert fresh_proxy.request("/", ADA).status == 200
    changed = dataclasses.replace(ADA, password="another long password")
    fresh_proxy.apply(accounts=(ADMIN, changed))
    stack.eventually(lambda: fresh_proxy.request("/", changed).status == 200, seconds=5)
    assert fresh_proxy.request("/", ADA).status == 401


def test_changing_users_drops_no_request(proxy: Proxy) -> None:
    # GIVEN users at work, with new connections and with kept ones
    done = threading.Event()
    failed: list[str] = []
    count = 0

    def work(keep: bool) -> None:
        nonlocal count
        connection = proxy.connect()
        fresh = True
        while not done.is_set():
            try:
                connection.request("GET", "/mlflow-server/x", headers=login(ADMIN))
                answer = connection.getresponse()
                answer.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as e:
                # A kept connection may have been closed while it was idle: every client then
                # sends the request again on a new one.
                if fresh:
                    failed.append(repr(e))
                connection.close()
                fresh = True
                continue
            if answer.status != 200:
                failed.append(str(answer.status))
            count += 1
            fresh = not keep or answer.will_close
            if fresh:
                connection.close()
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(work, keep) for keep in (True, False, True, False)]
        try:
            # WHEN users come and go
            for number in range(6):
                guest = dataclasses.replace(ADMIN, name=f"guest{number}")
                proxy.apply(accounts=(ADMIN, guest))
                time.sleep(0.3)
        finally:
            done.set()
        for job in jobs:
            job.result()
    # THEN nobody else has noticed
    assert failed == []
    assert count > 100


def test_create_reaches_a_starting_application_once(proxy: Proxy, echo: Echo) -> None:
    # GIVEN an application that does not run
    echo.stop()
    create = "/mlflow-server/api/2.0/mlflow/runs/create"
    first = proxy.request(create, ADMIN, method="POST", body="{}")
    # THEN a create is answered in a way on which every MLflow client sends it again
    assert first.status == 429
    assert first.json["error_code"] == "TEMPORARILY_UNAVAILABLE"
    wait = int(first.headers["Retry-After"])
    assert wait * 7 >= 60
    # AND WHEN the application starts and the client does so
    echo.start()
    time.sleep(wait)
    again = proxy.request(create, ADMIN, method="POST", body="{}")
    # THEN it has happened, once
    assert again.status == 200
    assert echo.seen() == ["POST /api/2.0/mlflow/runs/create"]


def test_create_that_was_seen_is_not_called_unseen(proxy: Proxy, echo: Echo) -> None:
    # WHEN the application breaks off after it has read the request
    answer = proxy.request("/mlflow-server/break", ADMIN, method="POST", body="{}")
    # THEN the answer is no 429, on which clients would create it a second time
    assert answer.status == 502
    assert answer.json["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert answer.headers["Retry-After"]
    assert echo.seen() == ["POST /break"]


def test_dead_unit_does_not_stand_in_the_way(proxy: Proxy, echo: Echo) -> None:
    # GIVEN two units, of which one is gone
    gone = echo.address.rpartition(".")[0] + ".253"
    proxy.apply(upstreams=(upstream(gone, echo.address),))
    stack.eventually(lambda: gone in running_config(proxy))
    # THEN requests go to the other one, creates too
    found = [proxy.request("/mlflow-server/x", ADMIN, method="POST").status for _ in range(6)]
    assert found == [200] * 6


def test_upload_of_any_size_is_streamed(fresh_proxy: Proxy, echo: Echo) -> None:
    # GIVEN an artifact of 300 MB
    piece, pieces = os.urandom(1 << 20), 300
    digest = hashlib.sha256(piece * pieces).hexdigest()
    path = "/mlflow-server/api/2.0/mlflow-artifacts/artifacts/1/a"
    with contextlib.closing(fresh_proxy.connect()) as connection:
        connection.putrequest("PUT", path)
        for name, value in login(ADMIN).items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(piece) * pieces))
        connection.endheaders()
        # WHEN a part of it was sent
        for _ in range(20):
            connection.send(piece)
        # THEN the application has most of that part already
        stack.eventually(lambda: echo.received() > 10 * len(piece))
        for _ in range(20, pieces):
            connection.send(piece)
        answer = json.loads(connection.getresponse().read())
    # AND in the end all of it
    assert answer["length"] == len(piece) * pieces
    assert answer["sha256"] == digest
    # AND nginx has kept neither much of it in memory nor any of it on disk
    peak = [
        int(line.split()[1])
        for each in fresh_proxy.processes()
        for line in pathlib.Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    assert max(peak) < 50_000
    written = workload.output(fresh_proxy.container, ("du", "-sk", nginx.PATHS.temporary))
    assert int((written or "").split()[0]) < 1000


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("api/2.0/mlflow/runs/log-batch", 15 << 20, 200),
        ("api/2.0/mlflow/runs/log-batch", 17 << 20, 413),
        ("v1/traces", 17 << 20, 200),
        ("v1/traces", 65 << 20, 413),
    ],
)
def test_other_bodies_are_bounded(
    proxy: Proxy, echo: Echo, path: str, size: int, status: int
) -> None:
    # WHEN a request says how large it is, and waits for a word
    head = (
        f"POST /mlflow-server/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        f"Authorization: {login(ADMIN)['Authorization']}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((proxy.address, nginx.PORT), timeout=30) as connection:
        connection.sendall(head.encode())
        word = connection.recv(65536)
        if status == 413:
            # THEN one that is too large is refused before it is sent
            assert b" 413 " in word.splitlines()[0]
            assert b"REQUEST_LIMIT_EXCEEDED" in word
            assert echo.seen() == []
            return
        assert b" 100 " in word.splitlines()[0]
        connection.sendall(bytes(size))
        assert b" 200 " in connection.recv(65536).splitlines()[0]


def test_half_requests_are_closed(proxy: Proxy) -> None:
    # GIVEN many connections that begin a request and go no further
    begun = b"GET /mlflow-server/ HTTP/1.1\r\nHost: x\r\nX-Slow: "
    started = time.monotonic()
    with contextlib.ExitStack() as opened:
        connections = [
            opened.enter_context(socket.create_connection((proxy.address, nginx.PORT), timeout=20))
            for _ in range(100)
        ]
        for connection in connections:
            connection.sendall(begun)
        # THEN others are served
        assert proxy.request("/mlflow-server/x", ADMIN).status == 200
        # AND these are closed soon
        for connection in connections:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1000):
                    pass
    assert time.monotonic() - started < 15


def test_killed_master_comes_back_with_the_users_of_now(fresh_proxy: Proxy) -> None:
    # WHEN the master is killed, so that its workers are left behind with the port
    old = fresh_proxy.processes()
    os.kill(old[0], signal.SIGKILL)
    # THEN another one serves soon, and there was no moment without a password
    deadline = time.monotonic() + 20
    while set(fresh_proxy.processes()) & set(old) or not answers(fresh_proxy):
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert fresh_proxy.request("/mlflow-server/x").status == 401
        assert time.monotonic() < deadline, "nginx did not come back"
        time.sleep(0.05)
    # AND it takes new users, as the old workers would not
    fresh_proxy.apply(accounts=(ADMIN, BOB))
    stack.eventually(lambda: fresh_proxy.request("/", BOB).status == 200, seconds=5)
    assert fresh_proxy.request("/", ADA).status == 401


def test_killed_worker_is_replaced(proxy: Proxy) -> None:
    master, *workers = proxy.processes()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    stack.eventually(lambda: answers(proxy), seconds=5)
    assert proxy.master() == master
    assert proxy.request("/mlflow-server/x").status == 401
    assert proxy.request("/mlflow-server/x", ADMIN).status == 200


@pytest.mark.parametrize("content", [None, "", "admin\n", "admin:\n", "admin:*\n"])
def test_damaged_password_file_lets_nobody_in(fresh_proxy: Proxy, content: str | None) -> None:
    if content is None:
        fresh_proxy.container.remove_path(nginx.PATHS.users)
    else:
        fresh_proxy.container.push(
            nginx.PATHS.users, content, permissions=0o600, user_id=nginx.USER, group_id=nginx.USER
        )
    assert fresh_proxy.request("/mlflow-server/x", ADA).status in {401, 403}
    assert fresh_proxy.request("/mlflow-server/x").status in {401, 403}


def test_configuration_that_nginx_refuses_changes_nothing(proxy: Proxy) -> None:
    # GIVEN a configuration with a fault
    plan = nginx.plan(proxy.state, "")
    good = nginx.candidate(plan)
    bad = dataclasses.replace(good, content=good.content.replace("auth_request", "auth_requst"))
    before = running_config(proxy)
    # THEN nginx says so, goes on, and nothing is left behind
    assert not workload.accepts(proxy.container, bad, nginx.trial())
    assert proxy.request("/mlflow-server/x", ADMIN).status == 200
    assert running_config(proxy) == before
    assert workload.read_text(proxy.container, nginx.PATHS.candidate) is None


def nameservers(proxy: Proxy) -> tuple[str, ...]:
    text = workload.read_text(proxy.container, "/etc/resolv.conf") or ""
    return tuple(re.findall(r"^nameserver (\S+)", text, re.MULTILINE))


def test_name_that_does_not_resolve_is_a_request_not_sent(proxy: Proxy) -> None:
    # GIVEN an application whose name is not known yet
    proxy.apply(
        upstreams=(upstream("nobody.t.svc.cluster.local"),), nameservers=nameservers(proxy)
    )
    stack.eventually(lambda: "nobody" in running_config(proxy))
    # THEN nginx runs, and clients try again
    found = proxy.request("/mlflow-server/x", ADMIN, method="POST")
    assert found.status == 429
    assert found.json["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_name_is_resolved_again_when_a_pod_comes_back(proxy: Proxy, echo: Echo) -> None:
    # GIVEN an application that is known by its name
    proxy.apply(
        upstreams=(upstream(uris.service_host("echo", "t")),), nameservers=nameservers(proxy)
    )
    stack.eventually(lambda: proxy.request("/mlflow-server/a%20b?c", ADMIN).status == 200)
    assert proxy.request("/mlflow-server/a%20b?c", ADMIN).json["path"] == "/a%20b?c"
    headers = proxy.request("/mlflow-server/x", ADMIN).json["headers"]
    assert headers["x-forwarded-for"] != "unix:"
    assert "authorization" not in headers
    # WHEN its pod is replaced by one with another address
    old = echo.address
    echo.pods.remove("echo")
    # AND the old address is taken by somebody else
    echo.pods.start("squatter", "base")
    echo.container = echo.pods.ensure("echo")
    assert echo.address != old
    echo.start()
    # THEN it is found again, without a word from the charm
    stack.eventually(lambda: proxy.request("/mlflow-server/x", ADMIN).status == 200, seconds=20)
    echo.pods.remove("squatter")


def test_passwords_are_where_they_belong_only(fresh_proxy: Proxy, pods: stack.Pods) -> None:
    # GIVEN users who have logged in and others who failed, one by typing a password as the name
    assert fresh_proxy.request("/mlflow-server/x", ADA).status == 200
    swapped = base64.b64encode(f"{ADA.password}:ada".encode()).decode()
    fresh_proxy.request("/", headers={"Authorization": f"Basic {swapped}"})
    canaries = [
        ADA.password,
        ADMIN.password,
        *(login(each)["Authorization"] for each in (ADA, ADMIN)),
    ]
    # THEN no process shows a password, nor do Pebble's plan and log
    shown = [str(fresh_proxy.container.get_plan().to_dict()), pods.log("proxy")]
    shown += [
        pathlib.Path(f"/proc/{process}/{name}").read_bytes().decode()
        for process in fresh_proxy.processes()
        for name in ("cmdline", "environ")
    ]
    assert not [canary for canary in canaries for text in shown if canary in text]
    # AND the files that need one may be read by nginx alone, those of the cache in memory
    for path, kind in ((nginx.PATHS.users, "600"), (nginx.PATHS.cache, "700")):
        found = workload.output(fresh_proxy.container, ("stat", "-c", "%a %u", path))
        assert (found or "").split() == [kind, str(nginx.USER)]
    kind = workload.output(fresh_proxy.container, ("stat", "-f", "-c", "%T", nginx.PATHS.cache))
    assert (kind or "").strip() == "tmpfs"
    # AND nginx has written a header nowhere else
    needle = login(ADA)["Authorization"]
    with pytest.raises(ops.pebble.ExecError):
        fresh_proxy.container.exec(
            ["grep", "-rqsF", needle, "/run", "/tmp", "/var", "/etc"], timeout=60
        ).wait_output()


def test_public_image_serves_as_well(pods: stack.Pods, echo: Echo) -> None:
    # GIVEN the layout of the official image: programs of root, no user of ours
    stock = Proxy(pods, "stock", "lookalike-nginx")
    health = stock.apply(accounts=(ADMIN,), upstreams=(upstream(echo.address),))
    # THEN the same plan serves
    assert health.ok, (health, pods.log("stock"))
    assert stock.request("/mlflow-server/x").status == 401
    assert stock.request("/mlflow-server/x", ADMIN).json["path"] == "/x"
    version = nginx.version(workload.output(stock.container, ("nginx", "-v")) or "")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    pods.remove("stock")


def test_nothing_new_is_no_work(proxy: Proxy, pods: stack.Pods) -> None:
    # GIVEN a proxy that serves
    layers, pids = pods.log("proxy").count("add_layer"), proxy.processes()
    # WHEN the same is asked for again
    health = proxy.apply()
    # THEN nginx and Pebble's plan are as they were
    assert health.ok
    assert not health.restarted
    assert proxy.processes() == pids
    assert pods.log("proxy").count("add_layer") == layers
