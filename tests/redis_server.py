"""A Redis of the tests' own: on a Unix socket in a folder of theirs, without persistence, stopped again.

Fixtures of it are redis_fixtures'.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from portal_data import RECORDED
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from backends.base import Deadline
from backends.redis_keys import RedisPortal
from backends.redis_section import RedisSection
from model import Snapshot

START_TIMEOUT_S = 20


class RedisServer:
    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/usr/sbin:/bin")
        if self.program is None and os.environ.get("CI"):
            pytest.fail("redis-server is not installed")  # in CI a skip is a failure
        if self.program is None:
            pytest.skip("redis-server is not installed (script/test installs it)")
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> Any:
        return Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def start(self) -> None:
        options = f"--port 0 --appendonly no --daemonize no --dir {self.socket.parent}".split()
        self._process = subprocess.Popen(
            [str(self.program), *options, "--unixsocket", str(self.socket), "--save", ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisConnectionError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def dumped(reader: Any) -> dict[str, bytes]:
    """All that stands in it."""
    return {key: reader.dump(key) for key in sorted(reader.keys("*"))}


def portal(redisd: RedisServer, **keys: Any) -> RedisPortal:
    return RedisPortal(RedisSection(**{"url": redisd.url} | keys), "noctua")


def publish(redisd: RedisServer, snapshot_: Snapshot = RECORDED, **keys: Any) -> str:
    return portal(redisd, **keys).publish(snapshot_, Deadline(60))
