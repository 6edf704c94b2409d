"""ruff check, ruff format --check and mypy --strict: `script/lint`."""

import subprocess
import sys

import bootstrap

CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy", "sync.py", "backends", "slurm", "script", "tests", "contrib"],
)

python = bootstrap.environment(dev=True)
failed = 0
for check in CHECKS:
    print(f"$ {' '.join(check)}", flush=True)
    failed |= subprocess.run([str(python), "-m", *check], cwd=bootstrap.ROOT, check=False).returncode
sys.exit(failed)
