"""The main job on an embedded default: `script/demo [--no-install]`. What it shows is demo_run's."""

import argparse
import subprocess
import sys
from pathlib import Path

import bootstrap

parser = argparse.ArgumentParser(
    prog="script/demo",
    description="Two passes on a throw-away Slurm of three nodes, or on recordings where none can be had.",
)
parser.add_argument("--no-install", action="store_true", help="keep to the programs that are there")
args = parser.parse_args()
why_not = bootstrap.real_parts(may_install=not args.no_install)
python = bootstrap.environment(dev=False)
show = Path(__file__).resolve().with_name("demo_run.py")
sys.exit(subprocess.run([str(python), "-B", str(show), why_not or ""], check=False).returncode)
