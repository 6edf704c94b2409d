"""The text of the configuration, JSON or YAML → plain objects and lists. What they mean is settings.py's."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any


class Fault(Exception):
    """What is wrong at a path of the configuration; `load_settings` puts the file before it."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(f"{path}: {text}" if path else text)


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def read_text(path: Path) -> tuple[str, int]:
    """The text, and the permissions."""
    try:
        with path.open("rb") as file:
            return file.read().decode("utf-8-sig"), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise Fault("", f"cannot be read: {error.strerror}; is the path right? -c names it") from None
    except UnicodeDecodeError as error:
        raise Fault("", f"expected UTF-8 text, got something else at byte {error.start}") from None


def parse_text(text: str, ending: str) -> Any:
    if ending in (".yaml", ".yml"):
        return _parse_yaml(text)
    try:
        return _parse_json(text)
    except Fault as fault:
        if ending == ".json":
            raise
        wrong = fault
    try:
        return _parse_yaml(text)
    except Fault:
        if text.lstrip().startswith("{"):
            raise wrong from None
        raise


class _Twice:
    """Stands where an object has a key more than once."""

    def __init__(self, key: str) -> None:
        self.key = key


def _parse_json(text: str) -> Any:
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise Fault(f"line {error.lineno}, column {error.colno}", f"broken JSON: {error.msg}") from None
    except ValueError as error:
        raise Fault("", f"broken JSON: {error}") from None
    _check_texts(document, "")
    return document


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    names = [name for name, _ in pairs]
    return found if len(found) == len(pairs) else _Twice(next(n for n in names if names.count(n) > 1))


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number here")


def _check_texts(value: Any, path: str) -> None:
    """Refuse what JSON allows and nobody means: a key given twice, half of a surrogate pair."""
    if isinstance(value, _Twice):
        raise Fault(join(path, value.key), "given twice")
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise Fault(path, "expected text, got half of a surrogate pair")
    for key, below in value.items() if isinstance(value, dict) else ():
        _check_texts(key, path)
        _check_texts(below, join(path, key))
    for at, below in enumerate(value if isinstance(value, list) else ()):
        _check_texts(below, f"{path}[{at}]")


def _parse_yaml(text: str) -> Any:
    """Through JSON, so that both have the same types and checks: keys are text, dates are text."""
    try:
        import yaml
    except ImportError:
        raise Fault("", "YAML needs PyYAML, which is not installed; JSON needs nothing") from None

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            names = [key.value for key, _ in node.value]
            for at, (key, _) in enumerate(node.value):
                if key.value in names[:at]:  # YAML itself takes the last one
                    raise yaml.MarkedYAMLError(None, None, f"{key.value} is given twice", key.start_mark)
            return node

    try:
        tree = json.dumps(Loader(text).get_single_data(), default=str, ensure_ascii=False)
    except yaml.MarkedYAMLError as error:
        raise _yaml_fault(error.problem, error.problem_mark) from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
        # SafeLoader's own constructors raise these; their texts quote the value.
        raise Fault("", "broken YAML: a value or key that cannot be read") from None
    return _parse_json(tree)


def _yaml_fault(problem: str | None, mark: Any) -> Fault:
    # The name of an alias or tag is the beginning of a password that was not quoted.
    said = re.sub(r"\b(alias|anchor|tag|handle) .*", r"\1", problem or "", flags=re.DOTALL)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return Fault(where, f"broken YAML: {said}")
