"""Many jobs over a few connections to a cc-backend: in which order, and when the target is given up.

What is sent and what an answer means for a job is clustercockpit.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from typing import TypeVar

from backends.base import Outcome, TargetError
from backends.cc_client import Unanswered
from model import RunKey

GIVEN_UP_AFTER = 3  # jobs in a row without an answer

T = TypeVar("T")


class _Course:
    """What the connections tell each other."""

    def __init__(self) -> None:
        self.error: TargetError | None = None  # no job that has not begun is begun any more
        self.unanswered: list[Outcome] = []
        self._in_a_row = 0
        self._lock = threading.Lock()

    def note_answer(self) -> None:
        with self._lock:
            self._in_a_row = 0

    def note_silence(self, key: RunKey, error: Unanswered) -> None:
        """One job without an answer may be to blame for it; several are not."""
        with self._lock:
            self.unanswered.append(Outcome(key, "failed", str(error), blames_job=error.status >= 500))
            self._in_a_row += 1
            if self._in_a_row >= GIVEN_UP_AFTER:
                self.error = error


def spread(
    work: Iterable[tuple[RunKey, T]], do: Callable[[T], Outcome], connections: int
) -> Iterator[Outcome]:
    """The runs of one job id go one after the other: an older one sent after a newer one would be refused.

    What concerns the target ends it all. Raise TargetError.
    """
    ordered = sorted(work, key=lambda item: (item[0].job_id, item[0].start_time))
    groups = [list(tasks) for _, tasks in groupby(ordered, key=lambda item: item[0].job_id)]
    groups.sort(key=len, reverse=True)
    course = _Course()
    with ThreadPoolExecutor(min(connections, max(1, len(groups)))) as pool:
        futures = [pool.submit(_each, tasks, do, course) for tasks in groups]
        for future in as_completed(futures):
            yield from future.result()
    if course.error is not None:
        raise course.error
    yield from course.unanswered


def _each(tasks: Sequence[tuple[RunKey, T]], do: Callable[[T], Outcome], course: _Course) -> list[Outcome]:
    """Outcomes of what was answered. A job id's later runs wait for the first that was not."""
    done: list[Outcome] = []
    for key, task in tasks:
        if course.error is not None:
            break
        try:
            done.append(do(task))
        except Unanswered as error:
            course.note_silence(key, error)
            break
        except TargetError as error:
            course.error = error
            break
        course.note_answer()
    return done
