"""Scripts and environments from the state-save directory: any bytes, no link followed, nothing that hangs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from recordings import RELEASES, Recorded

from model import Run, RunKey
from slurm.statesave import (
    EnvironmentMode,
    StateSaveError,
    check_directory,
    owner_id,
    read_environment,
    read_script,
)

CAP = 50_000


def folder_of(directory: Path, job_id: int) -> Path:
    folder = directory / f"hash.{job_id % 10}" / f"job.{job_id}"
    folder.mkdir(parents=True)
    return folder


def save(directory: Path, job_id: int, script: bytes | None = None, environment: bytes | None = None) -> None:
    folder = folder_of(directory, job_id)
    for name, data in (("script", script), ("environment", environment)):
        if data is not None:
            (folder / name).write_bytes(data)


def environment(directory: Path, mode: EnvironmentMode, *entries: bytes, cap: int = CAP) -> str | None:
    save(directory, 7, environment=len(entries).to_bytes(4, "little") + b"".join(e + b"\0" for e in entries))
    return read_environment(directory, 7, cap, mode)


def a_run(job_id: int, array_job_id: int | None = None, het_job_id: int | None = None) -> Run:
    return Run(
        key=RunKey("noctua", job_id, 1),
        user="ada",
        account="",
        partition="",
        state="RUNNING",
        allocations=(),
        cpus=1,
        gpus=0,
        node_list="n1",
        array_job_id=array_job_id,
        het_job_id=het_job_id,
    )


def test_an_array_task_and_a_component_have_the_files_of_their_array_and_leader() -> None:
    runs = a_run(5), a_run(31, array_job_id=9), a_run(11, het_job_id=10)
    assert [owner_id(run) for run in runs] == [5, 9, 10]


@pytest.mark.parametrize("release", RELEASES)
def test_the_scripts_of_a_recording_are_read(release: str) -> None:
    directory = Recorded(release, "t0").folder / "state_save"
    head = '#!/bin/bash\n#SBATCH --comment="from script"\n# job script: '
    assert read_script(directory, 4, CAP) == f"{head}utf8\n# 中文 script: é\nsleep 900\n"
    for run in (a_run(31, array_job_id=9), a_run(11, het_job_id=10)):
        assert read_script(directory, owner_id(run), CAP) == f"{head}sleep\nsleep 900\n"


@pytest.mark.parametrize("release", RELEASES)
def test_the_environments_of_a_recording_are_lines(release: str) -> None:
    text = read_environment(Recorded(release, "t0").folder / "state_save", 4, CAP, "full")
    assert text is not None
    lines = text.split("\n")
    assert lines[:3] == ["PATH=/usr/bin:/bin", "HOME=/home/alice", "USER=alice"]
    assert all("=" in line for line in lines)


def test_a_job_without_files_or_folder_has_neither_script_nor_environment(tmp_path: Path) -> None:
    folder_of(tmp_path, 7)
    for job_id in (7, 8):
        assert read_script(tmp_path, job_id, CAP) is None
        assert read_environment(tmp_path, job_id, CAP, "full") is None


def test_a_directory_that_is_not_there_has_no_scripts(tmp_path: Path) -> None:
    assert read_script(tmp_path / "nowhere", 7, CAP) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"#!/bin/sh\n\0", "#!/bin/sh\n"),
        (b"a\0b\0\0c", "abc"),
        (b"caf\xe9\n", "caf\ufffd\n"),
        ("é中".encode(), "é中"),
        (b"", ""),
        (b"x" * 200, "x" * 100),
        (b"x" * 99 + "é".encode(), "x" * 99 + "\ufffd"),
    ],
)
def test_any_bytes_are_a_script_cut_at_the_cap(tmp_path: Path, data: bytes, text: str) -> None:
    save(tmp_path, 7, script=data)
    assert read_script(tmp_path, 7, 100) == text


def test_an_environment_holds_any_bytes(tmp_path: Path) -> None:
    entries = b"PATH=/bin", b"BAD=\xff\xfe", b"EMPTY=", b"MULTI=a\nb", b"no equals sign", b"=x"
    assert environment(tmp_path, "full", *entries) == (
        "PATH=/bin\nBAD=\ufffd\ufffd\nEMPTY=\nMULTI=a\nb\nno equals sign\n=x"
    )


def test_an_empty_or_torn_environment_is_empty(tmp_path: Path) -> None:
    save(tmp_path, 7, environment=b"\x05\x00")
    save(tmp_path, 8, environment=b"")
    assert [read_environment(tmp_path, job_id, CAP, "full") for job_id in (7, 8)] == ["", ""]


def test_an_environment_is_not_read_where_it_is_not_wanted(tmp_path: Path) -> None:
    assert environment(tmp_path, "none", b"PATH=/bin") is None


SECRET_NAMES = [
    *("GITHUB_TOKEN", "token", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSFILE", "MYSQL_PWD", "SSHPASS"),
    *("API_KEY", "apikey", "CREDENTIALS", "HTTP_AUTHORIZATION", "XAUTHORITY", "SESSION_COOKIE", "SLURM_JWT"),
    *("ARTIFACT_SIGNATURE", "DBUS_AUTH"),
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_redaction_hides_the_values_of_names_that_sound_secret(tmp_path: Path, name: str) -> None:
    text = environment(tmp_path, "redacted", f"{name}=hun=ter2\nline".encode(), b"HOME=/home/ada")
    assert text == f"{name}=***\nHOME=/home/ada"


@pytest.mark.parametrize(
    "entry", ["PATH=/bin", "PWD=/home/ada", "OLDPWD=/home", "HOME=/home/ada", "TERM=xterm"]
)
def test_redaction_leaves_the_others(tmp_path: Path, entry: str) -> None:
    assert environment(tmp_path, "redacted", entry.encode()) == entry


def test_a_secret_cut_by_the_cap_stays_hidden(tmp_path: Path) -> None:
    assert (
        environment(tmp_path, "redacted", b"MY_TOKEN=hunter2", cap=4 + len("MY_TOKEN=hun")) == "MY_TOKEN=***"
    )


@pytest.mark.parametrize("level", ["hash", "job", "script"])
def test_a_link_is_followed_at_no_level(tmp_path: Path, level: str, caplog: pytest.LogCaptureFixture) -> None:
    directory, outside = tmp_path / "state", tmp_path / "outside"
    directory.mkdir()
    save(outside, 7, script=b"secret of another", environment=b"\0\0\0\0A=secret\0")
    real = outside / "hash.7" / "job.7"
    if level == "hash":
        (directory / "hash.7").symlink_to(outside / "hash.7")
    elif level == "job":
        (directory / "hash.7").mkdir()
        (directory / "hash.7" / "job.7").symlink_to(real)
    else:
        folder = folder_of(directory, 7)
        for name in ("script", "environment"):
            (folder / name).symlink_to(real / name)
    assert read_script(directory, 7, CAP) is None
    assert read_environment(directory, 7, CAP, "full") is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    save(tmp_path / "real", 7, script=b"#!/bin/sh\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_script(tmp_path / "link", 7, CAP) == "#!/bin/sh\n"


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_does_not_hang_the_pass_and_costs_no_handle(tmp_path: Path, kind: str) -> None:
    path = folder_of(tmp_path, 7) / "script"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = open_handles()
    assert [read_script(tmp_path, 7, CAP) for _ in range(5)] == [None] * 5
    assert open_handles() == before


def test_a_file_in_the_place_of_a_folder_is_said_and_yields_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hash.7").write_text("no folder", "utf-8")
    assert read_script(tmp_path, 7, CAP) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_cannot_be_opened_is_said_and_yields_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mknod(folder_of(tmp_path, 7) / "script", stat.S_IFSOCK | 0o600)
    assert read_script(tmp_path, 7, CAP) is None
    assert "job 7: its script cannot be read: No such device or address" in caplog.text


def test_a_directory_that_cannot_be_entered_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    check_directory(tmp_path)
    with pytest.raises(
        StateSaveError, match=r"nowhere: No such file or directory; run as SlurmUser or root$"
    ):
        check_directory(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(StateSaveError, match="Not a directory"):
        check_directory(tmp_path / "file")
