"""README, the example configuration, the unit files and the change log say what the code does."""

from __future__ import annotations

import argparse
import ast
import configparser
import itertools
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import arguments
import settings
import sync
from backends import REGISTRY, backend_class
from backends.portal import Groups, render_portal
from model import Snapshot
from settings import load_settings
from slurm.recording import Recording

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PORTAL = (ROOT / "contrib" / "PORTAL.md").read_text("utf-8")
EXAMPLE: dict[str, Any] = json.loads((ROOT / "config.json.example").read_text("utf-8"))
RECORDING = ROOT / "tests" / "data" / "slurm-25.11" / "t1"
INSTALLED = "/opt/slurm-sync/"  # where README puts this folder

Row = list[str]


def section(title: str, text: str = README) -> str:
    """What stands between a heading and the next one, deeper ones included."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,9}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[2]


def rows(text: str) -> list[Row]:
    """The rows of all tables, without their heads."""
    lines = text.splitlines()
    tables = (i for i, line in enumerate(lines) if line.startswith("| ---"))
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for start in tables
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines[start + 1 :])
    ]


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Configuration


def fields(record: type[msgspec.Struct]) -> dict[str, Any]:
    """Key → default. NODEFAULT: mandatory."""
    found = {}
    for field in msgspec.structs.fields(record):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if default is not msgspec.NODEFAULT:
            default = msgspec.to_builtins(default, enc_hook=str)
        found[field.encode_name] = list(default) if isinstance(default, tuple) else default
    return found


def top_level() -> dict[str, Any]:
    """`state_dir` has a default that depends on the user; README's is root's."""
    given = fields(settings._Common) | {"state_dir": "/var/lib/slurm-sync", "slurm": {}}
    return given | {"accelerators": {}}


SECTIONS: dict[str, dict[str, Any]] = {
    "Top level": top_level(),
    "`slurm`": fields(settings.SlurmSettings),
    **{
        f"`{name}`": {k: v for k, v in fields(backend_class(reference).Section).items() if k != "enabled"}
        for name, reference in REGISTRY.items()
    },
    "In every target's section": {"enabled": True, "class": None},
}


def shown_default(cell: str) -> Any:
    if cell == "mandatory":
        return msgspec.NODEFAULT
    if cell == "–":
        return None
    (text,) = names(cell)
    return text if text.startswith("/") else json.loads(text)


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_stands_in_readme_with_its_default(title: str) -> None:
    told = {names(row[0])[0]: shown_default(row[1]) for row in rows(section(title))}
    assert told == SECTIONS[title]
    assert all(row[2] for row in rows(section(title)))


def test_the_example_has_every_key_once() -> None:
    assert set(EXAMPLE) - set(REGISTRY) - {"job-folder"} == set(SECTIONS["Top level"])
    for name in ("slurm", *REGISTRY):
        beside = {"enabled"} if name in REGISTRY else set()
        assert set(EXAMPLE[name]) == set(SECTIONS[f"`{name}`"]) | beside
    assert "class" in EXAMPLE["job-folder"]


def test_a_key_that_has_a_default_has_it_in_the_example() -> None:
    """So that copying it changes nothing but what a site must or may say: names, places, secrets, devices."""
    given = {"Top level": EXAMPLE, **{f"`{name}`": EXAMPLE[name] for name in ("slurm", *REGISTRY)}}
    for title, keys in given.items():
        for key, default in SECTIONS[title].items():
            if default not in (None, msgspec.NODEFAULT, {}):
                assert keys[key] == default, f"{title}: {key}"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example configuration with its secret files."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(EXAMPLE))
    for name in ("cc-token", "redis-password"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    return path


def test_the_example_loads_without_a_warning(example: Path) -> None:
    loaded = load_settings(example, environ={"HOME": "/root"})
    assert [backend.name for backend in loaded.backends] == list(REGISTRY)
    assert {rule.kind for rule in loaded.accelerators} == {"prefix", "hosts", "regex"}
    assert loaded.warnings == ()


def test_what_the_example_has_turned_off_loads_too(example: Path) -> None:
    example.write_text(json.dumps({**EXAMPLE, "job-folder": {**EXAMPLE["job-folder"], "enabled": True}}))
    loaded = load_settings(example, environ={"HOME": "/root"})
    assert loaded.backends[-1].name == "job-folder"


def test_the_example_lacks_nothing_but_its_secret_files(example: Path) -> None:
    (example.parent / "cc-token").unlink()
    with pytest.raises(settings.ConfigError, match=r"cc-token cannot be read: No such file"):
        load_settings(example, environ={"HOME": "/root"})


def test_every_configuration_shown_in_readme_is_one(tmp_path: Path) -> None:
    """Whole ones, and pieces such as `"sqlite": {…}` that belong into one."""
    blocks = re.findall(r"(?:^    .*\n)+", README, re.MULTILINE)
    shown = [block for block in blocks if block.lstrip().startswith(('"', "{"))]
    assert len(shown) >= 3
    for block in shown:
        piece = json.loads(block if block.lstrip().startswith("{") else "{" + block + "}")
        base = {"clustername": "noctua2", "sqlite": {"path": str(tmp_path / "jobs.db")}}
        (tmp_path / "config.json").write_text(json.dumps(base | piece))
        (tmp_path / "example_backend.py").write_text((ROOT / "contrib" / "example_backend.py").read_text())
        load_settings(tmp_path / "config.json", environ={"HOME": "/root"})


# Command line


def options() -> dict[str, argparse.Action]:
    return {
        name: action
        for action in arguments._parser()._actions
        for name in action.option_strings
        if name.startswith("-")
    }


def test_every_option_stands_in_readme_with_its_argument() -> None:
    told = {}
    for row in rows(section("Command line")):
        if row[0].startswith("`-"):
            *short, last = names(row[0])
            long, _, argument = last.partition(" ")
            told.update(dict.fromkeys((*short, long), argument))
    assert told == {name: argument_of(action) for name, action in options().items()}


def argument_of(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(action.choices) + "}"
    return str(action.metavar or "")


def test_the_synopsis_names_every_option_once() -> None:
    synopsis = re.search(r"(?:^    .*\n)+", section("Command line"), re.MULTILINE)
    assert synopsis
    named = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", synopsis[0])
    assert len(named) == len(set(named))
    spoken_of = {option for action in arguments._parser()._actions for option in action.option_strings[:1]}
    assert set(named) == spoken_of


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(["--help"])
    told = capsys.readouterr().out
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", told) for name in options())


def test_calls_of_sync_py_shown_anywhere_are_understood() -> None:
    files = (ROOT / "README.md", *(ROOT / "contrib").iterdir())
    text = "\n".join(file.read_text("utf-8") for file in files if file.is_file())
    calls = re.findall(r"python (?:\S*/)?sync\.py(.*)", text)
    assert len(calls) >= 6
    for call in calls:
        arguments.parse(call.split())


def test_exit_codes_agree() -> None:
    told = [(int(row[0]), row[1]) for row in rows(section("Command line")) if row[0].isdecimal()]
    helped = re.findall(r"^  (\d)  (.+)$", arguments._EXIT_CODES, re.MULTILINE)
    assert told == [(int(code), text) for code, text in helped]
    assert [code for code, _ in told] == [sync.OK, sync.FAULT, sync.USAGE, sync.NO_QUEUE, sync.UNSAFE]


# Messages


def texts_of_the_code() -> Iterator[str]:
    """Every text of the code, with … in the place of what is filled in."""
    for path in (*ROOT.glob("*.py"), *(ROOT / "backends").glob("*.py"), *(ROOT / "slurm").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[sd]", "…", node.value)


def pattern(message: str) -> re.Pattern[str]:
    pieces = [piece for piece in message.split("…") if piece.strip(" :;,.()")]
    return re.compile(".*".join(re.escape(piece) for piece in pieces), re.DOTALL)


def test_every_message_of_the_troubleshooting_table_is_one_of_the_code() -> None:
    texts = list(texts_of_the_code())
    messages = [name for row in rows(section("Troubleshooting")) for name in names(row[0])]
    assert len(messages) > 30
    assert [m for m in messages if not any(pattern(m).search(text) for text in texts)] == []


# Files


def test_every_file_that_is_spoken_of_is_there() -> None:
    named = set()
    for text in (README, PORTAL):
        named |= set(re.findall(r"(?<![\w/.-])(?:script|contrib|backends|slurm|tests)/[\w./-]*\w", text))
        named |= set(re.findall(r"(?<![\w/.-])[\w.-]+\.(?:py|md|txt|example)\b|(?<![\w/])LICENSE\b", text))
    named -= {"example_backend.py"}
    assert {"script/demo", "script/test", "contrib/slurm-sync.cron", "requirements.txt", "LICENSE"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def read_unit(name: str) -> Mapping[str, Mapping[str, str]]:
    parser = configparser.RawConfigParser(strict=True, delimiters="=")
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(ROOT / "contrib" / name)
    return parser


def missing_files(text: str) -> list[str]:
    """Those below /opt/slurm-sync that the project does not bring; the virtual environment README makes."""
    below = re.findall(rf"{INSTALLED}(\S+)", text)
    return [name for name in below if not name.startswith(".venv/") and not (ROOT / name).exists()]


def test_the_units_fit_each_other_and_name_files_that_are_there() -> None:
    service, timer = read_unit("slurm-sync.service"), read_unit("slurm-sync.timer")
    assert (ROOT / "contrib" / timer["Timer"]["Unit"]).exists()
    assert (service["Service"]["Type"], timer["Timer"]["OnCalendar"]) == ("oneshot", "minutely")
    assert service["Service"]["ReadWritePaths"] == SECTIONS["Top level"]["state_dir"]
    assert Path(SECTIONS["Top level"]["state_dir"]).name == service["Service"]["StateDirectory"]
    assert int(service["Service"]["TimeoutStartSec"]) > SECTIONS["Top level"]["pass_timeout_s"]
    for name in ("slurm-sync.service", "slurm-sync.timer"):
        assert missing_files((ROOT / "contrib" / name).read_text()) == []


def test_the_cron_line_starts_a_quiet_pass_every_minute() -> None:
    text = (ROOT / "contrib" / "slurm-sync.cron").read_text()
    (line,) = (line for line in text.splitlines() if line and line[0] == "*")
    assert line.startswith("* * * * * root ")
    assert arguments.parse(line.partition("sync.py")[2].split()).quiet
    assert missing_files(line) == []
    assert f"cd {INSTALLED.rstrip('/')} &&" in line


def test_the_version_is_the_same_everywhere() -> None:
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert project
    assert newest
    assert project[1] == newest[1] == arguments.VERSION


# Archive and portal


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What a pass on a recording writes."""
    path = tmp_path / "jobs.db"
    config = {"clustername": "noctua", "state_dir": "state", "slurm": {"recording": str(RECORDING)}}
    (tmp_path / "config.json").write_text(json.dumps(config | {"sqlite": {"path": str(path)}}))
    assert sync.main(["-q", "-c", str(tmp_path / "config.json")]) == 0
    return path


def test_the_views_have_the_columns_that_readme_names(archive: Path) -> None:
    told = {names(row[0])[0]: names(row[2]) for row in rows(section("The job archive"))}
    with closing(sqlite3.connect(archive)) as db:
        views = [name for (name,) in db.execute("select name from sqlite_master where type = 'view'")]
        assert told == {
            view: [column[0] for column in db.execute(f"select * from {view}").description]  # noqa: S608
            for view in sorted(views, key=list(told).index)
        }


def test_the_queries_in_readme_work(archive: Path) -> None:
    queries = re.findall(r'^    sqlite3 \S+jobs\.db "(select .+)"$', README, re.MULTILINE)
    assert len(queries) == 3
    with closing(sqlite3.connect(archive)) as db:
        for query in queries:
            db.execute(query).fetchall()
        assert db.execute(queries[0]).fetchall()


def test_readme_names_every_line_of_slurm_info(archive: Path) -> None:
    with closing(sqlite3.connect(archive)) as db:
        infos = [info for (info,) in db.execute("select info from run")]
    keys = {line.partition("=")[0] for info in infos for line in info.splitlines()}
    assert {"JobId", "UserId", "Command"} <= keys <= set(names(section("What is sent where")))


def portal_fields() -> dict[str, set[str]]:
    """Key → field names, as a pass on the recording writes them."""
    source = Recording(RECORDING, "noctua")
    snapshot = Snapshot("noctua", source.now(), source.read_listing().jobs, source.read_nodes())
    portal = render_portal(snapshot, Groups())
    found = {name: set(values) for name, values in portal.hashes.items()}
    for name, entries in portal.lists.items():
        found[name] = {field for entry in entries for field in json.loads(entry)}
    return found


def test_every_field_of_the_portal_is_described() -> None:
    for name, written in portal_fields().items():
        told = [field for row in rows(section(f"`C_{name}`", PORTAL)) for field in names(row[0])]
        assert sorted(told) == sorted(written), name
