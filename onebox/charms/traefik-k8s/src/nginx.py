"""The configuration of nginx, computed from the routes alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from mlflow_kit import container, uris
from mlflow_kit import plan as plans

SERVICE = "nginx"
PORT = 80

_CONFIG = "/etc/nginx/nginx.conf"
_HOME = "/run/traefik"
_START = f"{_HOME}/serve.sh"
_HEALTH_PORT = 8082
_MAX_PORT = 65535

# A prefix goes into a location and into a regular expression.
_PREFIX = re.compile(r"/[A-Za-z0-9-]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """A path and the application behind it.

    Attributes:
        prefix: for example ``/mlflow-htpasswd-proxy``.
        scheme: ``http`` or ``https``: how to talk to the application.
        hosts: names or addresses of its units.
        port: its port.
        strip_prefix: whether it gets paths without the prefix.

    Raises:
        ValueError: a part is out of bounds, or has characters that nginx could take for
            something else.
    """

    prefix: str
    scheme: str
    hosts: tuple[str, ...]
    port: int
    strip_prefix: bool

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError("model and name do not make a path")
        if self.scheme not in {"http", "https"}:
            raise ValueError("scheme is neither http nor https")
        if not self.hosts or not all(uris.is_host(host) for host in self.hosts):
            raise ValueError("a host is neither a name nor an address")
        if not 0 < self.port <= _MAX_PORT:
            raise ValueError("port is not between 1 and 65535")


def nameserver(resolv_conf: str) -> str:
    """Return the first name server in the text of /etc/resolv.conf; empty without one.

    The others are meant for when the first is away, while nginx would ask all of them in turn,
    and they may not know the names of pods.
    """
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and uris.is_ip(words[1]):
            return uris.bracketed(words[1])
    return ""


def plan(routes: Sequence[Route], resolver: str) -> plans.Plan:
    """Return the plan of the container.

    Args:
        routes: what to serve; everything else is not found.
        resolver: address of a name server, or nothing. nginx asks it while it runs, so that a
            unit whose name does not resolve yet keeps nobody else from being served.
    """
    start = Path(container.__path__[0], "serve_nginx.sh").read_text()
    return plans.Plan(
        directories=(plans.Directory(path=_HOME),),
        files=(
            plans.File(path=_CONFIG, content=_config(routes, resolver)),
            plans.File(path=_START, content=start, mode=0o755),
        ),
        services=(
            plans.Service(
                name=SERVICE,
                # The main process stays root for port 80; nginx gives its workers the
                # unprivileged user that it was built with.
                argv=(_START, _CONFIG),
                working_dir=_HOME,
                restart_on=(_START,),
                reload_on=(_CONFIG,),
                kill_delay=10,
            ),
        ),
        checks=(
            plans.Check(
                name=SERVICE, url=f"http://127.0.0.1:{_HEALTH_PORT}/ping", period=2, timeout=2
            ),
        ),
    )


def _config(routes: Sequence[Route], resolver: str) -> str:
    numbered = list(enumerate(sorted(routes, key=lambda route: route.prefix)))
    lines = [
        "# Written by the charm.",
        "daemon off;",
        "worker_processes auto;",
        "pid /run/nginx.pid;",
        "error_log stderr warn;",
        "events { worker_connections 1024; }",
        "http {",
        "access_log off;",
        "server_tokens off;",
        *([f"resolver {resolver} valid=5s;"] if resolver else []),
        "resolver_timeout 5s;",
        "map $http_upgrade $connection_header { default upgrade; '' ''; }",
        *(line for number, route in numbered for line in _variables(number, route)),
        "server {",
        f"listen 127.0.0.1:{_HEALTH_PORT};",
        "location = /ping { return 200; }",
        "}",
        "server {",
        *_SERVER,
        *(line for number, route in numbered for line in _locations(number, route)),
        "location / { return 404; }",
        "}",
        "}",
    ]
    return "".join(f"{line}\n" for line in lines)


_SERVER = (
    f"listen {PORT};",
    f"listen [::]:{PORT};",
    # A path is compared as it was sent, so nothing is folded before.
    "merge_slashes off;",
    # Artifacts are large, and streamed both ways.
    "client_max_body_size 0;",
    "proxy_request_buffering off;",
    "proxy_buffering off;",
    "proxy_http_version 1.1;",
    "proxy_connect_timeout 5s;",
    "proxy_read_timeout 1h;",
    "proxy_send_timeout 1h;",
    "proxy_ssl_server_name on;",
    # What the client says about itself is replaced by what is known of it. A location with a
    # header of its own would inherit none of these.
    "set $forwarded_prefix '';",
    "proxy_set_header Host $http_host;",
    "proxy_set_header X-Forwarded-For $remote_addr;",
    "proxy_set_header X-Forwarded-Host $http_host;",
    "proxy_set_header X-Forwarded-Proto $scheme;",
    "proxy_set_header X-Forwarded-Prefix $forwarded_prefix;",
    "proxy_set_header X-Real-IP $remote_addr;",
    "proxy_set_header Upgrade $http_upgrade;",
    "proxy_set_header Connection $connection_header;",
    "absolute_redirect off;",
)


def _variables(number: int, route: Route) -> list[str]:
    """Choose a unit, and cut the prefix from the path as the client sent it.

    nginx's own $uri is decoded, so that an encoded slash in the name of an artifact would
    become a real one.
    """
    endpoints = [uris.Endpoint(host, route.port) for host in sorted(route.hosts)]
    share = 100 / len(endpoints)
    return [
        f"split_clients $request_id $unit{number} {{",
        *(f"{share:.2f}% {endpoint};" for endpoint in endpoints[:-1]),
        f"* {endpoints[-1]};",
        "}",
        f"map $request_uri $path{number} {{",
        "default '';",
        f"'~^{route.prefix}(?<rest{number}>/.*)$' $rest{number};",
        "}",
    ]


def _locations(number: int, route: Route) -> list[str]:
    """Pass on what comes for a route."""
    upstream = f"{route.scheme}://$unit{number}"
    if not route.strip_prefix:
        return [
            f"location = {route.prefix} {{ proxy_pass {upstream}; }}",
            f"location {route.prefix}/ {{ proxy_pass {upstream}; }}",
        ]
    return [
        # The links in a page are relative to the last slash of its address.
        f"location = {route.prefix} {{ return 308 {route.prefix}/$is_args$args; }}",
        f"location {route.prefix}/ {{",
        # Empty when the path as sent begins otherwise and leads here only once decoded.
        f"if ($path{number} = '') {{ return 400; }}",
        f"set $forwarded_prefix {route.prefix};",
        f"proxy_pass {upstream}$path{number};",
        "}",
    ]
