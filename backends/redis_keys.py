"""The keys of a status portal in Redis: the connection, and writing one pass whole or not at all.

What the keys say is portal's. Each pass replaces all of its keys in one transaction; lists are built aside
before it, a piece at a time, so that neither Redis nor this program stops to hold them whole.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.connection import ConnectionPool
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError, WatchError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from backends.base import Deadline, Finding, TargetError
from backends.portal import Groups, Portal, render_portal
from backends.redis_section import RedisSection, connection_options, read_address
from model import Snapshot

_RIGHTS = "give the user these rights (redis.io: ACL SETUSER), on a Redis that takes writes"
KEYS = ("cluster_node", "cluster_job", "cluster_brief", "cluster_pue", "jobs", "nodes")
OLDEST = (4, 0)  # UNLINK
# What a killed writer leaves behind goes after this long. More than a pass lasts.
ASIDE_EXPIRE_S = 900
CHUNK_ENTRIES, CHUNK_BYTES = 1000, 512 * 1024
RETRIES, BACKOFF_BASE_S, BACKOFF_CAP_S = 3, 0.1, 1.0
_ITS_OWN = "give the portal a Redis of its own, no cluster, with maxmemory-policy noeviction"
_VANISHED = "what was written aside is gone again: is its memory full?"
_OUT_OF_TIME = "no time is left in this pass"


class RedisPortal:
    """A snapshot target. It connects for each publication, so there is nothing to keep open or to lose."""

    Section: ClassVar[type[msgspec.Struct]] = RedisSection

    def __init__(self, section: RedisSection, cluster: str) -> None:
        self._section = section
        self._address = read_address(section.url)[1]
        self._options = connection_options(section)
        self._groups = Groups(section.node_types, section.gpu_types)
        self._stem = f"{section.prefix}{cluster}_"

    def identity(self) -> str:
        return f"{self._address}/{self._options.get('db', 0)} {self._stem}"

    def interval_s(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open between calls."""

    def publish(self, snapshot: Snapshot, deadline: Deadline) -> str:
        # Redis' own retry would send a list's piece twice where only the answer was lost: all begins anew.
        retry = Retry(
            ExponentialBackoff(BACKOFF_CAP_S, BACKOFF_BASE_S),
            RETRIES,
            (RedisConnectionError, RedisTimeoutError, WatchError),
        )
        try:
            retry.call_with_retry(
                functools.partial(self._publish_once, snapshot, deadline),
                functools.partial(_give_up_late, deadline),
            )
        except (RedisError, OSError) as error:
            raise self._fault(error) from None  # its own text may hold what was sent
        jobs = "jobs kept" if snapshot.jobs is None else f"{len(snapshot.jobs)} jobs"
        return jobs + (", nodes kept" if snapshot.nodes is None else f", {len(snapshot.nodes)} nodes")

    def _publish_once(self, snapshot: Snapshot, deadline: Deadline) -> None:
        portal = render_portal(snapshot, self._groups, self._section.layout)
        token = secrets.token_hex(8)  # another writer builds its own
        aside = {name: f"{self._stem}{name}:{token}" for name in portal.lists}
        with self._connect(deadline.left_s()) as client:
            try:
                for name, entries in portal.lists.items():
                    if not _write_aside(client, aside[name], entries, deadline):
                        del aside[name]
                self._replace(client, portal, aside)
            except (ResponseError, WatchError):
                with contextlib.suppress(RedisError):
                    client.unlink(*aside.values())
                raise

    def _replace(self, client: Redis, portal: Portal, aside: dict[str, str]) -> None:
        """All at once: readers see the old pass or the new one."""
        spoilt = [n for n in portal.patches if client.type(self._stem + n) not in (b"hash", b"none")]
        pipe: Any = client.pipeline(transaction=True)  # half of its calls have no types
        with pipe:
            if aside:
                # One that is evicted or expires from here on fails the transaction, not the list.
                pipe.watch(*aside.values())
                if pipe.exists(*aside.values()) != len(aside):
                    raise ResponseError(_VANISHED)
                pipe.multi()
            for name in (*portal.hashes, *portal.lists, *spoilt):
                pipe.unlink(self._stem + name)
            for name, key in aside.items():
                pipe.rename(key, self._stem + name)
            for name, fields in (*portal.hashes.items(), *portal.patches.items()):
                if fields:
                    pipe.hset(self._stem + name, mapping=fields)
            for name in (*portal.hashes, *portal.patches, *aside):
                if self._section.expire_s:
                    pipe.expire(self._stem + name, self._section.expire_s)
                else:
                    pipe.persist(self._stem + name)  # a list keeps the expiry that it had aside
            pipe.execute()

    def check(self) -> Iterator[Finding]:
        try:
            with self._connect(self._section.timeout_s) as client:
                client.ping()
                yield from _check_server(self._address, _read_info(client))
                refused = self._try_commands(client)
            yield from (Finding(False, f"{self._address}: {reason}", _RIGHTS) for reason in refused)
            if not refused:
                yield Finding(True, f"{self._address}: may write {self._stem}*")
        except (RedisError, OSError) as error:
            yield Finding(False, str(self._fault(error)), "look at redis.url, username, password and ca_file")

    def _try_commands(self, client: Redis) -> list[str]:
        """What Redis says against a pass's commands: it judges them while queueing, then discards them."""
        refused: list[str] = []
        with Redis(connection_pool=client.connection_pool, single_connection_client=True) as single:
            connection: Any = single.connection
            for command in self._commands():
                connection.send_command(*command)
                try:
                    connection.read_response()
                except ResponseError as error:
                    refused.append(_plain(error))
                    if command == ("MULTI",):  # without it, what follows would be carried out
                        break
        return list(dict.fromkeys(refused))

    def _commands(self) -> Iterator[tuple[str, ...]]:
        aside = f"{self._stem}jobs:{secrets.token_hex(8)}"
        yield from (("WATCH", aside), ("EXISTS", aside), ("TYPE", f"{self._stem}cluster_brief"), ("MULTI",))
        yield from (("RPUSH", aside, "1"), ("EXPIRE", aside, "1"))
        for key in (self._stem + name for name in KEYS):
            yield from (("UNLINK", key), ("HSET", key, "1", "1"), ("PERSIST", key), ("RENAME", aside, key))
        yield ("DISCARD",)

    @contextlib.contextmanager
    def _connect(self, left_s: float) -> Iterator[Redis]:
        if left_s <= 0:
            raise RedisTimeoutError(_OUT_OF_TIME)
        timeout_s = min(self._section.timeout_s, left_s)
        timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        pool = ConnectionPool(**self._options | timeouts)
        try:
            yield Redis(connection_pool=pool)
        finally:
            pool.disconnect()

    def _fault(self, error: Exception) -> TargetError:
        reason = _plain(error)
        password = self._options.get("password")
        if password:  # some proxies repeat what they do not understand
            reason = reason.replace(password, "***")
        return TargetError(f"{self._address}: {reason}")


def _write_aside(client: Redis, key: str, entries: Iterable[bytes], deadline: Deadline) -> int:
    """Return the number of entries; of none there is no key."""
    count = 0
    for chunk in chunks(entries):
        if not deadline.left_s():
            raise RedisTimeoutError(_OUT_OF_TIME)
        pipe: Any = client.pipeline(transaction=True)
        with pipe:
            pipe.execute_command("RPUSH", key, *chunk)
            pipe.expire(key, ASIDE_EXPIRE_S)
            pipe.execute()
        count += len(chunk)
    return count


def chunks(entries: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for entry in entries:
        chunk.append(entry)
        size += len(entry)
        if len(chunk) == CHUNK_ENTRIES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _give_up_late(deadline: Deadline, error: Exception) -> None:
    refused = isinstance(error, (AuthenticationError, AuthorizationError))
    if refused or deadline.left_s() <= BACKOFF_CAP_S:
        raise error


def _plain(error: Exception) -> str:
    """What Redis said, without the command that the library puts before it: that holds names of jobs."""
    text = _VANISHED if isinstance(error, WatchError) else str(error) or type(error).__name__
    return text.rpartition("of pipeline caused error: ")[2][:200]


def _read_info(client: Redis) -> dict[str, Any]:
    """Empty where this user may not ask."""
    try:
        return dict(client.info())
    except ResponseError:
        return {}


def _check_server(address: str, info: dict[str, Any]) -> Iterator[Finding]:
    version = str(info.get("redis_version", ""))
    if not version:
        yield Finding(True, f"{address}: reachable; its version is not shown to this user")
        return
    old = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST
    yield Finding(not old, f"{address}: Redis {version}", "4.0 or later is needed" if old else "")
    if info.get("redis_mode") == "cluster":
        yield Finding(False, f"{address}: is part of a Redis cluster", _ITS_OWN)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if info.get("maxmemory") and policy != "noeviction":
        yield Finding(False, f"{address}: drops keys when it is full (maxmemory-policy {policy})", _ITS_OWN)
