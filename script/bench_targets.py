"""The targets that script/bench runs against: the test double of cc-backend in a process of its own, a Redis.

Run as a program it is that process: `bench_targets.py FILE` serves the clusters that the file holds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "1.5.4"
TOKEN = "good"  # noqa: S105 no secret: the double asks for it itself
WAIT_S = 20


class Double:
    """A freshly started double; what it holds goes with it."""

    def __init__(self, folder: Path, clusters: list[dict[str, Any]]) -> None:
        described = folder / "clusters.json"
        described.write_text(json.dumps(clusters))
        self._process = subprocess.Popen(
            [sys.executable, "-B", __file__, str(described)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._ask()

    def commit(self) -> None:
        """Have it list what lies in its cache table, as the real one does every two minutes."""
        self._ask("commit\n")

    def told(self) -> int:
        """How many starts and stops it has been sent."""
        return int(self._ask("count\n"))

    def _ask(self, line: str = "") -> str:
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            sys.exit("the double of cc-backend does not answer")
        return answer

    def __enter__(self) -> Double:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()


@contextmanager
def redis_server(folder: Path) -> Iterator[str | None]:
    """The URL of a throw-away Redis on a socket; None: there is no redis-server here."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    socket = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT_S
        while not socket.exists() and server.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        yield f"unix://{socket}" if socket.exists() else None
    finally:
        server.terminate()
        server.wait()


def serve(described: Path) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from cc_double import CcDouble

    clusters = json.loads(described.read_text())
    with CcDouble(RELEASE, clusters, token=TOKEN, commit_after_s=None) as double:
        print(double.url, flush=True)
        for line in sys.stdin:
            if line == "commit\n":
                double.commit_cache()
            told = [path for method, path, _ in double.requests if method == "POST" and "_job/" in path]
            print(len(told), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
