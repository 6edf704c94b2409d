"""The portal's Redis at its worst: down, silent, full of refusals; and what --check makes of it."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from portal_data import RECORDED, WITH_PUE, snapshot
from redis_server import RedisServer, dumped, portal, publish

from backends.base import Deadline, Secret, TargetError
from backends.redis_keys import RedisPortal
from backends.redis_section import RedisSection

pytestmark = pytest.mark.live
pytest_plugins = ["redis_fixtures"]

PASSWORD = "s3cr3t-w0rd"

# A Redis that does not answer


def failure(section: RedisSection, seconds: float = 5) -> str:
    """What publishing says; it has to say it within the time given."""
    started = time.monotonic()
    with pytest.raises(TargetError) as caught:
        RedisPortal(section, "noctua").publish(RECORDED, Deadline(seconds))
    assert time.monotonic() - started < seconds + 2
    assert caught.value.__cause__ is None and PASSWORD not in str(caught.value)
    return str(caught.value)


def test_a_redis_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    nowhere = f"unix://user:{PASSWORD}@{tmp_path}/none.sock"
    assert f"unix://{tmp_path}/none.sock: " in failure(RedisSection(url=nowhere))


def test_a_refused_connection_is_a_fault_of_the_target() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it, and not listening
        port = unused.getsockname()[1]
        text = failure(RedisSection(url=f"redis://:{PASSWORD}@127.0.0.1:{port}"))
    assert f"redis://127.0.0.1:{port}: " in text and "refused" in text


def test_a_redis_that_hangs_costs_no_more_than_the_time_there_is() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        assert "imeout" in failure(RedisSection(url=url, timeout_s=0.2), seconds=1.5)
        assert "imeout" in failure(RedisSection(url=url, timeout_s=60), seconds=0.5)


def test_no_time_left_is_said_and_nothing_is_written(redisd: RedisServer, reader: Any) -> None:
    assert "no time is left" in failure(RedisSection(url=redisd.url), seconds=0)
    assert dumped(reader) == {}


def test_a_redis_that_comes_back_within_the_time_is_written(tmp_path: Path) -> None:
    late = RedisServer(tmp_path)
    timer = threading.Timer(0.3, late.start)
    timer.start()
    try:
        publish(late)
        with late.client() as client:
            assert client.llen("noctua_jobs") == 30
    finally:
        timer.join()
        late.stop()


# Rights


def allow(reader: Any, *rules: str) -> dict[str, Any]:
    """The user `portal` with these rules; the keys that log in as it."""
    reader.execute_command("ACL", "SETUSER", "portal", "reset", "on", f">{PASSWORD}", *rules)
    return {"username": "portal", "password": Secret(PASSWORD)}


def test_a_user_with_the_rights_to_its_keys_and_no_others_publishes(redisd: RedisServer, reader: Any) -> None:
    user = allow(reader, "~noctua_*", "-@all", "+@write", "+@read", "+@transaction", "+ping")
    publish(redisd, WITH_PUE, **user)
    publish(redisd, snapshot(nodes=None), **user)
    assert all(finding.ok for finding in portal(redisd, **user).check())


def test_a_wrong_password_is_said_at_once_and_never_shown(redisd: RedisServer, reader: Any) -> None:
    allow(reader, "~*", "+@all")
    started = time.monotonic()
    failure(RedisSection(url=redisd.url, username="portal", password=Secret(PASSWORD + "x")), seconds=60)
    assert time.monotonic() - started < 2
    (finding,) = portal(redisd, username="portal", password=Secret(PASSWORD + "x")).check()
    assert not finding.ok and PASSWORD not in finding.text


def test_a_refused_command_is_told_without_what_was_sent(redisd: RedisServer, reader: Any) -> None:
    user = allow(reader, "~*", "+@all", "-rpush")
    text = failure(RedisSection(url=redisd.url, **user))
    assert "rpush" in text and "share1" not in text and "alice" not in text


def test_a_refused_transaction_keeps_the_old_pass(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    before = dumped(reader)
    assert "rename" in failure(RedisSection(url=redisd.url, **allow(reader, "~*", "+@all", "-rename")))
    assert before == dumped(reader)


# --check


def test_check_tells_address_version_and_rights_and_writes_nothing(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, WITH_PUE)
    before = dumped(reader)
    version, rights = portal(redisd).check()
    assert version.ok and redisd.url in version.text and reader.info()["redis_version"] in version.text
    assert rights.ok and "noctua_" in rights.text
    assert before == dumped(reader)


@pytest.mark.parametrize(
    "command", ["rpush", "unlink", "hset", "rename", "expire", "persist", "watch", "multi"]
)
def test_check_names_a_right_that_is_missing_and_writes_nothing(
    redisd: RedisServer, reader: Any, command: str
) -> None:
    publish(redisd, WITH_PUE)
    before = dumped(reader)
    findings = list(portal(redisd, **allow(reader, "~*", "+@all", f"-{command}")).check())
    refused = [finding for finding in findings if not finding.ok]
    assert refused and all(command in finding.text and finding.remedy for finding in refused)
    assert before == dumped(reader)


def test_check_sees_that_a_user_may_not_write_these_keys(redisd: RedisServer, reader: Any) -> None:
    findings = list(portal(redisd, **allow(reader, "~other_*", "+@all")).check())
    assert not all(finding.ok for finding in findings)


def test_check_sees_a_replica_and_a_redis_that_drops_keys(redisd: RedisServer, reader: Any) -> None:
    reader.config_set("maxmemory", "1gb")
    reader.config_set("maxmemory-policy", "allkeys-lru")
    assert [f.text for f in portal(redisd).check() if not f.ok and "allkeys-lru" in f.text]
    reader.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert [f.text for f in portal(redisd).check() if not f.ok and "replica" in f.text]


def test_check_goes_on_where_the_version_is_not_shown(redisd: RedisServer, reader: Any) -> None:
    findings = list(portal(redisd, **allow(reader, "~*", "+@all", "-info")).check())
    assert [finding.ok for finding in findings] == [True, True] and "not shown" in findings[0].text


def test_check_of_a_redis_that_is_down_is_one_finding(tmp_path: Path) -> None:
    (finding,) = RedisPortal(RedisSection(url=f"unix://{tmp_path}/none.sock"), "noctua").check()
    assert not finding.ok and "none.sock" in finding.text and finding.remedy
