"""The state file and the lock."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import memory
from memory import (
    Accepted,
    BackendMemory,
    LockHeldError,
    Memory,
    Owed,
    Refusal,
    StateError,
    Stopped,
    Watched,
    key_of,
    load,
    locked,
    save,
)
from model import RunKey

FULL = Memory(
    cluster="noctua",
    backends={
        "cc-backend": BackendMemory(
            identity="https://cc.example.org#noctua",
            mark=5,
            accepted={"1@10": Accepted(11)},
            stopped={"2@10": Stopped(12, 13)},
            refused={"3@10": Refusal("no subcluster", 2, 14, True, 15)},
            completing={"4@10": 16},
            failing={"5@10": 1},
            watched={"6@10": Watched(17, 18, 19, 20, "9_3")},
            owed={"7@10": Owed("FAILED", 21, "squeue")},
            facts={"topology": []},
            facts_at=22,
            published_at=23,
            completed_at=24,
        )
    },
    opted_out={"8@10": 25},
    slurm_failures=2,
    slurm_failed_at=26,
    said={"redis: no connection": 27},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "noctua.json"


def test_what_is_saved_is_loaded(path: Path) -> None:
    save(path, FULL)
    assert load(path, "noctua") == (FULL, "")


def test_the_file_is_readable_text_for_its_owner_alone(path: Path) -> None:
    save(path, FULL)
    assert path.stat().st_mode & 0o777 == 0o600
    assert '"reason": "no subcluster"' in path.read_text()
    assert path.read_text().endswith("}\n")


def test_without_a_file_memory_begins_anew_in_silence(path: Path) -> None:
    assert load(path, "noctua") == (Memory(cluster="noctua"), "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"backends": 5}',
        b'{"schema": 1, "cluster": "noctua", "backends": {"a": {"accepted": {"x": {"at": 1}}}}}',
        b'{"schema": 1, "cluster": "noctua", "backends": {"a": {"completing": {"1@": 1}}}}',
    ],
)
def test_what_is_no_state_file_is_said_and_begun_anew(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found, problem = load(path, "noctua")
    assert found == Memory(cluster="noctua")
    assert problem.startswith(f"{path}: not a state file (")
    assert problem.endswith("); begun anew")


def test_another_cluster_s_file_is_said_and_begun_anew(path: Path) -> None:
    save(path, Memory(cluster="otus"))
    assert load(path, "noctua") == (Memory(cluster="noctua"), f"{path}: belongs to 'otus'; begun anew")


def test_a_newer_release_s_file_is_not_touched(path: Path) -> None:
    save(path, Memory(schema=memory.SCHEMA + 1, cluster="noctua"))
    with pytest.raises(StateError, match="written by a newer release"):
        load(path, "noctua")


def test_an_older_file_lacks_what_is_new(path: Path) -> None:
    path.write_text('{"cluster": "noctua", "backends": {"sqlite": {"mark": 5}}}')
    assert load(path, "noctua")[0] == Memory(cluster="noctua", backends={"sqlite": BackendMemory(mark=5)})


def test_a_file_that_cannot_be_read_is_no_reason_to_forget(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateError, match=str(path)):
        load(path, "noctua")


def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, FULL)

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StateError, match="cannot be written: No space left on device"):
        save(path, Memory(cluster="noctua"))
    assert load(path, "noctua") == (FULL, "")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_reader_sees_the_old_file_or_the_new_one(path: Path) -> None:
    """A writer that is killed at any moment leaves a whole file."""
    code = (
        "import memory, pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    said = {f'fault {n}': number for n in range(2000)}\n"
        "    memory.save(path, memory.Memory(cluster='noctua', said=said))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment) as process:
        while not path.exists():
            time.sleep(0.01)
        for _ in range(20):
            found = msgspec.json.decode(path.read_bytes(), type=Memory)
            assert len(found.said) == 2000
            assert len(set(found.said.values())) == 1
        process.kill()
    assert len(load(path, "noctua")[0].said) == 2000


def test_a_run_s_name_is_its_id_and_start() -> None:
    key = RunKey("noctua", 4711, 1_700_000_000)
    assert str(key) == "4711@1700000000"
    assert key_of(str(key), "noctua") == key


def test_one_pass_holds_the_lock_and_another_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "noctua.lock"
    with locked(path), pytest.raises(LockHeldError) as held, locked(path):
        pass
    assert 0 <= held.value.age_s < 5
    with locked(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_age_of_a_lock_is_how_long_it_has_been_held(tmp_path: Path) -> None:
    path = tmp_path / "noctua.lock"
    path.touch()
    os.utime(path, (1, 1))
    with locked(path):
        assert time.time() - path.stat().st_mtime < 5
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        os.utime(path, (time.time() - 700, time.time() - 700))
        with pytest.raises(LockHeldError, match="another pass has held") as held, locked(path):
            pass
    assert 700 <= held.value.age_s < 710


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "noctua.lock"
    code = (
        "import memory, pathlib, sys, time\n"
        "with memory.locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LockHeldError), locked(path):
            pass
        process.kill()
        process.wait()
    with locked(path):
        pass


def test_a_lock_that_nobody_can_have_is_a_fault_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"), locked(tmp_path / "file" / "noctua.lock"):
        pass
    (tmp_path / "noctua.lock").symlink_to(tmp_path / "file")
    with pytest.raises(StateError, match=r"noctua\.lock"), locked(tmp_path / "noctua.lock"):
        pass
