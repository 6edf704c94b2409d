"""What a site or the command line leaves out: opt-outs, node_regex, ignore_hosts, --jobid, --limit, …"""

from __future__ import annotations

import pytest
from fake_source import NOW, FakeSlurm
from histories import History

import sync

pytest_plugins = ["history_fixtures"]

OPT_OUT = "urgent, disable_cc_submission"


@pytest.mark.parametrize("accounting", ["on", "off"])
def test_a_job_with_the_opt_out_word_is_never_sent(history: History, accounting: str) -> None:
    history.slurm = FakeSlurm(accounting)
    run = history.slurm.run(admin_comment=OPT_OUT)
    history.passes(2)
    history.slurm.finish(run.job_id)
    history.passes(2)
    assert history.ledger.runs == {}
    assert "0 left out, 1 opted out" in history.err


def test_it_is_remembered_when_the_comment_changes(history: History) -> None:
    run = history.slurm.run(admin_comment=OPT_OUT)
    history.passes(1)
    history.slurm.entries[run.job_id].admin_comment = ""
    history.passes(2)
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.passes(2)
    assert history.ledger.runs == {}


def test_accounting_alone_may_tell_of_it(history: History) -> None:
    history.passes(1)
    run = history.slurm.run(admin_comment=OPT_OUT)
    history.slurm.finish(run.job_id)
    history.slurm.purge(run.job_id)
    history.passes(2)
    assert history.ledger.runs == {}


def test_a_word_that_only_contains_it_is_none(history: History) -> None:
    run = history.slurm.run(admin_comment="disable_cc_submission_please")
    history.passes(1)
    assert history.ledger.running() == {run}


def test_a_run_already_sent_is_still_stopped(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.slurm.entries[run.job_id].admin_comment = OPT_OUT
    history.passes(1)
    history.slurm.finish(run.job_id)
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 120, "squeue")


def test_the_memory_of_opt_outs_ends_when_accounting_can_tell_of_the_run_no_more(history: History) -> None:
    run = history.slurm.run(admin_comment=OPT_OUT)
    history.passes(1)
    assert history.memory().opted_out == {str(run): NOW + 60}
    history.slurm.purge(run.job_id)
    history.passes(1, 7 * 86400)
    assert history.memory().opted_out == {str(run): NOW + 60}
    history.passes(1, 2 * 86400)
    assert history.memory().opted_out == {}


def test_a_job_whose_nodes_do_not_match_is_left_out_and_counted(history: History) -> None:
    history.document["node_regex"] = "^n2cn"
    ours, other = history.slurm.run(nodes="n2cn[001-002]"), history.slurm.run(nodes="n2gpu01")
    history.passes(1)
    assert history.ledger.running() == {ours}
    assert "1 left out, 0 opted out" in history.err
    history.slurm.finish(other.job_id)
    history.passes(1)
    history.slurm.purge(other.job_id)
    history.passes(1)
    assert history.ledger.told("start") == [str(ours)]


def test_a_job_is_ignored_if_all_of_its_hosts_are(history: History) -> None:
    history.document["ignore_hosts"] = ["n2cn[001-002]"]
    history.slurm.run(nodes="n2cn[001-002]")
    partly = history.slurm.run(nodes="n2cn[002-003]")
    history.passes(1)
    assert history.ledger.running() == {partly}


def test_a_run_that_was_sent_before_its_nodes_were_left_out_is_still_stopped(history: History) -> None:
    run = history.slurm.run()
    history.passes(1)
    history.document["node_regex"] = "^n2gpu"
    history.passes(1)
    assert history.held() == []
    history.slurm.finish(run.job_id)
    history.passes(1)
    assert history.ended(run) == ("COMPLETED", NOW + 120, "squeue")


def test_jobid_names_one_job_and_no_other_is_touched(history: History) -> None:
    old = history.slurm.run()
    history.passes(1)
    history.slurm.finish(old.job_id)
    one, other = history.slurm.run(), history.slurm.run()
    assert history.sync("-j", str(one.job_id)) == sync.OK
    assert history.ledger.running() == {old, one}
    assert history.sync("--jobid", f"{old.job_id},{other.job_id}") == sync.OK
    assert history.ledger.running() == {one, other}


def test_jobid_names_an_array_or_one_of_its_tasks(history: History) -> None:
    tasks = [history.slurm.run(job_id=20 + at, array_job_id=9, array_task_id=at) for at in range(3)]
    other = history.slurm.run(job_id=30)
    assert history.would_start("-j", "9") == [20, 21, 22]
    assert history.would_start("-j", "9_1") == [21]
    assert history.would_start("-j", "21") == [21]
    assert history.would_start("-j", "9_1,30") == [21, 30]
    assert history.would_start("-j", "1") == []
    history.passes(1)
    for run in (*tasks, other):
        history.slurm.finish(run.job_id)
    assert history.would_stop("-j", "9_2") == [22]
    for run in (*tasks, other):
        history.slurm.purge(run.job_id)
    assert history.would_stop("-j", "9_2") == [22]
    assert history.would_stop("-j", "9") == [20, 21, 22]


def test_jobid_names_a_heterogeneous_job_or_one_of_its_components(history: History) -> None:
    parts = [history.slurm.run(job_id=20 + at, het_job_id=20, het_offset=at) for at in range(2)]
    assert history.would_start("-j", "20+1") == [21]
    assert history.would_start("-j", "20") == [20, 21]
    history.passes(1)
    for run in parts:
        history.slurm.finish(run.job_id)
        history.slurm.purge(run.job_id)
    assert history.would_stop("-j", "20+1") == [21]
    assert history.would_stop("-j", "21") == [21]


def test_jobid_finds_an_ended_job_outside_of_the_window(history: History) -> None:
    history.passes(1)
    tasks = [history.slurm.run(job_id=20 + at, array_job_id=9, array_task_id=at) for at in range(2)]
    for run in tasks:
        history.slurm.finish(run.job_id)
        history.slurm.purge(run.job_id)
    history.slurm.pass_by(3 * 86400)
    history.state_file.unlink()
    assert history.sync("-j", "9_1") == sync.OK
    assert history.ledger.endings() == {tasks[1]: ("COMPLETED", NOW + 60, "sacct")}
    assert history.sync("-j", "20") == sync.OK
    assert set(history.ledger.endings()) == set(tasks)


def test_jobid_finds_a_requeued_task_without_accounting(history: History) -> None:
    history.without_accounting()
    history.slurm.submit(9, array_job_id=9, array_tasks="4-6")
    run = history.slurm.run(job_id=12, array_job_id=9, array_task_id=3)
    history.passes(1)
    history.slurm.purge(12)
    history.slurm.entries[9].array_tasks = "3-6"
    assert history.would_stop("-j", "9_4") == []
    assert history.would_stop("-j", "9_3") == [12]
    assert run in history.ledger.running()


def test_limit_takes_the_oldest_starts_and_the_earliest_ends(history: History) -> None:
    runs = []
    for _ in range(4):
        runs.append(history.slurm.run())
        history.slurm.pass_by(10)
    assert history.would_start("--limit", "2") == [run.job_id for run in runs[:2]]
    assert history.would_start("--limit", "0") == []
    history.passes(1)
    for run in reversed(runs):
        history.slurm.finish(run.job_id)
        history.slurm.pass_by(10)
    assert history.would_stop("-l", "3") == [run.job_id for run in reversed(runs[1:])]
    assert history.sync("-l", "3") == sync.OK
    assert history.ledger.running() == {runs[0]}


def test_what_a_limit_cut_off_is_done_by_the_next_passes(history: History) -> None:
    history.passes(1)
    runs = {history.slurm.run() for _ in range(5)}
    for run in list(runs)[:3]:
        history.slurm.finish(run.job_id)
        history.slurm.purge(run.job_id)
    for _ in range(8):
        history.sync("--limit", "1", after_s=60)
    assert set(history.ledger.runs) == runs
    assert len(history.ledger.endings()) == 3


def test_direction_start_sends_no_stop_and_direction_stop_no_start(history: History) -> None:
    old = history.slurm.run()
    history.passes(1)
    history.slurm.finish(old.job_id)
    new = history.slurm.run()
    gone = history.slurm.run()
    history.slurm.finish(gone.job_id)
    history.slurm.purge(gone.job_id)
    assert history.sync("--direction", "start", after_s=60) == sync.OK
    assert history.ledger.running() == {old, new, gone}
    assert history.sync("--direction", "stop", after_s=60) == sync.OK
    assert history.ledger.running() == {new}
    late = history.slurm.run()
    assert history.sync("--direction", "stop", after_s=60) == sync.OK
    assert late not in history.ledger.running()


def test_a_dry_run_asks_and_tells_and_changes_nothing(history: History) -> None:
    history.slurm.run()
    assert history.sync("--dry-run") == sync.OK
    assert "books: 1 start" in history.out
    assert history.ledger.runs == {}
    assert not (history.folder / "state").exists()


def test_only_nodes_leaves_the_ledgers_alone(history: History) -> None:
    history.slurm.run()
    assert history.sync("--only", "nodes") == sync.OK
    assert history.ledger.calls == []


def test_backend_names_the_only_target_that_is_served(history: History) -> None:
    other = history.add_ledger("other")
    run = history.slurm.run()
    assert history.sync("--backend", "other") == sync.OK
    assert (history.ledger.calls, other.running()) == ([], {run})


def test_details_are_read_for_the_oldest_first_and_the_rest_waits(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asking.DETAILS_A_PASS", 2)
    runs = []
    for _ in range(5):
        runs.append(history.slurm.run())
        history.slurm.pass_by(1)
    history.passes(1)
    assert history.ledger.running() == set(runs[:2])
    history.passes(2)
    assert history.ledger.running() == set(runs)


def test_details_are_read_for_new_runs_only(history: History) -> None:
    history.slurm.run()
    history.passes(3)
    assert sum(line.startswith("details") for line in history.slurm.asked) == 1


def test_details_that_fail_let_starts_wait_and_stops_go_on(history: History) -> None:
    old = history.slurm.run()
    history.passes(1)
    history.slurm.finish(old.job_id)
    new = history.slurm.run()
    history.slurm.broken = {"details"}
    assert history.sync(after_s=60) == sync.FAULT
    assert "details could not be read, starts may wait: details: broken on purpose" in history.err
    assert history.ledger.running() == set()
    history.slurm.broken = set()
    history.passes(1)
    assert history.ledger.running() == {new}


def test_a_run_that_has_ended_before_its_details_are_read_waits_for_the_next_pass(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = history.slurm.run()
    with monkeypatch.context() as patch:
        patch.setattr(history.slurm, "read_details", lambda ids, nodes: ())
        history.passes(1)
    assert history.ledger.calls.count(f"start {run}") == 0
    history.passes(1)
    assert history.ledger.running() == {run}
