"""What a pass takes, in figures: `script/bench [-h]`. What it measures is bench_run's."""

import os
import subprocess
import sys
from pathlib import Path

import bootstrap

python = bootstrap.environment(dev=False)
measure = Path(__file__).resolve().with_name("bench_run.py")
command = [str(python), "-B", str(measure), *sys.argv[1:]]
# Its own modules stand in this folder, the measured ones in the one above.
environment = {**os.environ, "PYTHONPATH": str(bootstrap.ROOT)}
sys.exit(subprocess.run(command, env=environment, check=False).returncode)
