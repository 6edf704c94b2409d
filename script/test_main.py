"""The tests: `script/test [--no-install] [PYTEST OPTION …]`. Says what it leaves out, and why.

With CI=true nothing is left out, and a test that cannot run is a failure.
"""

import os
import subprocess
import sys

import bootstrap

options = [option for option in sys.argv[1:] if option != "--no-install"]
if "-h" in options or "--help" in options:
    sys.exit(__doc__)
why_not = bootstrap.real_parts(may_install="--no-install" not in sys.argv)
python = bootstrap.environment(dev=True)
if os.environ.get("CI"):
    if why_not:
        sys.exit(f"CI needs the real parts: {why_not}")
else:
    options = ["-m", "not slow", *options]
    print("Left out: tests marked slow, which take minutes (CI=true runs them).", file=sys.stderr)
    if why_not:
        print(f"Skipped: tests on a live Slurm: {why_not}.", file=sys.stderr)
command = [str(python), "-B", "-m", "pytest", *options]
sys.exit(subprocess.run(command, cwd=bootstrap.ROOT, check=False).returncode)
