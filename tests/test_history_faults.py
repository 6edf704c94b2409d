"""Parts of a pass fail: what depends on them waits, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_ledger
import pytest
from fake_ledger import FakeLedger, LedgerSection
from histories import History

import asking
import plan
import remember
import sync
from backends.base import Deadline, Facts, TargetError
from memory import BackendMemory, Memory, Refusal, StateError, Watched, load, save
from model import Placement, Run, RunKey, Snapshot
from plan import Selection
from survey import View

pytest_plugins = ["history_fixtures"]

T = 1_700_000_000


class PageLedger(FakeLedger):
    """A ledger whose page is refused."""

    Section = LedgerSection

    def publish(self, snapshot: Snapshot, deadline: Deadline) -> str:
        raise TargetError("node states are refused (500)")

    def interval_s(self) -> int | None:
        return 300


def test_a_page_that_is_refused_holds_back_no_jobs_mark(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_ledger, "PageLedger", PageLedger, raising=False)
    history.document["books"]["class"] = "fake_ledger:PageLedger"
    history.slurm.run()
    assert history.sync() == sync.FAULT
    for _ in range(48):
        history.sync(after_s=3600)
    short = history.slurm.flash()
    assert history.sync(after_s=60) == sync.FAULT
    assert short in history.ledger.endings()
    assert history.part().mark == history.slurm.now() - 1


def test_the_first_look_back_does_not_creep_while_passes_are_not_whole(history: History) -> None:
    history.slurm.accounting = "fails"
    history.sync()
    short = history.slurm.flash()
    for _ in range(30):
        history.sync(after_s=60)
    history.slurm.accounting = "on"
    assert history.sync(after_s=60) == sync.OK
    assert short in history.ledger.endings()


def test_what_accounting_tells_is_evidence_without_sdiag(history: History) -> None:
    run = history.slurm.run()
    history.sync()
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.slurm.broken.add("backlog")
    assert history.sync(after_s=60) == sync.FAULT
    assert run in history.ledger.endings()


def key(number: int, start: int) -> RunKey:
    return RunKey("noctua", number, start)


def target(**known: Any) -> Any:
    return SimpleNamespace(**{"known": {}, "missing": [], "retries": [], "part": BackendMemory(), **known})


def test_a_ledger_that_takes_nothing_starves_no_other_of_details() -> None:
    old = [key(n, 1000 + n) for n in range(3000)]
    new = [key(9000 + n, 9000 + n) for n in range(5)]
    ledger: Any = SimpleNamespace(holds_changes=False)
    ledgers = [(target(wanted=old + new), ledger), (target(wanted=new), ledger)]
    ids = asking.ids_for_details(ledgers, View("noctua", 1), Selection())
    assert {k.job_id for k in new} <= ids
    assert len(ids) == asking.DETAILS_A_PASS


def test_runs_that_are_tried_again_do_not_keep_held_ones_from_being_asked_for() -> None:
    held, again = key(99_999, 2000), [key(n, 1000 + n) for n in range(600)]
    ledger: Any = None
    ledgers = [(target(missing=[held], retries=again), ledger)]
    asked = [asking.runs_for_accounting(ledgers, Selection(), minute * 60) for minute in range(6)]
    assert all(keys[0] == held for keys in asked)
    assert {k for keys in asked for k in keys} == {held, *again}


def test_write_offs_that_ripen_in_turn_are_guarded_by_all_that_are_on_their_way() -> None:
    lost = [key(n, T) for n in range(3000)]
    part = BackendMemory()
    for n, one in enumerate(lost):
        ripe = n < 500
        part.watched[str(one)] = Watched(T, missing_s=86_400 if ripe else 80_000)
    view = View("noctua", T)
    view.active[key(5000, T)] = None  # type: ignore[assignment]
    assert len(plan.write_offs(lost, part, view, 86_400)) == 500
    suspected = plan.suspected(lost, part, 86_400)
    assert suspected == 3000
    assert plan.unsafe_write_offs("books", suspected, 10_000, force=False) is not None


def test_a_run_that_is_refused_for_good_is_not_waited_for_as_completing() -> None:
    part = BackendMemory(completing={"1@1001": T})
    part.refused["1@1001"] = Refusal("day rule", 1, 0, final=True, seen_at=T)
    remember.tidy(part, [], [], "noctua", T)
    assert part.completing == {}


def test_a_newer_state_file_is_left_alone_whatever_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "noctua.json"
    path.write_text('{"schema": 2, "cluster": "noctua", "backends": []}')
    with pytest.raises(StateError, match="written by a newer release"):
        load(path, "noctua")


def test_a_state_file_that_root_writes_belongs_to_its_folders_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(tmp_path, 65534, 65534)
    save(tmp_path / "noctua.json", Memory(cluster="noctua"))
    assert (tmp_path / "noctua.json").stat().st_uid == 65534


def test_a_test_sync_says_what_slurm_knows_of_each_job(history: History) -> None:
    run = history.slurm.run()
    assert history.sync("-j", f"{run.job_id},99999") == sync.OK
    assert f"{run.job_id}: RUNNING in the queue" in history.err
    assert "99999: neither in the queue nor known to accounting" in history.err


class PickyLedger(FakeLedger):
    """A site's own class that falls over one run."""

    Section = LedgerSection

    def render(self, run: Run, placement: Placement, facts: Facts) -> dict[str, Any]:
        if run.name == "odd":
            raise KeyError(run.name)
        return super().render(run, placement, facts)


def test_a_run_that_cannot_be_rendered_is_a_fault_and_keeps_no_other(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_ledger, "PickyLedger", PickyLedger, raising=False)
    history.document["books"]["class"] = "fake_ledger:PickyLedger"
    odd, even = history.slurm.run(name="odd"), history.slurm.run()
    assert history.sync() == sync.FAULT
    assert set(history.ledger.running()) == {even}
    assert f"books: {odd} cannot be started: unexpected KeyError" in history.err
