"""The rules cc-backend 1.2.2, 1.4.4 and 1.5.4 go by, for the test double in cc_double.py.

The checks of a new job and of a stop, the constraints and the two tables of the database, with the servers'
own wording. No HTTP here; queries and bodies are read and written in cc_bodies.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cc_bodies as bodies
from cc_bodies import Query, Record, Refusal, Release, states

DAY_S = 86_400
NO_ROWS = "sql: no rows in result set"
WRITABLE_SCOPES = ("global", "admin", "api")  # the last one is the name of the token's user


def check_job(job: Record, clusters: list[Record], release: Release) -> None:
    """The sanity checks of a start; sets the subcluster, as they do."""
    cluster = next((c for c in clusters if c["name"] == job["cluster"]), None)
    if cluster is None:
        raise Refusal(400, f"no such cluster: {job['cluster']}")
    job["subCluster"] = _sub_cluster(job, cluster["subClusters"])
    if job["jobState"] not in states(release):
        raise Refusal(400, f"not a valid job state: {job['jobState']}")
    resources, nodes = job["resources"], job.get("numNodes", 0)
    if not resources or not job.get("user"):
        raise Refusal(400, "'resources' and 'user' should not be empty")
    if job.get("numAcc", 0) < 0 or job.get("numHwthreads", 0) < 0 or nodes < 1:
        raise Refusal(400, "'numNodes', 'numAcc' or 'numHWThreads' invalid")
    if len(resources) != nodes:
        raise Refusal(400, f"len(resources) does not equal numNodes ({len(resources)} vs {nodes})")


def _sub_cluster(job: Record, subs: list[Record]) -> str:
    """The one sent, if the cluster has it, else that of the first host: the servers look at no other."""
    sent, cluster = job.get("subCluster", ""), job["cluster"]
    if sent in {sub["name"] for sub in subs}:
        return str(sent)
    if sent:
        trouble = f"already assigned subcluster {sent} unkown (cluster: {cluster})"
    elif not job["resources"]:
        trouble = "job without any resources/hosts"
    else:
        host = job["resources"][0].get("hostname", "")
        default = subs[:1] if subs[0]["nodes"] == "*" else []
        for sub in [sub for sub in subs if host in bodies.hosts(sub["nodes"])] + default:
            return str(sub["name"])
        trouble = f"no subcluster found for cluster {cluster} and host {host}"
    raise Refusal(400, f"ARCHIVE/CLUSTERCONFIG > {trouble}")


def check_constraints(job: Record, release: Release) -> None:
    """The CHECKs of the database; from 1.5 the list's own table has none on smt, only the cache table."""
    new = release >= (1, 5)
    wrong = []
    if job.get("smt", 0) not in (0, 1) and (not new or not job["tags"]):
        wrong.append("smt IN (0, 1)" if new else "smt               IN (0, 1   )")
    if new and job["shared"] not in ("none", "single_user", "multi_user"):
        wrong.append('shared IN ("none", "single_user", "multi_user")')
    if not new and job["exclusive"] not in (0, 1, 2):
        wrong.append("exclusive         IN (0, 1, 2)")
    if job["monitoringStatus"] not in (0, 1, 2, 3):
        wrong.append("monitoring_status IN (0, 1, 2, 3)")
    if wrong:
        raise Refusal(500, f"insert into database failed: CHECK constraint failed: {wrong[0]}")


@dataclass
class Table:
    """The rows of `job` or `job_cache` by id; ids count up from the highest one left, as SQLite's do."""

    rows: dict[int, Record] = field(default_factory=dict)
    by_job: dict[int, list[Record]] = field(default_factory=dict)

    def add(self, job: Record) -> None:
        job["id"] = next(reversed(self.rows), 0) + 1
        self.rows[job["id"]] = job
        self.by_job.setdefault(job["jobId"], []).append(job)

    def remove(self, job: Record) -> None:
        del self.rows[job["id"]]
        self.by_job[job["jobId"]].remove(job)

    def same(self, job: Record) -> bool:
        return bool(self.find(job["jobId"], job["cluster"], job["startTime"]))

    def find(self, job_id: int, cluster: str | None, start: int | None) -> list[Record]:
        """The rows of that job, oldest start first; None asks for any."""
        found = [job for job in self.by_job.get(job_id, []) if cluster in (None, job["cluster"])]
        found = [job for job in found if start in (None, job["startTime"])]
        return sorted(found, key=lambda job: int(job["startTime"]))


def pick(query: Query, table: Table, release: Release) -> list[Record]:
    """The page asked for, newest start first; among equal starts in the order of the index that serves it."""
    found = [job for job in table.rows.values() if _matches(query, job)]
    found.sort(key=lambda job: int(job["id"]), reverse=True)
    if release >= (1, 5) and (query.equal or query.states):
        found.sort(key=lambda job: int(job["duration"]), reverse=True)
    elif release < (1, 4) and "cluster" in query.equal:
        found.sort(key=lambda job: (job["jobState"], job["id"]))
    found.sort(key=lambda job: int(job["startTime"]), reverse=True)
    if query.items < -1:
        return []
    first = (query.page - 1) * query.items
    return found if query.items == -1 else found[first : first + query.items]


def _matches(query: Query, job: Record) -> bool:
    if any(job.get(key, "") != value for key, value in query.equal.items()):
        return False
    if query.span and not query.span[0] <= job["startTime"] <= query.span[1]:
        return False
    return not query.states or job["jobState"] in query.states


def check_stop(job: Record, stop_time: int, state: str, release: Release) -> None:
    """Whether the run can be stopped so; the order of the checks is each release's own."""
    running, start = job["jobState"] == "running", job["startTime"]
    if release < (1, 4):
        if start >= stop_time or not running:
            told = "stopTime must be larger than startTime and only running jobs can be stopped"
            raise Refusal(400, told)
        if state not in states(release):
            raise Refusal(400, f"invalid job state: {bodies.quoted(state)}")
        return
    name = f"jobId {job['jobId']} (id {job['id']}) on {job['cluster']} :"
    if not running:
        raise Refusal(422, f"{name} job has already been stopped (state is: {job['jobState']})")
    if start > stop_time:
        raise Refusal(400, f"{name} stopTime {stop_time} must be larger/equal than startTime {start}")
    if state not in states(release):
        raise Refusal(400, f"{name} invalid requested job state: {bodies.quoted(state)}")


@dataclass
class Store:
    """What one server holds. From 1.5 a job without tags waits in the cache table, which no list shows."""

    release: Release
    clusters: list[Record]
    clock: Callable[[], float]
    commit_after_s: float | None = None  # None: the cache table is only moved by hand
    listed: Table = field(default_factory=Table)
    cache: Table = field(default_factory=Table)
    known_tags: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    node_states: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._committed = self.clock()

    def tick(self) -> None:
        """Do what timers would have done by now."""
        now = self.clock()
        if self.commit_after_s is not None and now - self._committed >= self.commit_after_s:
            self.commit_cache()
            self._committed = now

    def start(self, body: bytes) -> Record:
        job = self._new_job(body)
        check_job(job, self.clusters, self.release)
        for run in self.listed.find(job["jobId"], job["cluster"], None):
            if job["startTime"] - run["startTime"] < DAY_S:
                told = "a job with that jobId, cluster and startTime already exists"
                raise Refusal(422, f"{told}: dbid: {run['id']}, jobid: {run['jobId']}")
        check_constraints(job, self.release)
        if self.release < (1, 5) or job["tags"]:
            self.listed.add(job)
        else:
            if self.cache.same(job):
                told = "UNIQUE constraint failed: job_cache.job_id, job_cache.cluster, job_cache.start_time"
                raise Refusal(500, f"insert into database failed: {told}")
            self.cache.add(job)
        self._add_tags(job)
        return {"msg": "success"} if self.release >= (1, 4) else {"id": job["id"]}

    def _new_job(self, body: bytes) -> Record:
        new = self.release >= (1, 5)
        zeros = {"cluster": "", "jobId": 0, "startTime": 0, "duration": 0, "monitoringStatus": 1}
        lists: Record = {"resources": [], "tags": [], **({"shared": "none"} if new else {"exclusive": 1})}
        job = {**zeros, **lists, **(bodies.decode(body, bodies.job_shape(self.release)) or {})}
        if self.release >= (1, 4) or not job.get("jobState"):
            job["jobState"] = "running"
        return job

    def stop(self, body: bytes) -> Record:
        asked = bodies.decode(body, bodies.stop_shape(self.release)) or {}
        job = self._find(asked, self.cache) or self._find(asked, self.listed)
        if job is None:
            raise Refusal(404 if self.release >= (1, 5) else 422, f"finding job failed: {NO_ROWS}")
        stop_time, state = asked.get("stopTime", 0), asked.get("jobState") or "completed"
        check_stop(job, stop_time, state, self.release)
        if self.cache.rows.get(job["id"]) is job:
            self._transfer(job)
        job.update(stopTime=stop_time, duration=stop_time - job["startTime"], jobState=state)
        return {**bodies.render_changed(job, self.release, self.clock()), "duration": job["duration"]}

    def _find(self, asked: Record, table: Table) -> Record | None:
        """The newest row of that job; 1.2 takes the first one its index gives."""
        if "jobId" not in asked:
            raise Refusal(400, "the field 'jobId' is required")
        found = table.find(asked["jobId"], asked.get("cluster"), asked.get("startTime"))
        if self.release < (1, 4):
            return found[0] if found else None
        return max(found, key=lambda job: int(job["id"]), default=None)

    def _transfer(self, job: Record) -> None:
        if self.listed.same(job):
            name = f"jobId {job['jobId']} (id {job['id']}) on {job['cluster']}"
            told = f"transferring cached job failed: transferring cached job {job['id']} to main table failed"
            unique = "UNIQUE constraint failed: job.job_id, job.cluster, job.start_time"
            raise Refusal(500, f"{name} : {told}: {unique}")
        self.cache.remove(job)
        self.listed.add(job)

    def commit_cache(self) -> None:
        """What the timer does: INSERT OR IGNORE into the list's table, then empty the cache table."""
        for job in list(self.cache.rows.values()):
            self.cache.remove(job)
            if not self.listed.same(job):
                self.listed.add(job)

    def take_nodes(self, body: bytes) -> None:
        self.node_states.append(bodies.decode(body, bodies.NODES) or {})

    def list_jobs(self, text: str) -> Record:
        query = bodies.parse_query(text, self.release)
        now, found = self.clock(), pick(query, self.listed, self.release)
        jobs = [bodies.render_job(job, self.release, now, query.metadata) for job in found]
        return {"jobs": jobs, "items": query.items, "page": query.page}

    def edit_meta_by_key(self, body: bytes) -> Record:
        asked = bodies.decode(body, bodies.META) or {}
        job = self._find(asked, self.listed)
        if job is None:
            raise Refusal(422, f"finding job failed: {NO_ROWS}")
        return self._edit(job, asked.get("payload", {}))

    def edit_meta(self, job_id: str, body: bytes) -> Record:
        job = self._by_id(job_id)
        return self._edit(job, self._decode(body, bodies.PAIR) or {})

    def _edit(self, job: Record, pair: Record) -> Record:
        job["metaData"] = {**(job.get("metaData") or {}), pair.get("key", ""): pair.get("value", "")}
        return bodies.render_changed(job, self.release, self.clock(), metadata=True)

    def _by_id(self, text: str) -> Record:
        try:
            job = self.listed.rows.get(bodies.parse_number(text, "ParseInt"))
        except Refusal as refusal:
            raise self._of_an_edit(400, "parsing job ID failed: ", refusal.error) from None
        if job is None:
            raise self._of_an_edit(404, "finding job failed: ", NO_ROWS)
        return job

    def _decode(self, body: bytes, shape: Any) -> Any:
        try:
            return bodies.decode(body, shape, prefix="")
        except Refusal as refusal:
            raise self._of_an_edit(400, "decoding request failed: ", refusal.error) from None

    def _of_an_edit(self, status: int, prefix: str, error: str) -> Refusal:
        """Up to 1.4 the routes with a database id refuse in plain text, without saying what they were at."""
        old = self.release < (1, 5)
        return Refusal(status, error if old else f"{prefix}{error}", plain=old)

    def _add_tags(self, job: Record) -> None:
        """Give the job's tags their ids; the one that cannot be had and all after it are not kept."""
        sent, job["tags"] = job["tags"], []
        for tag in sent:
            try:
                job["tags"].append(self._known_tag(tag))
            except ValueError as error:
                told = f"adding tag to new job {job['id']} failed: {error}"
                raise self._twice(error, told) if self.release < (1, 5) else Refusal(500, told) from None

    def _twice(self, error: ValueError, told: str) -> Refusal:
        """Up to 1.4 a tag is refused twice in one answer, in text and in JSON."""
        status = "Internal Server Error"
        return Refusal(500, f'{error}\n{{"status":"{status}","error":{bodies.quoted(told)}}}', plain=True)

    def _known_tag(self, tag: Record) -> Record:
        """The tag with id; its scope is no part of what must be unique."""
        scope = tag.get("scope") or "global"
        if scope not in WRITABLE_SCOPES:
            raise ValueError("cannot write tag scope with current authorization")
        name = (tag.get("type", ""), tag.get("name", ""))
        known, number = self.known_tags.setdefault(name, (scope, len(self.known_tags) + 1))
        if known != scope:
            raise ValueError("UNIQUE constraint failed: tag.tag_type, tag.tag_name")
        shown = {"type": name[0], "name": name[1], "id": number}
        return {**shown, "scope": scope} if self.release >= (1, 4) else shown
