"""Plain objects of the configuration → checked records; what does not fit is said in the file's own words.

Knows types, paths, commands and secrets, but no key: the records are settings.py's and the backends'.
"""

from __future__ import annotations

import json
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from backends.base import Secret
from config_text import Fault, join

_Record = TypeVar("_Record", bound=msgspec.Struct)


class Command(str):
    """A program: a path, or a name that is looked up on PATH."""

    __slots__ = ()


_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    tuple: "a list",
    Path: "a path",
    Command: "a command",
    Secret: 'text, {"file": path} or {"env": name}',
    re.Pattern: "a regular expression",
}
_MSGSPEC_WORDS = {kind.__name__: _WORDS[kind] for kind in (str, int, float, bool)}
_MSGSPEC_WORDS |= {"array": "a list", "object": "an object"}


class Decoder:
    """Reads what JSON has no type for: paths, commands, regular expressions, secrets."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder  # relative paths begin here
        self._environ = environ

    def __call__(self, kind: Any, value: Any) -> Any:
        """msgspec's hook. Raise ValueError, to which msgspec adds the path."""
        kind = get_origin(kind) or kind
        if kind is Secret:
            return self._secret(value)
        if not isinstance(value, str) or not value or "\0" in value or kind not in _WORDS:
            raise ValueError(f"expected {words(kind)}, got {say(value)}")
        if kind is re.Pattern:
            return compile_regex(value)
        if kind is Command and "/" not in value:
            return Command(value)
        return kind(self._absolute(value))

    def _absolute(self, text: str) -> Path:
        home = self._environ.get("HOME")
        return self._folder / (home + text[1:] if home and text.startswith("~/") else text)

    def _secret(self, value: Any) -> Secret:
        match value:
            case str():
                text = value
            case {"env": str(name)} if len(value) == 1:
                if name not in self._environ:
                    raise ValueError(f"the variable {name} is not set")
                text = self._environ[name]
            case {"file": str(name)} if len(value) == 1 and name:
                text = _read_secret(self._absolute(name))
            case _:
                # Neither the value nor its keys are shown: they may be the secret itself.
                raise ValueError(f"expected {_WORDS[Secret]}, got {_kind(value)}")
        secret = Secret(text)
        if not secret.value or not secret.value.isprintable():
            raise ValueError("the secret has more than one line" if secret.value else "the secret is empty")
        return secret


def _read_secret(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is no file")
        if mode & 0o077:
            raise ValueError(f"others can read {path} (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
        return path.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise ValueError(f"{path} holds no text") from None


def compile_regex(text: str) -> re.Pattern[str]:
    """Raise ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cron would mail what Python thinks of `[[`, every minute
            return re.compile(text)
    except (re.error, OverflowError, ValueError) as error:
        raise ValueError(f"bad regular expression: {error}") from None


def convert(raw: Any, kind: type[_Record], path: str, decode: Callable[[Any, Any], Any]) -> _Record:
    """The checked record of an object of the file."""
    check_keys(raw, kind, path)
    try:
        return msgspec.convert(raw, kind, strict=True, str_keys=True, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise _explain(str(error), raw, kind, path) from None


def check_keys(raw: Any, kind: type[msgspec.Struct], path: str, beside: Iterable[str] = ()) -> None:
    """Refuse unknown keys, also of records within."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in raw.items():
        if key not in fields and key not in beside:
            raise Fault(join(path, key), f"unknown key{nearest(key, (*fields, *beside))}")
        record = _record_in(fields.get(key))
        if record and isinstance(value, dict):
            check_keys(value, record, join(path, key))


def _explain(error: str, raw: Any, kind: Any, path: str) -> Fault:
    """msgspec's fault in the words of the file: path, what was expected, what stands there."""
    text, _, place = error.partition(" - at `")
    where = place.removeprefix("key` in `").strip("$.`")
    names, full = re.findall(r"\.\.\.|[^.\[\]]+", where), join(path, where)
    if lacks := re.fullmatch("Object missing required field `(.+)`", text):
        wanted = _type_at(kind, [*names, lacks[1]])
        return Fault(join(full, lacks[1]), f"missing; expected {words(wanted)}")
    if get_origin(wanted := _type_at(kind, names)) is Literal:
        text = f"Expected {words(wanted)}"  # msgspec says "Invalid enum value", or only `str`
    if not text.startswith("Expected "):
        return Fault(full, text)  # the words of `decode`, or of a section's own check
    expected, _, got = (re.sub("`([^`]*)`", _translate, part) for part in text.partition(", got "))
    # msgspec's path leaves out the keys of a free object ([...]), so what stands there cannot be shown.
    found = got or "another" if place.startswith("key") or "..." in names else say(_value_at(raw, names))
    return Fault(full, f"e{expected[1:]}, got {found}")


def _translate(quoted: re.Match[str]) -> str:
    return " or ".join(_MSGSPEC_WORDS.get(word, word) for word in quoted[1].split(" | "))


def _record_in(kind: Any) -> type[msgspec.Struct] | None:
    """The record that a value of this type is, perhaps beside None."""
    for found in (kind, *get_args(kind)):
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            return found
    return None


def _type_at(kind: Any, names: Iterable[str]) -> Any:
    for name in names:
        record = _record_in(kind)
        fields = {f.encode_name: f.type for f in msgspec.structs.fields(record)} if record else {}
        inside = [a for a in get_args(kind) if a not in (..., type(None))]
        kind = fields.get(name) or (inside[-1] if inside else None)  # of a dict the values' type
    return kind


def _value_at(raw: Any, names: Iterable[str]) -> Any:
    for name in names:
        raw = raw[int(name)] if isinstance(raw, list) else raw[name]
    return raw


def words(kind: Any) -> str:
    """A type for people."""
    if isinstance(kind, (str, int)):
        return json.dumps(kind)  # a word of a Literal
    plain = get_origin(kind) or kind
    if plain in _WORDS or _record_in(kind):
        return _WORDS.get(plain, "an object")
    arguments = get_args(kind)[:1] if plain is Annotated else get_args(kind)
    return " or ".join(words(a) for a in arguments if a is not type(None)) or "a value"


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a number" if isinstance(value, (int, float)) else _WORDS[type(value)]


def say(value: Any) -> str:
    """What stands in the file, if it is short; nothing that looks like a token or an address with one."""
    if isinstance(value, str) and len(value) <= 40 and "@" not in value:
        return f"text {json.dumps(value, ensure_ascii=False)}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"number {value}"[:60]
    return _kind(value)


def nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    known = list(known)
    close = difflib.get_close_matches(name, known, 1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are {', '.join(known)}"


def show_value(value: object) -> str:
    if isinstance(value, Secret):
        return "***"
    text = json.dumps(msgspec.to_builtins(value, enc_hook=_encode, str_keys=True), ensure_ascii=False)
    # Passwords within URLs.
    return re.sub(r'(?<=//)(?:[^"\\]|\\.)*(?=@)|(?<=password=)[^&"]+', "***", text)


def _encode(value: object) -> str:
    return value.pattern if isinstance(value, re.Pattern) else str(value)


def leaves_of(
    record: msgspec.Struct, path: str, kind: type[msgspec.Struct] | None = None
) -> Iterator[tuple[str, Any]]:
    """All values with their paths."""
    for field in msgspec.structs.fields(kind or type(record)):
        value, where = getattr(record, field.name), join(path, field.encode_name)
        if isinstance(value, msgspec.Struct):
            yield from leaves_of(value, where)
        else:
            yield where, value


def keys_of(document: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """All keys of the file with their values."""
    for key, value in document.items():
        where = join(path, key)
        yield where, value
        if isinstance(value, dict):
            yield from keys_of(value, where)
