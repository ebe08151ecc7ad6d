"""What nginx shall be: a pure function of the State.

How a request goes. The outer server, on the port, asks for a verdict on the ``Authorization``
header of every request, by ``auth_request``; only ``/health`` is exempt. Verdicts come from the
auth server on a socket, which compares the bcrypt hash (85 ms), and yes is cached. Then the
request goes to the upstream without that header.

The verdict cache. The key is the header and a digest of the user's line in the password file.
For these two the verdict never changes, so it cannot be stale: an account that was removed or
has a new password is refused from the first request after the reload, as its old verdicts are
under another key, and nobody else has to be checked again.
How long one is kept only says how long the header stays in memory. nginx writes the key into the
cache file and has no function that could hash it (njs is not in Debian's nginx-light, nor
loaded by the official image), so the files, with passwords in them, are in a directory in
memory (``/dev/shm``) that nobody but nginx's user may enter.

Guessing. The auth server counts only what the cache did not answer, so a user who is logged in
goes on undisturbed, whoever guesses how often: a request beyond the limit takes the old verdict
if there is one. A wrong password is refused after a second, counted from when the request came in
and not from when the hash was done, so that the time does not tell whether the name exists.

What is not here on purpose: ``rewrite``, ``map`` with regular expressions and ``alias``, which
had memory faults in 2026; ``return`` in a location with a password, since it answers before
the password is looked at; an access log, since nginx can only write one to a file it opens
itself, and the output that Pebble gives a service of another user cannot be opened.

Works with nginx 1.22 (Debian 12) and newer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import mlflow_paths
import page
from directives import Directive, block, render, simple
from mlflow_kit import container, uris
from mlflow_kit import plan as plans
from state import State, Upstream

PORT = 8080
USER = 584792
"""User and group of rocks' ``_daemon_``; on public images the number has no name."""

SERVICE = "nginx"

_VERDICT = "verdict"
"""Where auth_request asks. A client's path begins with a slash, so none can ask for this one."""
_WORKERS = 2
_KEEP_VERDICT = "10m"
_DEFAULT_BODY = "16m"
_RETRY_AFTER = 10
"""Seconds. The MLflow client tries seven times more and lets this replace its own growing pauses:
70 seconds are enough for a server that starts again."""
_MAX_TRIES = 3
_UPSTREAM_KEEPALIVE = "4s"
"""Shorter than the 5 s after which uvicorn closes: a request must not meet a closing one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are in the container.

    Attributes:
        root: directory of the proxy's own.
        cache: directory in memory for verdicts.
        port: port of the outer server.
    """

    root: str = "/run/htpasswd-proxy"
    cache: str = "/dev/shm/htpasswd-proxy"
    port: int = PORT

    @property
    def config(self) -> str:
        """The configuration that nginx runs on."""
        return f"{self.root}/nginx.conf"

    @property
    def candidate(self) -> str:
        """The configuration that is being tried."""
        return f"{self.root}/candidate.conf"

    @property
    def users(self) -> str:
        """The password file."""
        return f"{self.root}/users"

    @property
    def pages(self) -> str:
        """Directory of the page at ``/``."""
        return f"{self.root}/pages"

    @property
    def temporary(self) -> str:
        """Directory for request bodies that are too long for memory."""
        return f"{self.root}/temporary"

    @property
    def start(self) -> str:
        """The program that starts nginx."""
        return f"{self.root}/serve.sh"

    def socket(self, name: str) -> str:
        """Return the socket of an inner server."""
        return f"{self.root}/sockets/{name}.sock"


PATHS = Paths()


def plan(state: State, users: str, paths: Paths = PATHS) -> plans.Plan:
    """Return what shall run.

    Args:
        state: what the charm works from.
        users: the password file.
        paths: where things are; other than the default in tests only.
    """
    directories = (paths.root, paths.pages, paths.temporary, f"{paths.root}/sockets", paths.cache)
    program = Path(container.__path__[0], "serve_nginx.sh")
    names = [upstream.path for upstream in state.upstreams]
    return plans.Plan(
        directories=tuple(
            plans.Directory(path=path, mode=0o700, user_id=USER, group_id=USER)
            for path in directories
        ),
        files=(
            _file(paths.start, program.read_text(), mode=0o755),
            _file(f"{paths.pages}/index.html", page.render(state.realm, names)),
            _file(f"{paths.pages}/verdict", "yes\n"),
            _file(paths.users, users),
            _file(paths.config, config(state, users, paths)),
        ),
        services=(
            plans.Service(
                name=SERVICE,
                argv=(paths.start, paths.config),
                environment={"HOME": paths.root},
                working_dir=paths.root,
                user_id=USER,
                group_id=USER,
                restart_on=(paths.start,),
                # The password file is read anew for each check, and the configuration changes
                # with it, by the digest in the cache key.
                reload_on=(paths.config,),
                # Pebble waits nearly that long before it sees that a killed master, whose
                # workers still hold its output, is gone.
                kill_delay=2,
            ),
        ),
        checks=(
            plans.Check(
                name=SERVICE, url=f"http://127.0.0.1:{paths.port}/health", period=2, timeout=2
            ),
        ),
    )


def candidate(wanted: plans.Plan, paths: Paths = PATHS) -> plans.File:
    """Return the configuration of a plan under the name to try it by."""
    found = next(file for file in wanted.files if file.path == paths.config)
    return dataclasses.replace(found, path=paths.candidate)


def trial(paths: Paths = PATHS) -> tuple[str, ...]:
    """Return the command that says whether nginx takes the candidate."""
    return ("nginx", "-t", "-q", "-c", paths.candidate)


def version(answer: str) -> str:
    """Return the version from what ``nginx -v`` prints; empty if it is not in there."""
    _, slash, found = answer.strip().partition("nginx/")
    return found.split()[0] if slash and found.split() else ""


def config(state: State, users: str, paths: Paths = PATHS) -> str:
    """Return nginx's configuration."""
    return render(
        (
            simple("daemon", "off"),
            simple("worker_processes", str(_WORKERS)),
            simple("worker_rlimit_nofile", "16384"),
            # After a reload the old workers end when their last transfer does.
            simple("worker_shutdown_timeout", "10m"),
            simple("pid", f"{paths.root}/nginx.pid"),
            simple("error_log", "stderr", "error"),
            block("events", body=[simple("worker_connections", "4096")]),
            block("http", body=_http(state, users, paths)),
        )
    )


def _file(path: str, content: str, mode: int = 0o600) -> plans.File:
    return plans.File(path=path, content=content, mode=mode, user_id=USER, group_id=USER)


def _http(state: State, users: str, paths: Paths) -> Iterator[Directive]:
    # One type per location, whatever the path ends in.
    yield block("types", body=[])
    yield simple("default_type", "text/plain")
    yield simple("access_log", "off")
    yield simple("server_tokens", "off")
    yield simple("absolute_redirect", "off")
    yield simple("reset_timedout_connection", "on")
    yield simple("client_header_timeout", "10s")
    yield simple("client_body_timeout", "10s")
    yield simple("large_client_header_buffers", "4", "16k")
    yield simple("client_body_buffer_size", "128k")
    # All of them, used or not: nginx makes each directory when it starts, and the built-in
    # places are root's.
    for module in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        yield simple(f"{module}_temp_path", f"{paths.temporary}/{module}")
    yield from _verdict_zones(paths)
    yield from _maps(state, users)
    yield block("upstream", "auth", body=_servers([f"unix:{paths.socket('auth')}"]))
    yield block("upstream", "answers", body=_servers([f"unix:{paths.socket('answers')}"]))
    for upstream in state.upstreams:
        yield from _upstream_groups(upstream, paths)
    yield block("server", body=_outer_server(state, paths))
    yield block("server", body=_auth_server(state, paths))
    yield block("server", body=_answers_server(state, paths))
    for upstream in state.upstreams:
        for server in upstream.servers:
            if not uris.is_ip(server):
                yield block("server", body=_by_name_server(upstream, server, state, paths))


def _verdict_zones(paths: Paths) -> Iterator[Directive]:
    yield simple(
        "proxy_cache_path",
        paths.cache,
        "levels=1",
        "use_temp_path=off",
        "keys_zone=verdicts:1m",
        "max_size=16m",
        f"inactive={_KEEP_VERDICT}",
    )
    # Guesses at one account from one address: six at once, then four a minute.
    key = "$http_x_peer $http_x_client $remote_user"
    yield simple("limit_req_zone", key, "zone=guesses:4m", "rate=4r/m")
    # And all that one peer may make nginx hash, since it may invent names and, where it is taken
    # for an ingress, addresses too.
    yield simple("limit_req_zone", "$http_x_peer", "zone=peers:1m", "rate=5r/s")


def _maps(state: State, users: str) -> Iterator[Directive]:
    # Names have up to 64 characters, of which the default sizes of nginx's tables take fewer.
    yield simple("map_hash_bucket_size", "256")
    yield simple("map_hash_max_size", "4096")
    yield block(
        "map",
        "$remote_user",
        "$user_digest",
        body=[
            # The backslash makes a word of its own, such as "default", a name as any other.
            *(simple(f"\\{name}", digest) for name, digest in _digests(users).items()),
            simple("default", ""),
        ],
    )
    # Without a header there is no password to guess: no limit and no delay before the 401 that
    # makes a browser ask.
    yield block(
        "map",
        "$http_authorization",
        "$check",
        body=[simple("", "nobody"), simple("default", "somebody")],
    )
    # The scheme outside is what an ingress says; who comes straight to us used http.
    believed = [simple("https", "https")] if state.behind_ingress else []
    yield block(
        "map",
        "$http_x_forwarded_proto",
        "$scheme_outside",
        body=[*believed, simple("default", "http")],
    )
    # Which group of servers answers a download.
    yield block(
        "map",
        "$arg_presigned",
        "$download",
        body=[simple("", "app"), simple("false", "app"), simple("default", "none")],
    )
    # Whether the upstream saw anything of the request: the bytes sent in each try.
    zeros = [", ".join(["0"] * tries) for tries in range(1, _MAX_TRIES + 1)]
    yield block(
        "map",
        "$upstream_bytes_sent",
        "$not_sent",
        body=[
            simple("default", ""),
            *(simple(sent, "yes") for sent in ("", *zeros)),
        ],
    )


def _digests(users: str) -> dict[str, str]:
    """Return a digest for each name of the password file.

    A map of nginx does not tell A from a, so names that differ in that only share one.
    """
    lines: dict[str, list[str]] = {}
    for line in users.splitlines():
        lines.setdefault(line.partition(":")[0].lower(), []).append(line)
    return {
        name: hashlib.sha256("\n".join(found).encode()).hexdigest()
        for name, found in sorted(lines.items())
    }


def _upstream_groups(upstream: Upstream, paths: Paths) -> Iterator[Directive]:
    servers = [
        f"{uris.bracketed(server)}:{upstream.request.port}"
        if uris.is_ip(server)
        else f"unix:{paths.socket(_by_name(upstream, server))}"
        for server in upstream.servers
    ]
    yield block("upstream", f"app-{upstream.path}", body=_servers(servers))
    yield block(
        "upstream", f"none-{upstream.path}", body=_servers([f"unix:{paths.socket('answers')}"])
    )


def _servers(addresses: Iterable[str]) -> Iterator[Directive]:
    for address in addresses:
        yield simple("server", address, "max_fails=1", "fail_timeout=2s")
    yield simple("keepalive", "32")
    yield simple("keepalive_timeout", _UPSTREAM_KEEPALIVE)


def _outer_server(state: State, paths: Paths) -> Iterator[Directive]:
    yield simple("listen", str(paths.port), "default_server")
    yield simple("server_name", "_")
    yield simple("client_max_body_size", _DEFAULT_BODY)
    if state.behind_ingress:
        # Only to count guesses per client: the last address in the list is the one that the
        # peer has seen itself. Whoever is in the cluster may pose as an ingress, which is why
        # nothing is allowed by it and guesses are counted per peer too.
        yield simple("set_real_ip_from", "0.0.0.0/0")
        yield simple("set_real_ip_from", "::/0")
        yield simple("real_ip_header", "X-Forwarded-For")
    yield simple("auth_request", _VERDICT)
    yield simple("auth_request_set", "$verdict_status", "$upstream_status")
    yield simple("auth_request_set", "$verified_user", "$upstream_http_x_verified_user")
    yield from _upstream_headers()
    yield from _error_pages()
    yield block("location", "=", _VERDICT, body=_verdict_location())
    yield block(
        "location",
        "=",
        "/health",
        body=[simple("auth_request", "off"), simple("return", "200", "ok")],
    )
    yield block(
        "location",
        "=",
        "/",
        body=[
            simple("root", paths.pages),
            simple("default_type", "text/html; charset=utf-8"),
            simple("add_header", "X-Frame-Options", "DENY"),
            simple("add_header", "Cache-Control", "no-store"),
            simple(
                "add_header",
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'",
            ),
            simple("try_files", "/index.html", "=404"),
        ],
    )
    yield block("location", "/", body=[simple("proxy_pass", "http://answers")])
    for upstream in state.upstreams:
        yield from _upstream_locations(upstream, state)


def _upstream_headers() -> Iterator[Directive]:
    """What every upstream gets; a location that sets one header of its own loses all of these."""
    yield simple("proxy_http_version", "1.1")
    headers = {
        "Connection": "",
        # MLflow answers 403 to a Host that it does not know.
        "Host": "$http_host",
        "Authorization": "",
        # What the client sent is dropped: it could begin with any address. MLflow takes callers
        # from localhost for the person at the machine.
        "X-Forwarded-For": "$realip_remote_addr",
        "X-Real-IP": "$realip_remote_addr",
        "X-Forwarded-Host": "$http_host",
        "X-Forwarded-Proto": "$scheme_outside",
        "X-Forwarded-User": "$verified_user",
        "X-Forwarded-Prefix": "",
        "Forwarded": "",
    }
    for name, value in headers.items():
        yield simple("proxy_set_header", name, value)
    yield simple("proxy_connect_timeout", "2s")
    yield simple("proxy_read_timeout", "120s")
    yield simple("proxy_next_upstream", "error", "timeout")
    yield simple("proxy_next_upstream_tries", str(_MAX_TRIES))
    yield simple("proxy_buffer_size", "16k")
    yield simple("proxy_buffers", "8", "32k")
    # An answer that the client takes slowly waits upstream, not on our disk.
    yield simple("proxy_max_temp_file_size", "0")
    yield simple("proxy_redirect", "off")


def _error_pages() -> Iterator[Directive]:
    """What nginx itself has to say, in MLflow's form; what an upstream says is passed on."""
    pages = {
        401: ("UNAUTHENTICATED", "A user name and a password are needed."),
        403: ("PERMISSION_DENIED", "The proxy refuses this request."),
        404: ("ENDPOINT_NOT_FOUND", "There is nothing here."),
        413: ("REQUEST_LIMIT_EXCEEDED", "The request is larger than this path allows."),
    }
    for status, (code, message) in pages.items():
        yield simple("error_page", str(status), "=", f"@{status}")
        yield _error_location(f"@{status}", [_json_return(status, code, message)])
    # No verdict: the limit of guesses, or the auth server did not answer.
    yield simple("error_page", "500", "=", "@500")
    yield _error_location(
        "@500",
        [
            simple("add_header", "Retry-After", "60", "always"),
            block(
                "if",
                "($verdict_status",
                "=",
                "429)",
                body=[
                    _json_return(
                        429,
                        "REQUEST_LIMIT_EXCEEDED",
                        "Too many attempts to log in from this address; wait a minute.",
                    )
                ],
            ),
            _json_return(500, "INTERNAL_ERROR", "The proxy could not check the password."),
        ],
    )
    yield from _gateway_errors()


def _gateway_errors() -> Iterator[Directive]:
    # The client of MLflow 3.18 tries again what creates something on 408 and 429 only, since
    # after a 5xx it may have happened. Where the upstream saw nothing, 429 is the honest answer.
    for status, code, message in (
        (502, "TEMPORARILY_UNAVAILABLE", "The application broke off."),
        (504, "TEMPORARILY_UNAVAILABLE", "The application did not answer in time."),
    ):
        yield simple("error_page", str(status), "=", f"@{status}")
        yield _error_location(
            f"@{status}",
            [
                simple("add_header", "Retry-After", str(_RETRY_AFTER), "always"),
                block(
                    "if",
                    "($not_sent)",
                    body=[
                        _json_return(
                            429,
                            "TEMPORARILY_UNAVAILABLE",
                            "The application cannot be reached and has not seen this request.",
                        )
                    ],
                ),
                _json_return(status, code, message),
            ],
        )


def _error_location(name: str, body: Iterable[Directive]) -> Directive:
    return block(
        "location",
        name,
        body=[
            simple("auth_request", "off"),
            simple("default_type", "application/json"),
            *body,
        ],
    )


def _json_return(status: int, code: str, message: str) -> Directive:
    return simple("return", str(status), json.dumps({"error_code": code, "message": message}))


def _verdict_location() -> Iterator[Directive]:
    yield simple("internal")
    yield simple("auth_request", "off")
    yield simple("proxy_pass", "http://auth/$check")
    yield simple("proxy_pass_request_body", "off")
    yield simple("proxy_pass_request_headers", "off")
    # The size is held against the limit of the path that the client asked for, and not of this.
    yield simple("client_max_body_size", "0")
    for name, value in {
        "Connection": "",
        # Or else the length of the client's body would announce one that does not follow.
        "Content-Length": "",
        "Transfer-Encoding": "",
        "Host": "auth",
        "Authorization": "$http_authorization",
        "X-Peer": "$realip_remote_addr",
        "X-Client": "$remote_addr",
    }.items():
        yield simple("proxy_set_header", name, value)
    yield simple("proxy_read_timeout", "5s")
    yield simple("proxy_max_temp_file_size", "1m")
    yield simple("proxy_cache", "verdicts")
    yield simple("proxy_cache_key", "$user_digest $http_authorization")
    yield simple("proxy_cache_valid", "200", _KEEP_VERDICT)
    # Many requests at once with a password that is new: one hash for all of them.
    yield simple("proxy_cache_lock", "on")
    yield simple("proxy_cache_use_stale", "http_429")


def _auth_server(state: State, paths: Paths) -> Iterator[Directive]:
    yield simple("listen", f"unix:{paths.socket('auth')}")
    # Whoever types the password into the field for the name has it logged at a lower level.
    yield simple("error_log", "stderr", "crit")
    yield simple("root", paths.pages)
    # nginx puts quotes around the realm, and no more: so the charset of RFC 7617 gets in.
    yield simple("auth_basic", f'{state.realm}", charset="UTF-8')
    yield simple("auth_basic_user_file", paths.users)
    yield simple("add_header", "X-Verified-User", "$remote_user")
    yield block("location", "=", "/nobody", body=[simple("try_files", "/verdict", "=500")])
    yield block(
        "location",
        "=",
        "/somebody",
        body=[
            simple("limit_req_status", "429"),
            simple("limit_req_log_level", "warn"),
            simple("limit_req", "zone=guesses", "burst=5", "nodelay"),
            simple("limit_req", "zone=peers", "burst=50", "nodelay"),
            simple("auth_delay", "1s"),
            simple("try_files", "/verdict", "=500"),
        ],
    )


def _answers_server(state: State, paths: Paths) -> Iterator[Directive]:
    """Fixed answers for locations that have a password: ``return`` is safe only in here."""
    yield simple("listen", f"unix:{paths.socket('answers')}")
    yield simple("default_type", "application/json")
    yield simple("client_max_body_size", "0")
    yield block(
        "location",
        "/",
        body=[_json_return(404, "ENDPOINT_NOT_FOUND", "The proxy does not pass this on.")],
    )
    for upstream in state.upstreams:
        yield block(
            "location",
            "=",
            f"/{upstream.path}",
            body=[simple("return", "308", f"{upstream.path}/$is_args$args")],
        )


def _redirects(upstream: Upstream, state: State) -> list[Directive]:
    """Give redirects of an application to itself the prefix back that it does not know of."""
    if not upstream.request.strip_prefix:
        return []
    # An ingress that strips a path of its own says so, as Traefik does.
    outside = "$http_x_forwarded_prefix" if state.behind_ingress else ""
    return [
        simple("proxy_redirect", found, f"{outside}/{upstream.path}/")
        for found in ("http://$http_host/", "https://$http_host/", "/")
    ]


def _upstream_locations(upstream: Upstream, state: State) -> Iterator[Directive]:
    prefix = f"/{upstream.path}"
    base = "" if upstream.request.strip_prefix else prefix
    group = f"app-{upstream.path}"
    redirects = _redirects(upstream, state)
    if upstream.path != "health":
        yield block("location", "=", prefix, body=[simple("proxy_pass", "http://answers")])
    # With a path in proxy_pass nginx sends its own, normalised form of the path. So what was
    # compared with the locations below is what the application sees, however it was written.
    yield block(
        "location",
        f"{prefix}/",
        body=[simple("proxy_pass", f"http://{group}{base}/"), *redirects],
    )
    for route in mlflow_paths.ROUTES:
        yield block(
            "location",
            f"{prefix}/{route.path}",
            body=[
                simple("proxy_pass", f"http://{group}{base}/{route.path}"),
                *redirects,
                simple("client_max_body_size", route.body_limit),
                simple("proxy_request_buffering", "off" if route.stream else "on"),
                simple("proxy_read_timeout", f"{route.read_timeout}s"),
            ],
        )
    for path in mlflow_paths.DOWNLOADS:
        yield block(
            "location",
            "=",
            f"{prefix}/{path}",
            body=[
                # A name with a variable in it is looked up among the groups; the path is fixed,
                # and the query is as the client sent it.
                simple(
                    "proxy_pass",
                    f"http://$download-{upstream.path}{base}/{path}$is_args$args",
                ),
                simple("proxy_read_timeout", "300s"),
            ],
        )
    for path in mlflow_paths.SERVER_INFO:
        yield block(
            "location",
            "=",
            f"{prefix}/{path}",
            body=[
                simple("proxy_pass", f"http://{group}{base}/{path}"),
                *_not_offered(),
            ],
        )
    for path in mlflow_paths.REFUSED:
        yield block("location", f"{prefix}/{path}", body=[simple("proxy_pass", "http://answers")])


def _not_offered() -> Iterator[Directive]:
    """Let the server not offer what is refused here."""
    yield simple("sub_filter_types", "application/json")
    yield simple("sub_filter_once", "off")
    for name in mlflow_paths.NOT_OFFERED:
        yield simple("sub_filter", f'"{name}":true', f'"{name}":false')


def _by_name(upstream: Upstream, server: str) -> str:
    """Return the name of a socket; by numbers, since a socket's path has at most 107 bytes."""
    return f"by-name-{upstream.relation_id}-{upstream.servers.index(server)}"


def _by_name_server(
    upstream: Upstream, server: str, state: State, paths: Paths
) -> Iterator[Directive]:
    """A hop for a server without an address: nginx resolves a name again only in a variable.

    The path comes here in its final form and is passed on as it is. A name that does not
    resolve, or not any more, is a request that was not sent.
    """
    yield simple("listen", f"unix:{paths.socket(_by_name(upstream, server))}")
    nameservers = [uris.bracketed(address) for address in state.nameservers]
    yield simple("resolver", *nameservers, "valid=5s", "ipv6=off")
    yield simple("resolver_timeout", "2s")
    yield simple("client_max_body_size", "0")
    yield simple("proxy_http_version", "1.1")
    yield simple("proxy_set_header", "Host", "$http_host")
    yield simple("proxy_set_header", "Connection", "")
    yield simple("proxy_request_buffering", "off")
    yield simple("proxy_buffering", "off")
    yield simple("proxy_connect_timeout", "2s")
    yield simple("proxy_read_timeout", "300s")
    yield simple("proxy_next_upstream_tries", str(_MAX_TRIES))
    yield from _gateway_errors()
    yield block(
        "location",
        "/",
        body=[
            simple("set", "$server_by_name", f"{server}:{upstream.request.port}"),
            simple("proxy_pass", "http://$server_by_name"),
        ],
    )
