"""The command line. Parses only."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

VERSION = "0.1.0"

_JOB = re.compile(r"\d+(?:[_+]\d+)?")
_EXIT_CODES = """\
exit codes:
  0  all done (also when another pass is at work: said, nothing done)
  1  something failed or is held back by a fault, the rest was done
  2  usage or configuration
  3  Slurm's queue could not be read: no job, node or summary was changed
  4  write-offs were refused as unsafe, everything else was done
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Exits with 2 and a line on stderr for what makes no sense."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.json and not args.dry_run:
        parser.error("--json goes with --dry-run")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sync.py",
        description="One pass that keeps ClusterCockpit, a job archive and a status portal true to Slurm.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-c", "--config", type=Path, default=Path("config.json"), metavar="FILE",
        help="JSON or YAML; default config.json in the current folder")  # fmt: skip
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-d", "--debug", action="store_true", help="debug log")
    loud.add_argument("-q", "--quiet", action="store_true", help="only what needs a person")
    add("-j", "--jobid", type=_jobs, default=(), metavar="JOB[,JOB…]",
        help="only these jobs (4711, 4711_3, 4711+1): one test sync; no mark moves")  # fmt: skip
    add("-l", "--limit", type=_limit, metavar="N", help="at most N starts and N stops for each ledger")
    add("--direction", choices=("both", "start", "stop"), default="both", help="only start, or only stop")
    add("--backend", action="append", default=[], metavar="NAME", help="only this configured backend")
    add("--only", type=_parts, default=("jobs", "nodes"), metavar="PART[,PART]",
        help="only these parts: jobs, nodes")  # fmt: skip
    add("--dry-run", action="store_true", help="read everything, print the plan, write nothing anywhere")
    add("--json", action="store_true", help="the plan as one JSON object")
    add("--force", action="store_true", help="apply write-offs that the safety check refuses")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--check", action="store_true", help="is all in order? a line each; writes nothing")
    alone.add_argument("--show-config", action="store_true", help="the effective configuration, masked")
    alone.add_argument("--version", action="version", version=f"slurm-sync {VERSION}")
    return parser


def _jobs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not _JOB.fullmatch(name):
            raise argparse.ArgumentTypeError(f"{name!r} is no job: expected 4711, 4711_3 or 4711+1")
    if not names:
        raise argparse.ArgumentTypeError("expected a job id")
    return names


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: expected 0 or more")
    return int(text)


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in ("jobs", "nodes"):
            raise argparse.ArgumentTypeError(f"{name!r} is no part: expected jobs or nodes")
    return names
