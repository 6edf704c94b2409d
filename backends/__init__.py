"""Which targets there are: the name of a section of the configuration → its class.

A class is imported when its section is there, so the library of a target that nobody configured is never
loaded. What stands in a section is the class's own `Section`; settings.py reads it.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

REGISTRY: dict[str, str] = {
    "cc-backend": "backends.clustercockpit:ClusterCockpit",
    "sqlite": "backends.sqlite_archive:SqliteArchive",
    "redis": "backends.redis_keys:RedisPortal",
}

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
# What a module may raise while it is imported, beside ImportError. A site's own class is not ours to trust.
_BROKEN = (SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, RuntimeError, OSError)


class BackendLoadError(Exception):
    """There is no such class, or it cannot be imported here."""


def backend_class(reference: str, folder: Path | None = None) -> type[Any]:
    """The class that `module:Class` names; the module is looked up on sys.path, then in `folder`.

    Raise BackendLoadError.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise BackendLoadError(f'expected "module:Class", got text "{reference[:40]}"')
    # Appended, not put first: no file of the folder takes the place of a module of ours or of a library.
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    module, name = _import(match[1]), match[2]
    found = getattr(module, name, None)
    if not isinstance(found, type):
        raise BackendLoadError(f"no class {name} in module {match[1]} ({_origin(module)})")
    section = getattr(found, "Section", None)
    if not (isinstance(section, type) and issubclass(section, msgspec.Struct)):
        raise BackendLoadError(f"{reference} is no backend: it has no Section (a msgspec.Struct)")
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise BackendLoadError(f"module {name} not found on sys.path") from error
        raise BackendLoadError(f"module {name} needs {error.name}, which is not installed") from error
    except (ImportError, *_BROKEN) as error:
        raise BackendLoadError(
            f"module {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"
