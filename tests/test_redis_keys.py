"""The portal's keys in a real Redis: whole or not at all, whatever stood there and whoever else writes."""

from __future__ import annotations

import ast
import json
import threading
import time
import tracemalloc
from typing import Any

import pytest
from portal_data import CONTROL, RECORDED, WITH_PUE, crowd, large, make_job, make_node, snapshot
from redis.client import Pipeline
from redis_server import RedisServer, dumped, portal, publish

from backends import redis_keys
from backends.base import Backend, Deadline, Ledger, SnapshotTarget, TargetError
from backends.redis_keys import ASIDE_EXPIRE_S, CHUNK_BYTES, RedisPortal, chunks

pytestmark = pytest.mark.live
pytest_plugins = ["redis_fixtures"]

ALL_KEYS = {f"noctua_{name}" for name in redis_keys.KEYS}


def entries(reader: Any, key: str) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in reader.lrange(key, 0, -1)]


# What stands there


def test_it_is_a_snapshot_target_and_no_ledger(redisd: RedisServer) -> None:
    target = portal(redisd)
    assert isinstance(target, SnapshotTarget) and isinstance(target, Backend)
    assert not isinstance(target, Ledger)
    assert target.interval_s() == 0
    target.close()


def test_an_old_portal_finds_all_that_it_reads(redisd: RedisServer, reader: Any) -> None:
    assert publish(redisd, WITH_PUE) == "31 jobs, 11 nodes"
    nodes, jobs = reader.hgetall("noctua_cluster_node"), reader.hgetall("noctua_cluster_job")
    for unit in ("all_cpu", "cpu_cpu", "gpu_card"):
        total, *parts = (int(nodes[f"{unit}_{word}"]) for word in ("tot", "alloc", "free", "error"))
        assert total == sum(parts)
    assert int(jobs["running_jobs"]) + int(jobs["pending_jobs"]) == 33
    assert ast.literal_eval(jobs["running_top5"])[0] == {"share1": "33 seconds"}
    assert len(ast.literal_eval(jobs["pengding_top5"])) == 5
    assert float(reader.hget("noctua_cluster_pue", "pue")) == 1.23
    assert reader.hget("noctua_cluster_brief", "job_running") == "18"


def test_lists_hold_one_json_object_a_job_and_a_node(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    jobs, nodes = entries(reader, "noctua_jobs"), entries(reader, "noctua_nodes")
    assert (len(jobs), len(nodes)) == (30, 11)
    assert CONTROL in [job["name"] for job in jobs]
    assert [node["name"] for node in nodes] == [node.name for node in RECORDED.nodes or ()]


def test_there_are_only_the_keys_of_the_pass_and_they_never_expire(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, WITH_PUE)
    assert set(reader.keys("*")) == ALL_KEYS
    assert {reader.ttl(key) for key in ALL_KEYS} == {-1}


def test_a_prefix_stands_before_every_key(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, WITH_PUE, prefix="{hpc}:")
    assert set(reader.keys("*")) == {"{hpc}:" + key for key in ALL_KEYS}


def test_keys_expire_where_that_is_asked_for_and_stop_to_where_not(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, WITH_PUE, expire_s=300)
    assert all(290 <= reader.ttl(key) <= 300 for key in ALL_KEYS)
    publish(redisd, snapshot(jobs=RECORDED.jobs, nodes=None))
    assert reader.ttl("noctua_cluster_brief") == reader.ttl("noctua_jobs") == -1
    assert reader.ttl("noctua_nodes") > 0  # nodes were not read: nothing of theirs is touched


def test_the_hash_layout_takes_the_place_of_lists_and_back(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    publish(redisd, layout="hash")
    assert (reader.hlen("noctua_nodes"), reader.hget("noctua_jobs", "running_jobs")) == (11, "18")
    assert len(reader.hget("noctua_jobs", "jobs").split("||||")) == 30
    publish(redisd)
    assert (reader.llen("noctua_nodes"), reader.llen("noctua_jobs")) == (11, 30)


# What changes


def test_fields_and_entries_that_no_longer_apply_disappear(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, node_types={"CPU": ["normal"], "BIG": ["fat"]})
    assert reader.hexists("noctua_cluster_node", "big_node_tot")
    reader.hset("noctua_cluster_brief", "stale", "1")
    publish(redisd, snapshot(jobs=(make_job(1),), nodes=(make_node("n1"),)))
    assert not reader.hexists("noctua_cluster_node", "big_node_tot")
    assert not reader.hexists("noctua_cluster_brief", "stale")
    assert [job["job_id"] for job in entries(reader, "noctua_jobs")] == [1]


def test_an_empty_list_is_removed(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    publish(redisd, snapshot())
    assert set(reader.keys("*")) == {"noctua_cluster_job", "noctua_cluster_node", "noctua_cluster_brief"}
    publish(redisd, layout="hash")
    publish(redisd, snapshot(), layout="hash")
    assert not reader.exists("noctua_nodes")


def test_nodes_that_could_not_be_read_stay_while_jobs_are_written(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    before = {key: reader.dump(key) for key in ("noctua_nodes", "noctua_cluster_node")}
    brief = reader.hgetall("noctua_cluster_brief")
    text = publish(redisd, snapshot(jobs=(make_job(1),), nodes=None))
    assert text == "1 jobs, nodes kept"
    assert before == {key: reader.dump(key) for key in before}
    assert reader.hgetall("noctua_cluster_brief") == brief | {"job_running": "1", "job_pending": "0"}
    assert reader.llen("noctua_jobs") == 1


def test_power_usage_alone_changes_no_other_key(redisd: RedisServer, reader: Any) -> None:
    publish(redisd)
    before = dumped(reader)
    publish(redisd, snapshot(jobs=None, nodes=None, pue=(1.5, 800.0)))
    assert before == {key: reader.dump(key) for key in before}
    assert reader.hget("noctua_cluster_pue", "pue") == "1.5"


@pytest.mark.parametrize("nodes", [RECORDED.nodes, None])
@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "hash"])
def test_keys_of_a_wrong_type_are_replaced(redisd: RedisServer, reader: Any, kind: str, nodes: Any) -> None:
    put = {
        "string": lambda key: reader.set(key, "x"),
        "list": lambda key: reader.rpush(key, "x"),
        "set": lambda key: reader.sadd(key, "x"),
        "zset": lambda key: reader.zadd(key, {"x": 1}),
        "hash": lambda key: reader.hset(key, "x", "x"),
    }
    for key in ALL_KEYS:
        put[kind](key)
    publish(redisd, snapshot(jobs=RECORDED.jobs, nodes=nodes, pue=(1.0, 1.0)))
    assert reader.llen("noctua_jobs") == 30
    assert reader.hget("noctua_cluster_brief", "job_running") == "18"
    assert reader.hget("noctua_cluster_pue", "pue") == "1.0"
    if nodes is not None:
        assert reader.llen("noctua_nodes") == 11


# Readers and writers at once


def sizes_told(reader: Any) -> set[int]:
    """What a reader sees in one look at all keys."""
    with reader.pipeline(transaction=True) as look:
        look.hgetall("noctua_cluster_node").hgetall("noctua_cluster_job").hgetall("noctua_cluster_brief")
        look.hget("noctua_cluster_pue", "pue").llen("noctua_jobs").llen("noctua_nodes")
        look.lindex("noctua_jobs", -1).lindex("noctua_nodes", -1)
        nodes, jobs, brief, pue, *lengths, job, node = look.execute()
    last = json.loads(job)["job_id"], int(json.loads(node)["name"][1:]) + 1
    told = [nodes["all_node_tot"], nodes["gpu_card_alloc"], jobs["running_jobs"], jobs["users"]]
    return {int(float(number)) for number in (*told, brief["job_running"], pue, *lengths, *last)}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list is written in several pieces."""
    monkeypatch.setattr(redis_keys, "CHUNK_ENTRIES", 3)


@pytest.mark.usefixtures("small_pieces")
def test_readers_never_see_a_mixture_or_nothing_while_writers_run_back_to_back(
    redisd: RedisServer, reader: Any
) -> None:
    passes = [crowd(5), crowd(17)]
    publish(redisd, passes[0])
    done, faults = threading.Event(), []

    def write(first: int) -> None:
        target, count = portal(redisd), first
        while not done.is_set():
            try:
                target.publish(passes[count % 2], Deadline(60))
            except TargetError as error:
                faults.append(error)
            count += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = [sizes_told(reader) for _ in range(3000)]
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert {frozenset(sizes) for sizes in seen} == {frozenset({5}), frozenset({17})}
    assert not faults
    assert set(reader.keys("*")) == ALL_KEYS


def test_a_writer_killed_half_way_changes_nothing_and_leaves_nothing_for_ever(
    redisd: RedisServer, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(redisd, WITH_PUE)
    before = {key: reader.dump(key) for key in ALL_KEYS}

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RedisPortal, "_replace", die)
    with pytest.raises(KeyboardInterrupt):
        publish(redisd, crowd(3))
    left = set(reader.keys("*")) - ALL_KEYS
    assert len(left) == 2 and all(0 < reader.ttl(key) <= ASIDE_EXPIRE_S for key in left)
    assert before == {key: reader.dump(key) for key in ALL_KEYS}


def test_a_full_redis_keeps_the_old_pass_and_nothing_of_the_new_one(redisd: RedisServer, reader: Any) -> None:
    publish(redisd, WITH_PUE)
    before = {key: reader.dump(key) for key in ALL_KEYS}
    reader.config_set("maxmemory", "1")
    with pytest.raises(TargetError, match="maxmemory"):
        publish(redisd, crowd(3))
    assert before == {key: reader.dump(key) for key in ALL_KEYS}
    assert set(reader.keys("*")) == ALL_KEYS


def test_a_list_evicted_before_the_transaction_keeps_the_old_pass(
    redisd: RedisServer, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(redisd)
    before = dumped(reader)
    whole = redis_keys._write_aside

    def write_and_lose(client: Any, key: str, *rest: Any) -> int:
        count = whole(client, key, *rest)
        reader.unlink(key)
        return count

    monkeypatch.setattr(redis_keys, "_write_aside", write_and_lose)
    with pytest.raises(TargetError, match="is its memory full"):
        publish(redisd, crowd(3))
    assert before == dumped(reader)


def test_a_list_evicted_at_the_last_moment_is_written_anew(
    redisd: RedisServer, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(redisd)
    multi, evicted = Pipeline.multi, list[str]()

    def evict_once(pipe: Any) -> None:
        if not evicted:
            evicted.extend(key for key in reader.keys("*") if key.startswith("noctua_jobs:"))
            reader.unlink(*evicted)
        multi(pipe)

    monkeypatch.setattr(Pipeline, "multi", evict_once)
    publish(redisd, crowd(3))
    assert len(evicted) == 1 and reader.llen("noctua_jobs") == 3


# Size


def test_pieces_are_bounded_by_number_and_by_size() -> None:
    assert [len(piece) for piece in chunks(b"x" for _ in range(2500))] == [1000, 1000, 500]
    big = bytes(CHUNK_BYTES // 4)
    assert [len(piece) for piece in chunks([big] * 9)] == [4, 4, 1]
    assert list(chunks([])) == []


def test_a_large_cluster_is_written_without_holding_its_lists(redisd: RedisServer, reader: Any) -> None:
    snapshot_ = large(22_000, 1_000)
    tracemalloc.start()
    publish(redisd, snapshot_)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (reader.llen("noctua_jobs"), reader.llen("noctua_nodes")) == (22_000, 1_000)
    assert reader.memory_usage("noctua_jobs") > peak  # the entries alone are more than was ever held


def test_a_large_cluster_is_written_in_a_moment(redisd: RedisServer, reader: Any) -> None:
    snapshot_ = large(22_000, 1_000)
    started = time.process_time()
    publish(redisd, snapshot_)
    assert time.process_time() - started < 1  # a tenth of that on a usual machine
    assert reader.llen("noctua_jobs") == 22_000
