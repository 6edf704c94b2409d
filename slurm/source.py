"""What a pass can ask of Slurm; a cluster's commands and a recording answer alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from model import Job, Node, Run
from slurm.accounting import Accounted
from slurm.document import AnswerError
from slurm.wire import ShapeError

T = TypeVar("T")


class SourceError(Exception):
    """Slurm gave no whole answer to this question; nothing may be concluded from it."""


class Listing(msgspec.Struct, frozen=True):
    jobs: tuple[Job, ...]
    read_at: int  # the moment before it was asked for: what ends later is not in it


class Source(Protocol):
    has_accounting: bool

    def now(self) -> int:
        """The present moment, epoch seconds; a recording's is its own."""
        ...

    def read_listing(self) -> Listing:
        """The whole queue. Raise SourceError."""
        ...

    def read_details(self, ids: Collection[int], nodes: Mapping[str, Node]) -> tuple[Run, ...]:
        """The active runs among these jobs. An id that is gone is no error. Raise SourceError."""
        ...

    def read_window(self, since: int, until: int) -> tuple[Accounted, ...]:
        """Pieces of runs that ended within [since, until]. Raise SourceError."""
        ...

    def read_accounted(self, ids: Sequence[int], since: int, until: int) -> tuple[Accounted, ...]:
        """All pieces of the runs of these jobs that ran after `since`. Raise SourceError."""
        ...

    def read_backlog(self) -> int:
        """Records that slurmctld has not yet handed to slurmdbd. Raise SourceError."""
        ...

    def read_nodes(self) -> tuple[Node, ...]:
        """All nodes. Raise SourceError."""
        ...


def parsed(parse: Callable[..., T], *arguments: object) -> T:
    """What a parser makes of an answer; SourceError where it is not whole."""
    try:
        return parse(*arguments)
    except (AnswerError, ShapeError) as error:
        raise SourceError(str(error)) from error
