"""The configuration: load it, check it, say what is wrong and what was expected.

Holds the keys that all targets share. A target's section is described by its backend (`Section`); how
accelerators meet hosts is hardware.py's, what is wrong with the world outside of the file is check.py's.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from backends import REGISTRY, BackendLoadError, backend_class
from backends.base import Secret
from config_text import Fault, parse_text, read_text
from config_values import (
    Command,
    Decoder,
    check_keys,
    compile_regex,
    convert,
    keys_of,
    leaves_of,
    nearest,
    say,
    show_value,
)
from slurm.hostlist import expand

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=366 * 86400)]
_Timeout = Annotated[int, msgspec.Meta(ge=1, le=86400)]
_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**30)]


class ConfigError(Exception):
    """The configuration cannot be used. One line: file, path, what was expected."""


class SlurmSettings(msgspec.Struct, frozen=True, kw_only=True):
    squeue: Command = Command("squeue")
    sacct: Command | None = Command("sacct")  # None, `false` in the file: no accounting here
    scontrol: Command = Command("scontrol")
    sinfo: Command = Command("sinfo")
    sdiag: Command = Command("sdiag")
    state_save_location: Path | None = None  # None: there are no job scripts
    recording: Path | None = None  # None: a live Slurm
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 120.0  # for each command


class AcceleratorRule(msgspec.Struct, frozen=True):
    """The accelerators of some hosts."""

    kind: Literal["prefix", "hosts", "regex"]
    pattern: str  # as it stands in the file; host lists and expressions are known to be valid
    ids: dict[int, str]  # Slurm's index → the target's id


class BackendSettings(msgspec.Struct, frozen=True):
    """A target that is on: its checked section, for `backend_class(reference)`."""

    name: str
    reference: str
    section: msgspec.Struct


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    """The keys with plain values."""

    clustername: str
    state_dir: Path
    slurm: SlurmSettings = SlurmSettings()
    node_regex: re.Pattern[str] | None = None  # searched in the compressed node list; None: all jobs
    ignore_hosts: tuple[str, ...] = ()  # names; the file may give host lists
    hwthread_numbering: Literal["interleaved", "blocked"] = "interleaved"
    script: Literal["full", "none"] = "full"
    environment: Literal["none", "redacted", "full"] = "none"
    script_max_bytes: _Bytes = 65536
    environment_max_bytes: _Bytes = 65536
    opt_out: str = "disable_cc_submission"  # a word of the admin comment
    catch_up_max_s: _Seconds = 604800
    orphan_after_s: _Seconds = 86400
    pass_timeout_s: _Timeout = 300
    only_on_active: bool = False


class Settings(_Common, frozen=True, kw_only=True):
    """The whole configuration, checked. Paths within it are absolute."""

    file: Path  # as it was given
    accelerators: tuple[AcceleratorRule, ...] = ()
    backends: tuple[BackendSettings, ...] = ()  # those that are on and asked for, in the file's order
    warnings: tuple[str, ...] = ()  # whole lines
    origin: frozenset[str] = frozenset()  # the paths of all keys that the file gives


_TOP_LEVEL = ("accelerators", *_Common.__struct_fields__)
_EXAMPLE = 'add one, such as "sqlite": {"path": "jobs.db"}'
_BESIDE_SECTION = ("class", "enabled")  # stand in a target's section and are none of its Section's
_HOST_LIST = re.compile(r"(?:[\w.,-]|\[[\d,-]+\])+", re.ASCII)
_CLEAR_TEXT = re.compile(
    r"(?:http|redis)://(?!(?:[^/@]*@)?(?:localhost|127\.[\d.]+|\[::1\])(?:[:/?#]|$))", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"//[^/\s]*:[^/\s]*@|[?&]password=[^&]")


def load_settings(path: Path, *, environ: Mapping[str, str], only_backends: Collection[str] = ()) -> Settings:
    """Read and check the configuration. Raise ConfigError."""
    try:
        text, mode = read_text(path)
        return _Loading(path, mode, environ).settings(parse_text(text, path.suffix.lower()), only_backends)
    except Fault as fault:
        said = str(fault)
    except RecursionError:
        said = "nested too deeply"
    # Outside of the handlers: what led to the fault may hold a secret, and a traceback would show it.
    raise ConfigError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in f"{path}: {said}"))


def show_settings(settings: Settings) -> Iterator[str]:
    """A line for each value in effect and where it comes from. Secrets are masked."""
    values = [(path, show_value(value)) for path, value in leaves_of(settings, "", _Common)]
    values += [(f"accelerators.{r.pattern}", f"{len(r.ids)} ids by {r.kind}") for r in settings.accelerators]
    for backend in settings.backends:
        leaves = ((f"{backend.name}.class", backend.reference), *leaves_of(backend.section, backend.name))
        values += [(path, show_value(value)) for path, value in leaves]
    for path, shown in values:
        shown = "false" if path == "slurm.sacct" and shown == "null" else shown
        yield f"{path} = {shown}   # {'file' if path in settings.origin else 'default'}"


class _Loading:
    """One load: the file, its folder and the environment, from which values are read."""

    def __init__(self, path: Path, mode: int, environ: Mapping[str, str]) -> None:
        self.path, self.mode, self.environ = path, mode, environ
        self.folder = path.absolute().parent
        self.decode = Decoder(self.folder, environ)

    def settings(self, document: Any, only: Collection[str]) -> Settings:
        common, sections = _split(document)
        rules = tuple(_accelerator_rules(common.pop("accelerators", {})))
        if "state_dir" not in common:
            common["state_dir"] = self._default_state_dir()
        plain = convert(_without_accounting(common), _Common, "", self.decode)
        _check_name(plain.clustername)
        names = _wanted(sections, only)
        backends = [b for name, raw in sections.items() if (b := self._backend(name, raw, name in names))]
        values = msgspec.structs.asdict(plain) | {"ignore_hosts": _ignored(plain.ignore_hosts)}
        return Settings(
            **values,
            file=self.path,
            accelerators=rules,
            backends=tuple(backends),
            warnings=tuple(w for b in backends for w in self._warnings(b, sections[b.name])),
            origin=frozenset(path for path, _ in keys_of(document, "")),
        )

    def _default_state_dir(self) -> str:
        if os.geteuid() == 0:
            return "/var/lib/slurm-sync"
        home, state_home = self.environ.get("HOME"), self.environ.get("XDG_STATE_HOME", "")
        if not state_home.startswith("/"):  # a relative one is to be ignored, says its specification
            state_home = f"{home}/.local/state" if home else ""
        if not state_home:
            raise Fault("state_dir", "missing; expected a path (neither XDG_STATE_HOME nor HOME is set)")
        return f"{state_home}/slurm-sync"

    def _backend(self, name: str, raw: dict[str, Any], wanted: bool) -> BackendSettings | None:
        """None for a target that is off: its keys are checked, its values and secrets are not read."""
        reference = raw.get("class", REGISTRY.get(name))
        if not isinstance(reference, str):
            raise Fault(f"{name}.class", f'expected "module:Class", got {say(reference)}')
        try:
            kind = backend_class(reference, self.folder if "class" in raw else None).Section
        except BackendLoadError as error:
            if not wanted:
                return None  # perhaps its library is not installed here
            raise Fault(f"{name}.class" if "class" in raw else name, str(error)) from None
        check_keys(raw, kind, name, _BESIDE_SECTION)
        if not wanted:
            return None
        keys = {key: value for key, value in raw.items() if key not in _BESIDE_SECTION}
        return BackendSettings(name, reference, convert(keys, kind, name, self.decode))

    def _warnings(self, backend: BackendSettings, raw: dict[str, Any]) -> Iterator[str]:
        leaves = dict(leaves_of(backend.section, backend.name))
        has_secret = any(isinstance(value, Secret) for value in leaves.values())
        given = dict(keys_of(raw, backend.name))
        for path, value in leaves.items():
            text = value if isinstance(value, str) else ""
            inline = isinstance(value, Secret) and isinstance(given.get(path), str)
            if self.mode & 0o077 and (inline or _URL_PASSWORD.search(text)):
                mode = f"mode {stat.S_IMODE(self.mode):04o}"
                yield f"{self.path}: {path}: an inline secret, and others can read this file ({mode})"
            if has_secret and _CLEAR_TEXT.match(text):
                yield f"{self.path}: {path}: a secret crosses the network in clear text; use https://"


def _split(document: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The keys that all targets share, and the targets' sections."""
    if not isinstance(document, dict):
        raise Fault("", f"expected an object, got {say(document)}")
    common = {key: value for key, value in document.items() if key in _TOP_LEVEL}
    sections = {key: value for key, value in document.items() if key not in common}
    for name, raw in sections.items():
        if name not in REGISTRY and not (isinstance(raw, dict) and "class" in raw):
            hint = nearest(name, (*_TOP_LEVEL, *REGISTRY))
            if isinstance(raw, dict) and not hint.endswith("?"):
                hint += '; a target of your own has "class": "module:Class"'
            raise Fault(name, f"unknown key{hint}")
        if not isinstance(raw, dict):
            raise Fault(name, f"expected an object, got {say(raw)}")
        if not isinstance(raw.get("enabled", True), bool):
            raise Fault(f"{name}.enabled", f"expected true or false, got {say(raw['enabled'])}")
    return common, sections


def _wanted(sections: Mapping[str, Mapping[str, Any]], only: Collection[str]) -> Collection[str]:
    enabled = [name for name, raw in sections.items() if raw.get("enabled", True)]
    if not enabled:
        remedy = f'take "enabled": false out of {" or ".join(sections)}' if sections else _EXAMPLE
        raise Fault("", f"no target is on; {remedy}")
    for name in only:
        if name not in enabled:
            raise Fault("", f"--backend {name}: no such target; configured: {', '.join(enabled)}")
    return only or enabled


def _without_accounting(common: dict[str, Any]) -> dict[str, Any]:
    """`"sacct": false` as None; an empty place (YAML's `sacct:`) must not turn accounting off unseen."""
    slurm = common.get("slurm")
    if not isinstance(slurm, dict) or "sacct" not in slurm:
        return common
    if slurm["sacct"] is None:
        raise Fault("slurm.sacct", "expected a command or false, got null")
    return {**common, "slurm": {**slurm, "sacct": None if slurm["sacct"] is False else slurm["sacct"]}}


def _check_name(name: str) -> None:
    """It names the state file and the lock."""
    if not re.fullmatch(r"[^/.][^/]*", name) or not name.isprintable() or len(name.encode()) > 200:
        wanted = 'expected a name without "/", control characters or a leading dot'
        raise Fault("clustername", f"{wanted}, got {say(name)}")


def _ignored(hosts: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for at, text in enumerate(hosts) for name in _expand(text, f"ignore_hosts[{at}]"))


def _expand(text: str, path: str, otherwise: str = "") -> tuple[str, ...]:
    try:
        if _HOST_LIST.fullmatch(text):
            return expand(text)
    except ValueError:
        pass  # the reason is a detail of the same fault
    raise Fault(path, f"expected a host list such as n[01-16]{otherwise}, got {say(text)}")


def _accelerator_rules(raw: Any) -> Iterator[AcceleratorRule]:
    if not isinstance(raw, dict):
        raise Fault("accelerators", f"expected an object, got {say(raw)}")
    for pattern, ids in raw.items():
        path = f"accelerators.{pattern}"
        yield AcceleratorRule(_rule_kind(pattern, path), pattern, _accelerator_ids(ids, path))


def _rule_kind(pattern: str, path: str) -> Literal["prefix", "hosts", "regex"]:
    if pattern.startswith("^"):
        try:
            compile_regex(pattern)
        except ValueError as error:
            raise Fault(path, str(error)) from None
        return "regex"
    if "[" in pattern or "," in pattern:  # no host's name has these, so it can be no prefix
        _expand(pattern, path, " or a regular expression that begins with ^")
        return "hosts"
    return "prefix"


def _accelerator_ids(raw: Any, path: str) -> dict[int, str]:
    if not isinstance(raw, (dict, list)):
        raise Fault(path, f"expected an object of index and id, or a list of ids, got {say(raw)}")
    ids: dict[int, str] = {}
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        index = int(key) if re.fullmatch(r"\d{1,4}", str(key), re.ASCII) else None
        if index is None or index in ids:
            raise Fault(f"{path}.{key}", "expected an index of its own (0, 1, …) as key")
        if not isinstance(value, str) or not value:  # YAML takes 00000000:03:00.0 for a number
            raise Fault(f"{path}.{key}", f"expected an id in quotes, got {say(value)}")
        ids[index] = value
    return ids
