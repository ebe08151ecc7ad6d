"""Build and take apart addresses; the only place where parts of a URI are quoted."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from collections.abc import Iterable, Mapping

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_HOST = 253
_MAX_PORT = 65535


@dataclasses.dataclass(frozen=True, order=True)
class Endpoint:
    """Where a server listens.

    Attributes:
        host: DNS name without a trailing dot, or an address (IPv6 without brackets).
        port: TCP port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def is_host(text: str) -> bool:
    """Whether the text is a DNS name or an IP address (IPv6 without brackets)."""
    if is_ip(text):
        return True
    return len(text) <= _MAX_HOST and all(_LABEL.fullmatch(part) for part in text.split("."))


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, the latter without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def bracketed(host: str) -> str:
    """Return the host as it is written before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """Take ``host:port`` apart.

    The trailing dot that mysql-k8s puts after a fully qualified name is dropped: it is no part
    of the name in a certificate or a Host header.

    Raises:
        ValueError: if it is not a host and a port; the message has no foreign text in it.
    """
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]+))?", text)
    if found is None:
        raise ValueError("is not of the form host:port")
    host = found["v6"] or found["host"].removesuffix(".")
    if not is_host(host) or (found["v6"] is not None and not is_ip(host)):
        raise ValueError("has a host that is neither a name nor an address")
    port = int(found["port"][:6]) if found["port"] else default_port
    if port is None or not 0 < port <= _MAX_PORT:
        raise ValueError("has a port that is not between 1 and 65535")
    return Endpoint(host, port)


def parse_endpoints(text: str, default_port: int | None = None) -> tuple[Endpoint, ...]:
    """Take a comma-separated list of ``host:port`` apart, keeping its order.

    Raises:
        ValueError: as `parse_endpoint`, and for an empty list.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [parse_endpoint(part, default_port) for part in parts if part]
    if not found:
        raise ValueError("is empty")
    return tuple(dict.fromkeys(found))


def parse_web(url: str) -> urllib.parse.SplitResult:
    """Check an address that browsers and clients shall use.

    Returns:
        Its parts, with a path that does not end in a slash.

    Raises:
        ValueError: if it is not an http or https URL with a host, or has a user, query or
            fragment; the message has no foreign text in it.
    """
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("has blanks or control characters")
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    if not is_host(parts.hostname.removesuffix(".")):
        raise ValueError("has a host that is neither a name nor an address")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("has a user, query or fragment, which an address of a service has not")
    try:
        # Reading the port checks it: urlsplit itself does not.
        valid = parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("has a port that is not between 1 and 65535")
    return parts._replace(path=parts.path.rstrip("/"))


def origin(url: str) -> str:
    """Return scheme, host and port of a URL as a browser sends them in ``Origin``."""
    parts = parse_web(url)
    default = {"http": 80, "https": 443}[parts.scheme]
    host = bracketed((parts.hostname or "").lower())
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def service_host(app: str, model: str) -> str:
    """Return the name of an application's Kubernetes Service inside the cluster."""
    return f"{app}.{model}.svc.cluster.local"


def unit_host(unit: str, model: str) -> str:
    """Return the stable name of one unit's pod, for example of ``mlflow-server/0``."""
    app, _, number = unit.partition("/")
    return f"{app}-{number}.{app}-endpoints.{model}.svc.cluster.local"


def service_url(app: str, model: str, port: int) -> str:
    """Return the address of an application inside the cluster, without a trailing slash."""
    return f"http://{service_host(app, model)}:{port}"


def allowed_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns that let a server accept these names with and without a port.

    MLflow compares a pattern without ``*`` with the whole Host header and takes others as
    fnmatch patterns, in which ``[`` has a meaning (mlflow.server.security_utils).
    """
    patterns: list[str] = []
    for host in dict.fromkeys(hosts):
        if ":" in host:
            patterns += [f"[{host}]", f"[[]{host}]:*"]
        else:
            patterns += [host, f"{host}:*"]
    return tuple(patterns)


def sqlalchemy(driver: str, query: Mapping[str, str]) -> str:
    """Return a SQLAlchemy URL whose driver finds everything in parameters and files.

    SQLAlchemy percent-decodes user, password and parameters but not host and database
    (``sqlalchemy.engine.url``), so only parameters take every character.

    Args:
        driver: dialect and driver, for example ``postgresql+psycopg2``; without the driver
            SQLAlchemy 2.1 takes another one than 2.0 did.
        query: parameters for the driver. No password: the URL is no secret.
    """
    return f"{driver}://?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe='')}"
