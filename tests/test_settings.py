"""The configuration: what it means, and every way in which it can be wrong, word for word."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import REGISTRY, BackendLoadError, backend_class
from backends.base import Secret
from settings import AcceleratorRule, ConfigError, Settings, load_settings, show_settings


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ca_file: Path | None = None


class TargetSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    apikey: Secret | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    layout: Literal["list", "hash"] = "list"
    tls: Tls = Tls()
    groups: dict[str, int] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.host == "nowhere":
            raise ValueError("host: expected somewhere")


class Target:
    Section: ClassVar[type[msgspec.Struct]] = TargetSection


TARGET = {"class": "test_settings:Target", "host": "https://cc.example.org", "apikey": "geheim"}
BASE: dict[str, Any] = {"clustername": "noctua", "target": TARGET}
PEER = r"""{
	"clustername" : "noctua2",
	"slurm" : {
		"squeue": "/usr/bin/squeue",
		"sacct": "/usr/bin/sacct",
		"scontrol": "/usr/bin/scontrol",
		"state_save_location" : "/var/spool/SLURM/StateSaveLocation"
	},
	"cc-backend" : {"host" : "https://some.cc.instance", "apikey" : "a.jwt.token"},
	"accelerators" : {
		"n2gpu" : {"0": "00000000:03:00.0", "1": "00000000:44:00.0"},
		"n2dgx" : {"0": "00000000:07:00.0"}
	},
	"node_regex" : "^(n2(lcn|cn|fpga|gpu)[\\d{2,4}\\,\\-\\[\\]]+)+$"
}
"""

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a document, or text as it is, from a file that only we can read."""

    def _load(document: Any, name: str = "config.json", mode: int = 0o600, **more: Any) -> Settings:
        path = tmp_path / name
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        path.chmod(mode)
        return load_settings(path, **({"environ": {"HOME": "/home/slurm"}} | more))

    return _load


@pytest.fixture
def fault(load: Load, tmp_path: Path) -> Callable[..., str]:
    """The one line that loading ends with, without the folder's name."""

    def _fault(document: Any, **more: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            load(document, **more)
        assert caught.value.__context__ is None, "a traceback would show what the fault came from"
        return str(caught.value).replace(f"{tmp_path}/", "")

    return _fault


def with_target(**keys: Any) -> dict[str, Any]:
    return BASE | {"target": TARGET | keys}


def test_a_short_configuration_gets_all_defaults(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    loaded = load(BASE)
    assert loaded.state_dir == Path("/home/slurm/.local/state/slurm-sync")
    assert (loaded.slurm.squeue, loaded.slurm.sacct, loaded.slurm.timeout_s) == ("squeue", "sacct", 120.0)
    assert (loaded.script, loaded.environment, loaded.opt_out) == ("full", "none", "disable_cc_submission")
    assert (loaded.catch_up_max_s, loaded.orphan_after_s, loaded.pass_timeout_s) == (604800, 86400, 300)
    assert (loaded.node_regex, loaded.accelerators, loaded.warnings) == (None, (), ())
    assert [(b.name, b.reference) for b in loaded.backends] == [("target", "test_settings:Target")]


def test_the_state_folder_depends_on_who_runs_it(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load(BASE).state_dir == Path("/var/lib/slurm-sync")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert load(BASE, environ={"XDG_STATE_HOME": "/x"}).state_dir == Path("/x/slurm-sync")
    with pytest.raises(ConfigError, match="state_dir: missing; expected a path"):
        load(BASE, environ={"XDG_STATE_HOME": "relative"})
    assert load(BASE | {"state_dir": "~/state"}).state_dir == Path("/home/slurm/state")


def test_the_configuration_of_cc_slurm_sync_keeps_its_meaning(load: Load) -> None:
    loaded = load(PEER.encode())
    assert loaded.clustername == "noctua2"
    assert loaded.slurm.state_save_location == Path("/var/spool/SLURM/StateSaveLocation")
    assert loaded.slurm.scontrol == "/usr/bin/scontrol"
    assert loaded.node_regex is not None
    assert loaded.node_regex.search("n2cn[0001-0004]")
    assert not loaded.node_regex.search("login1")
    assert loaded.accelerators[0] == AcceleratorRule(
        "prefix", "n2gpu", {0: "00000000:03:00.0", 1: "00000000:44:00.0"}
    )
    assert [(b.name, b.reference) for b in loaded.backends] == [("cc-backend", REGISTRY["cc-backend"])]
    lines = list(show_settings(loaded))
    assert 'cc-backend.host = "https://some.cc.instance"   # file' in lines
    assert "cc-backend.apikey = ***   # file" in lines


def test_accelerators_are_by_prefix_host_list_or_regular_expression(load: Load) -> None:
    rules = {"gpu": ["a", "b"], "n[01-03,7]": {"10": "c"}, "x1,x2": [], "^a(b|c)[0-9]+$": {"0": "d"}}
    kinds = [(r.kind, r.ids) for r in load(BASE | {"accelerators": rules}).accelerators]
    assert kinds == [("prefix", {0: "a", 1: "b"}), ("hosts", {10: "c"}), ("hosts", {}), ("regex", {0: "d"})]


def test_relative_paths_begin_at_the_configuration(load: Load, tmp_path: Path) -> None:
    slurm = {"recording": "rec", "squeue": "bin/squeue", "sinfo": "sinfo", "state_save_location": "/abs"}
    loaded = load(with_target(tls={"ca_file": "ca.pem"}) | {"slurm": slurm, "state_dir": "state"})
    assert (loaded.state_dir, loaded.slurm.recording) == (tmp_path / "state", tmp_path / "rec")
    assert (loaded.slurm.squeue, loaded.slurm.sinfo) == (f"{tmp_path}/bin/squeue", "sinfo")
    assert loaded.slurm.state_save_location == Path("/abs")
    assert loaded.backends[0].section.tls.ca_file == tmp_path / "ca.pem"  # type: ignore[attr-defined]


def test_accounting_is_turned_off_by_false_alone(load: Load, fault: Callable[..., str]) -> None:
    loaded = load(BASE | {"slurm": {"sacct": False}})
    assert loaded.slurm.sacct is None
    assert "slurm.sacct = false   # file" in show_settings(loaded)
    wrong = "config.json: slurm.sacct: expected a command"
    assert fault(BASE | {"slurm": {"sacct": None}}) == f"{wrong} or false, got null"
    assert fault(BASE | {"slurm": {"sacct": True}}) == f"{wrong}, got true"


def test_host_lists_to_ignore_become_names(load: Load) -> None:
    assert load(BASE | {"ignore_hosts": ["n[08-10]", "login"]}).ignore_hosts == ("n08", "n09", "n10", "login")


@pytest.mark.parametrize("name", ["config.yaml", "config.YML", "slurm-sync.conf"])
def test_yaml_says_the_same_as_json(load: Load, name: str) -> None:
    yaml = f"clustername: noctua\ntarget: {json.dumps(TARGET)}\naccelerators:\n  gpu: {{0: 'a', 1: 'b'}}\n"
    loaded = load(yaml.encode(), name=name)
    assert (loaded.clustername, loaded.accelerators[0].ids) == ("noctua", {0: "a", 1: "b"})
    assert load(BASE, name=name).clustername == "noctua"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"clustername": "x"}, 'no target is on; add one, such as "sqlite": {"path": "jobs.db"}'),
        ([], "expected an object, got a list"),
        ({"target": TARGET}, "clustername: missing; expected text"),
        (BASE | {"clustrname": "x"}, 'clustrname: unknown key; did you mean "clustername"?'),
        (BASE | {"reddis": {}}, 'reddis: unknown key; did you mean "redis"?'),
        (BASE | {"redis": "x"}, 'redis: expected an object, got text "x"'),
        (BASE | {"slurm": []}, "slurm: expected an object, got a list"),
        (BASE | {"slurm": {"timeout_s": "x"}}, 'slurm.timeout_s: expected a number, got text "x"'),
        (BASE | {"slurm": {"timeout_s": 0}}, "slurm.timeout_s: expected a number > 0.0, got number 0"),
        (BASE | {"slurm": {"sqeue": "x"}}, 'slurm.sqeue: unknown key; did you mean "squeue"?'),
        (BASE | {"slurm": {"squeue": ""}}, 'slurm.squeue: expected a command, got text ""'),
        (BASE | {"catch_up_max_s": 1.5}, "catch_up_max_s: expected a whole number, got number 1.5"),
        (BASE | {"only_on_active": "yes"}, 'only_on_active: expected true or false, got text "yes"'),
        (BASE | {"script": "ful"}, 'script: expected "full" or "none", got text "ful"'),
        (BASE | {"ignore_hosts": [5]}, "ignore_hosts[0]: expected text, got number 5"),
        (
            BASE | {"ignore_hosts": ["n["]},
            'ignore_hosts[0]: expected a host list such as n[01-16], got text "n["',
        ),
        (BASE | {"state_dir": "a\0b"}, 'state_dir: expected a path, got text "a\\u0000b"'),
        (
            BASE | {"node_regex": "n(["},
            "node_regex: bad regular expression: unterminated character set at position 2",
        ),
        (BASE | {"accelerators": []}, "accelerators: expected an object, got a list"),
        (
            BASE | {"accelerators": {"gpu": "a"}},
            'accelerators.gpu: expected an object of index and id, or a list of ids, got text "a"',
        ),
        (
            BASE | {"accelerators": {"gpu": {"x": "a"}}},
            "accelerators.gpu.x: expected an index of its own (0, 1, …) as key",
        ),
        (
            BASE | {"accelerators": {"gpu": {"0": "a", "00": "b"}}},
            "accelerators.gpu.00: expected an index of its own (0, 1, …) as key",
        ),
        (
            BASE | {"accelerators": {"gpu": [3.5]}},
            "accelerators.gpu.0: expected an id in quotes, got number 3.5",
        ),
        (
            BASE | {"accelerators": {"gpu[0-9]+": []}},
            "accelerators.gpu[0-9]+: expected a host list such as n[01-16] or a regular expression that"
            ' begins with ^, got text "gpu[0-9]+"',
        ),
        (
            BASE | {"accelerators": {"^(": []}},
            "accelerators.^(: bad regular expression: missing ), unterminated subpattern at position 1",
        ),
        (BASE | {"a\nb": [{"x\ud800": 1}]}, "a\\nb[0]: expected text, got half of a surrogate pair"),
        (with_target(hots="x"), 'target.hots: unknown key; did you mean "host"?'),
        (with_target(enabeld=False), 'target.enabeld: unknown key; did you mean "enabled"?'),
        (with_target(tls={"ca": "x"}), "target.tls.ca: unknown key; known are ca_file"),
        (with_target(enabled="no"), 'target.enabled: expected true or false, got text "no"'),
        (with_target(enabled=False), 'no target is on; take "enabled": false out of target'),
        (with_target(host="nowhere"), "target: host: expected somewhere"),
        (with_target(groups={"a": "b"}), "target.groups[...]: expected a whole number, got text"),
        (with_target(layout=5), 'target.layout: expected "list" or "hash", got number 5'),
        (BASE | {"target": {"class": "test_settings:Target"}}, "target.host: missing; expected text"),
        (with_target(**{"class": 5}), 'target.class: expected "module:Class", got number 5'),
        (with_target(**{"class": "os"}), 'target.class: expected "module:Class", got text "os"'),
        (with_target(**{"class": "no.such:X"}), "target.class: module no.such not found on sys.path"),
    ],
)
def test_a_fault_names_path_expectation_and_finding(
    fault: Callable[..., str], document: Any, said: str
) -> None:
    assert fault(document) == f"config.json: {said}"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\tb", "x" * 201])
def test_a_cluster_name_must_serve_as_a_file_name(fault: Callable[..., str], name: str) -> None:
    wanted = 'clustername: expected a name without "/", control characters or a leading dot, got text'
    assert fault(BASE | {"clustername": name}).startswith(f"config.json: {wanted}")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.json", b'{"a": 1,\n  "b" 2}', "line 2, column 7: broken JSON: Expecting ':' delimiter"),
        ("c.json", b'{"a": {"b": 1, "b": 2}}', "a.b: given twice"),
        ("c.json", b'{"a": NaN}', "broken JSON: NaN is no number here"),
        ("c.json", b"[" * 100_000, "nested too deeply"),
        ("c.json", b"a: 1", "line 1, column 1: broken JSON: Expecting value"),
        ("c.json", b'"\xff"', "expected UTF-8 text, got something else at byte 1"),
        (
            "c.yaml",
            b"a: 1\nb: [1",
            "line 2, column 6: broken YAML: expected ',' or ']', but got '<stream end>'",
        ),
        ("c.yaml", b"a: 1\nb: 2\na: 3", "line 3, column 1: broken YAML: a is given twice"),
        ("c.yaml", b"", "expected an object, got null"),
        ("c.yaml", b"a: *geheim", "line 1, column 4: broken YAML: found undefined alias"),
        (
            "c.yaml",
            b"a: !geheim b",
            "line 1, column 4: broken YAML: could not determine a constructor for the tag",
        ),
        ("c.yaml", b"a: !!int geheim", "broken YAML: a value or key that cannot be read"),
        ("c.yaml", b"a: &x [*x]", "broken YAML: a value or key that cannot be read"),
        (
            "c.yaml",
            b"accelerators: {gpu: {0: 00000000:03:00.0}}",  # YAML 1.1 counts in sixties
            "accelerators.gpu.0: expected an id in quotes, got number 180.0",
        ),
        ("c.conf", b'{"a": 1 ]\n\t', "line 1, column 9: broken JSON: Expecting ',' delimiter"),
        ("c.conf", b"a: b: c", "line 1, column 5: broken YAML: mapping values are not allowed here"),
    ],
)
def test_broken_text_is_shown_with_its_place(
    fault: Callable[..., str], name: str, text: bytes, said: str
) -> None:
    assert fault(text, name=name) == f"{name}: {said}"


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    for name, why in (("none.json", "No such file or directory"), ("", "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load_settings(tmp_path / name, environ={})
        assert (
            str(caught.value) == f"{tmp_path / name}: cannot be read: {why}; is the path right? -c names it"
        )


def test_a_secret_comes_from_text_a_file_or_a_variable(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" a.jwt.token\n")
    (tmp_path / "token").chmod(0o400)
    for given_as in (" a.jwt.token ", {"file": "token"}, {"env": "TOKEN"}):
        loaded = load(with_target(apikey=given_as), environ={"TOKEN": "a.jwt.token\n", "HOME": "/"})
        section = loaded.backends[0].section
        assert isinstance(section, TargetSection)
        assert section.apikey is not None
        assert section.apikey.value == "a.jwt.token"
        assert "a.jwt.token" not in repr(loaded) + "".join(show_settings(loaded))


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (" \n", "the secret is empty"),
        ("ge\nheim", "the secret has more than one line"),
        (4711, 'expected text, {"file": path} or {"env": name}, got a number'),
        ({"geheim": 1}, 'expected text, {"file": path} or {"env": name}, got an object'),
        ({"file": "a", "env": "b"}, 'expected text, {"file": path} or {"env": name}, got an object'),
        ({"env": "UNSET"}, "the variable UNSET is not set"),
        ({"env": "EMPTY"}, "the secret is empty"),
        ({"file": "missing"}, "missing cannot be read: No such file or directory"),
        ({"file": "open"}, "others can read open (mode 0640); chmod 600 it"),
        ({"file": "/dev/zero"}, "/dev/zero is no file"),
        ({"file": "binary"}, "binary holds no text"),
    ],
)
def test_a_secret_that_cannot_serve_is_a_fault_that_does_not_show_it(
    fault: Callable[..., str], tmp_path: Path, secret: object, said: str
) -> None:
    for name, content, mode in (("open", b"geheim", 0o640), ("binary", b"\xff", 0o600)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    message = fault(with_target(apikey=secret), environ={"EMPTY": "", "HOME": "/"})
    assert message == f"config.json: target.apikey: {said}"


def test_an_inline_secret_that_others_can_read_is_warned_about(load: Load, tmp_path: Path) -> None:
    where = f"{tmp_path}/config.json: target"
    said = "an inline secret, and others can read this file (mode 0644)"
    assert load(BASE, mode=0o644).warnings == (f"{where}.apikey: {said}",)
    assert load(with_target(apikey={"env": "HOME"}), mode=0o644).warnings == ()
    url = with_target(apikey=None, host="redis://:geheim@h")
    assert load(url, mode=0o644).warnings == (f"{where}.host: {said}",)


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://cc.example.org", True),
        ("HTTP://127.evil.org:80", True),
        ("http://localhost@evil.org", True),
        ("http://localhost:8080/x", False),
        ("http://127.0.0.1", False),
        ("http://[::1]:8080", False),
        ("https://cc.example.org", False),
    ],
)
def test_a_secret_in_clear_text_to_another_host_is_warned_about(load: Load, host: str, warned: bool) -> None:
    warnings = load(with_target(host=host)).warnings
    assert [w.partition(": ")[2] for w in warnings] == [
        "target.host: a secret crosses the network in clear text; use https://"
    ] * warned
    assert load(with_target(host=host, apikey=None)).warnings == ()


def test_only_the_targets_that_are_on_and_asked_for_are_given(load: Load, fault: Callable[..., str]) -> None:
    unread = TARGET | {"apikey": {"env": "UNSET"}}
    document = BASE | {"b": unread | {"enabled": False}, "a": TARGET | {"enabled": True}}
    assert [b.name for b in load(document).backends] == ["target", "a"]
    assert [b.name for b in load(document | {"target": unread}, only_backends=["a"]).backends] == ["a"]
    said = "config.json: --backend b: no such target; configured: target, a"
    assert fault(document, only_backends=["a", "b"]) == said


def test_a_target_that_is_off_still_may_have_no_unknown_keys(load: Load, fault: Callable[..., str]) -> None:
    off = {"enabled": False, "class": "test_settings:Target", "hots": 1}
    assert fault(BASE | {"off": off}) == 'config.json: off.hots: unknown key; did you mean "host"?'
    assert len(load(BASE | {"off": off | {"class": "not_installed:Target"}}).backends) == 1


def test_a_site_plugs_in_a_class_that_lies_beside_the_configuration(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = "import msgspec\nclass Mine:\n    class Section(msgspec.Struct):\n        colour: str\n"
    (tmp_path / "site_target.py").write_text(source)
    loaded = load({"clustername": "x", "mine": {"class": "site_target:Mine", "colour": "red"}})
    assert loaded.backends[0].name == "mine"
    assert type(loaded.backends[0].section) is backend_class("site_target:Mine").Section


@pytest.mark.parametrize(
    ("reference", "source", "said"),
    [
        ("broken_one:X", "1 +", "module broken_one cannot be imported: SyntaxError: "),
        ("broken_two:X", "import no_such_library", "module broken_two needs no_such_library, which is not"),
        ("empty_one:X", "", "no class X in module empty_one ("),
        (
            "sectionless:X",
            "class X: pass",
            "sectionless:X is no backend: it has no Section (a msgspec.Struct)",
        ),
    ],
)
def test_a_class_that_cannot_be_loaded_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, source: str, said: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / f"{reference.partition(':')[0]}.py").write_text(source)
    with pytest.raises(BackendLoadError) as caught:
        backend_class(reference, tmp_path)
    assert str(caught.value).startswith(said)


def test_the_registered_targets_take_their_sections(load: Load, fault: Callable[..., str]) -> None:
    document: dict[str, Any] = {
        "clustername": "noctua",
        "sqlite": {"path": "jobs.db"},
        "redis": {"url": "redis://localhost", "password": {"env": "HOME"}},
    }
    assert [b.name for b in load(document).backends] == ["sqlite", "redis"]
    document["redis"]["pasword"] = document["redis"].pop("password")
    assert fault(document) == 'config.json: redis.pasword: unknown key; did you mean "password"?'


@pytest.mark.parametrize("name", REGISTRY)
def test_every_registered_target_has_a_strict_section(name: str) -> None:
    config = backend_class(REGISTRY[name]).Section.__struct_config__
    assert (config.frozen, config.forbid_unknown_fields) == (True, True)


def test_the_effective_configuration_shows_origins_and_no_secret(load: Load) -> None:
    slurm = {"recording": "/rec"}
    extra = {"accelerators": {"gpu": ["a", "b"]}, "slurm": slurm, "node_regex": "^n", "state_dir": "/s"}
    lines = list(show_settings(load(with_target(host="redis://:geheim@h", groups={"a": 1}) | extra)))
    for line in (
        'clustername = "noctua"   # file',
        'state_dir = "/s"   # file',
        'slurm.squeue = "squeue"   # default',
        'slurm.recording = "/rec"   # file',
        'node_regex = "^n"   # file',
        "accelerators.gpu = 2 ids by prefix   # file",
        'target.class = "test_settings:Target"   # file',
        'target.host = "redis://***@h"   # file',
        "target.apikey = ***   # file",
        "target.tls.ca_file = null   # default",
        'target.groups = {"a": 1}   # file',
    ):
        assert line in lines
    assert "geheim" not in "".join(lines)


def test_loading_json_imports_neither_yaml_nor_difflib(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"clustername": "x", "t": {"class": "sys:version"}}))
    code = (
        "import sys, pathlib, settings\n"
        "try: settings.load_settings(pathlib.Path(sys.argv[1]), environ={'HOME': '/'})\n"
        "except settings.ConfigError as error: assert 'no class version' in str(error), error\n"
        "sys.exit(str({'yaml', 'difflib', 'requests', 'redis', 'sqlite3'} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "c.json")]
    root = Path(__file__).parent.parent
    assert subprocess.run(run, cwd=root, capture_output=True, text=True).stderr == "set()\n"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=10)
KNOWN = ["clustername", "state_dir", "slurm", "node_regex", "ignore_hosts", "accelerators", "script", "pue"]
SECTION = st.dictionaries(st.sampled_from([*TARGET, "enabled", "tls", "groups", "timeout_s"]), ANYTHING)


@given(
    st.dictionaries(st.sampled_from([*KNOWN, *REGISTRY]) | st.text(), ANYTHING),
    SECTION,
    st.sampled_from([".json", ".yaml", ""]),
)
@settings(max_examples=300, deadline=None)
def test_no_document_ends_in_anything_but_settings_or_a_fault(
    document: Mapping[str, Any], section: Mapping[str, Any], ending: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"config{ending}")
        whole = BASE | {"target": TARGET | dict(section)} | dict(document)
        path.write_text(json.dumps(whole))
        try:
            assert load_settings(path, environ={"HOME": "/"}).clustername
        except ConfigError as error:
            assert str(error).startswith(str(path))
            assert "\n" not in str(error)


@given(st.binary() | st.text().map(str.encode), st.sampled_from([".json", ".yaml", ""]))
@settings(max_examples=300, deadline=None)
def test_no_text_ends_in_anything_but_a_fault(text: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"config{ending}")
        path.write_bytes(text)
        with pytest.raises(ConfigError):
            load_settings(path, environ={"HOME": "/"})
