"""Fixtures `redisd` and `reader`, for modules that name this one in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis_server
from redis_server import RedisServer


@pytest.fixture(scope="session")
def redisd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def reader(redisd: RedisServer) -> Iterator[Any]:
    """A client on an empty Redis; what a test changes of its settings is taken back."""
    with redisd.client() as client:
        client.flushall()
        before: Any = client.config_get("maxmemory*")
        yield client
        for name, value in before.items():
            client.config_set(name, value)
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.execute_command("ACL", "DELUSER", "portal")
