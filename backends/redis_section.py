"""The section `redis` of the configuration: its keys, what is wrong with them, what the library gets of them.

No connection is made here. The URL may hold a password, so nothing here shows it or repeats a part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from backends.base import Secret
from backends.portal import Layout


class RedisSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands here by itself goes before what the URL says."""

    url: str
    username: str | None = None
    password: Secret | None = None
    db: Annotated[int, msgspec.Meta(ge=0)] | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    prefix: str = ""
    layout: Layout = "list"
    node_types: dict[str, list[str]] | None = None  # group → partitions; None: CPU and GPU by a node's GPUs
    gpu_types: list[str] | None = None  # None: the groups whose name begins with GPU
    expire_s: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: never
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0

    def __post_init__(self) -> None:
        _check_url(self)
        groups = list(("CPU", "GPU") if self.node_types is None else self.node_types)
        prefixes = {name.lower() for name in groups}
        if len(prefixes) < len(groups) or prefixes & {"", "all"}:
            raise ValueError("node_types: names must differ, case aside, and not be empty or `all`")
        unknown = [name for name in self.gpu_types or () if name not in groups]
        if unknown:
            raise ValueError(f"gpu_types: {unknown[0]!r} is not in node_types")

    def __repr__(self) -> str:
        return f"RedisSection({read_address(self.url)[1]})"


def _check_url(section: RedisSection) -> None:
    scheme = read_address(section.url)[0]
    if scheme != "rediss" and (section.ca_file or section.cert_file or section.key_file):
        raise ValueError("ca_file, cert_file and key_file need a url that begins with rediss://")
    for option in parse_qs(urlsplit(section.url).query, keep_blank_values=True):
        if option not in ("db", "username", "password"):
            raise ValueError(
                "url: of options it may have db, username and password; others are keys beside it"
            )
    try:
        connection_options(section)
    except ValueError:
        raise ValueError("url: db is no number") from None


def read_address(url: str) -> tuple[str, str]:
    """The scheme, and the server for people: without user, password and options. Raise ValueError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname if parts.netloc else "localhost", parts.port or 6379
    except ValueError:
        # Its text quotes what it took for a host or port: in a URL gone wrong that may be the password.
        parts, host, port = urlsplit(""), None, 0
    scheme, db = url.partition("://")[0], parts.path.strip("/")
    if scheme == "unix" and db:
        return scheme, f"unix://{parts.path}"
    # A bare / ? or # in a password ends the host's part: what remains of it is no number.
    if scheme in ("redis", "rediss") and host and (db.isdecimal() or not db) and not parts.fragment:
        return scheme, f"{scheme}://{host}:{port}"
    raise ValueError(
        "url: expected redis://host:port/db, rediss://… or unix:///path"
        "; in a password, / ? # @ are written %2F %3F %23 %40"
    )


def connection_options(section: RedisSection) -> dict[str, Any]:
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    if section.url.startswith("rediss:"):
        # Not the default of all releases of the library.
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    parse: Callable[[str], dict[str, Any]] = parse_url
    options |= parse(section.url)
    own = {
        "username": section.username,
        "password": section.password and section.password.value,
        "db": section.db,
        "ssl_ca_certs": section.ca_file and str(section.ca_file),
        "ssl_certfile": section.cert_file and str(section.cert_file),
        "ssl_keyfile": section.key_file and str(section.key_file),
    }
    return options | {key: value for key, value in own.items() if value is not None}
