"""What README's commands need before they can begin: Debian's packages and a virtual environment.

Runs on a plain Python. A second call finds all in place and is quick.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import packages

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv"


def environment(dev: bool) -> Path:
    """The Python of .venv, which holds what requirements.txt (or requirements-dev.txt) names."""
    wanted = ROOT / ("requirements-dev.txt" if dev else "requirements.txt")
    stamp = FOLDER / f".{wanted.name}.sha256"
    python = FOLDER / "bin" / "python"
    texts = b"".join(path.read_bytes() for path in sorted(ROOT.glob("requirements*.txt")))
    digest = hashlib.sha256(texts).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"making {FOLDER.relative_to(ROOT)} from {wanted.name} …", file=sys.stderr)
    if not python.exists():
        _make()
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*command, "-r", str(wanted)], check=False).returncode:
        sys.exit(f"the packages of {wanted.name} could not be installed; is the package index reachable?")
    stamp.write_text(digest)
    return python


def _make() -> None:
    """Debian has Python's venv in a package of its own."""
    try:
        venv.create(FOLDER, with_pip=True)
    except (subprocess.CalledProcessError, ImportError):
        if os.geteuid() != 0:
            sys.exit("python3 -m venv does not work here; install Debian's package python3-venv")
        packages.install(["python3-venv"])
        venv.create(FOLDER, with_pip=True, clear=True)


def real_parts(may_install: bool) -> str | None:
    """Have a real Slurm and Redis at hand. None: they are; else why not, so recordings serve."""
    missing = packages.missing()
    if missing and may_install and packages.refusal() is None:
        print(f"installing {', '.join(missing)}; their services are not started …", file=sys.stderr)
        try:
            packages.install(missing)
        except packages.NotPossible as error:
            return str(error)
        missing = packages.missing()
    reason = packages.slurm_in_use()
    if reason:
        return f"a Slurm is in use here: {reason}"
    if os.geteuid() != 0:
        return "a throw-away Slurm needs root"
    return f"missing: {', '.join(missing)}" if missing else None
