"""The throw-away Slurm's pure parts: what its files say, which processes are its own, what is installed when.

Starting one is the live tests' business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import packages
import pytest
from packages import POLICY_TEXT, NotPossible, Process, missing, no_services, read_processes, slurm_in_use
from throwaway_config import (
    Gres,
    Layout,
    NodeSpec,
    device_names,
    expand_hosts,
    parse_gres,
    render_cgroup_conf,
    render_gres_conf,
    render_slurm_conf,
    render_slurmdbd_conf,
)
from throwaway_daemons import ClusterError, answers, as_user, belongs, choose_root, free_ports, wait_until

ROOT = Path("/srv/demo/throwaway-slurm")
CARDS = NodeSpec("g[01-02]", 2, 4, 2, 16000, "gpu:a100:4,gpu:h100:2,fpga:u280:1,shard:24", "bigmem")
LAYOUT = Layout(
    ROOT, "demo", "host", [NodeSpec("n1"), CARDS], 21000, 21001, {"n1": 21002, "g01": 21003, "g02": 21004}
)


def process(name: str, *command: str, environment: tuple[str, ...] = (), folder: str = "/") -> Process:
    return Process(4711, 1, name, command, environment, folder)


def settings_of(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n2cn[008-010,12]", ["n2cn008", "n2cn009", "n2cn010", "n2cn12"]),
        ("a,b[1,3]x,c", ["a", "b1x", "b3x", "c"]),
    ],
)
def test_a_host_list_is_expanded_in_order_with_its_zeros(names: str, hosts: list[str]) -> None:
    assert expand_hosts(names) == hosts


def test_gres_may_have_a_type_a_number_both_or_neither() -> None:
    assert parse_gres("gpu:a100_3g.20gb:4,gpu:2") == [Gres("gpu", "a100_3g.20gb", 4), Gres("gpu", "", 2)]
    assert parse_gres("fpga,nic:fast") == [Gres("fpga", "", 1), Gres("nic", "fast", 1)]
    assert parse_gres("") == []


def test_two_types_of_card_count_on_and_shards_have_no_file() -> None:
    assert render_gres_conf(LAYOUT).splitlines() == [
        f"NodeName=g[01-02] Name=gpu Type=a100 File={ROOT}/dev/gpu[0-3]",
        f"NodeName=g[01-02] Name=gpu Type=h100 File={ROOT}/dev/gpu[4-5]",
        f"NodeName=g[01-02] Name=fpga Type=u280 File={ROOT}/dev/fpga0",
        "NodeName=g[01-02] Name=shard Count=24",
    ]


def test_there_are_as_many_devices_as_the_best_equipped_node_names() -> None:
    nodes = [NodeSpec("a", gres="gpu:2"), NodeSpec("b", gres="gpu:x:1,gpu:y:2"), NodeSpec("c")]
    assert device_names(nodes) == ["gpu0", "gpu1", "gpu2"]


def test_each_node_has_its_own_line_and_port_on_loopback() -> None:
    lines = [line for line in render_slurm_conf(LAYOUT).splitlines() if line.startswith("NodeName=")]
    assert [line.split()[:3] for line in lines] == [
        ["NodeName=n1", "Port=21002", "NodeAddr=127.0.0.1"],
        ["NodeName=g01", "Port=21003", "NodeAddr=127.0.0.1"],
        ["NodeName=g02", "Port=21004", "NodeAddr=127.0.0.1"],
    ]
    assert lines[1].split()[3:-1] == [
        "Sockets=2",
        "CoresPerSocket=4",
        "ThreadsPerCore=2",
        "RealMemory=16000",
        f"Gres={CARDS.gres}",
        "Feature=bigmem",
    ]


def test_every_way_to_munge_leads_to_its_own_socket() -> None:
    socket = f"{ROOT}/munge/socket"
    conf = settings_of(render_slurm_conf(LAYOUT))
    assert conf["AuthInfo"].split(",")[0] == f"socket={socket}"
    assert conf["AccountingStoragePass"] == socket
    assert settings_of(render_slurmdbd_conf(LAYOUT))["AuthInfo"] == f"socket={socket}"


def test_cards_are_accounted_for_by_name_and_by_type() -> None:
    conf = settings_of(render_slurm_conf(LAYOUT))
    assert conf["GresTypes"] == "fpga,gpu,shard"
    assert conf["AccountingStorageTRES"].split(",") == [
        "gres/fpga",
        "gres/fpga:u280",
        "gres/gpu",
        "gres/gpu:a100",
        "gres/gpu:h100",
        "gres/shard",
    ]


def test_without_accounting_nothing_of_it_is_said() -> None:
    assert "Accounting" not in render_slurm_conf(replace(LAYOUT, accounting_port=None))


def test_an_addition_replaces_what_it_names_and_no_key_stands_twice() -> None:
    text = render_slurm_conf(replace(LAYOUT, extra_conf="minjobage=5\nMessageTimeout=3"))
    keys = [line.partition("=")[0].lower() for line in text.splitlines() if line]
    assert "minjobage=5" in text
    assert "MessageTimeout=3" in text
    assert keys.count("minjobage") == 1


def test_a_partition_s_options_are_taken_as_they_are() -> None:
    text = render_slurm_conf(replace(LAYOUT, partitions={"gpu": "Nodes=g[01-02] Default=YES"}))
    assert "PartitionName=gpu Nodes=g[01-02] Default=YES" in text


@pytest.mark.parametrize("render", [render_slurm_conf, render_slurmdbd_conf])
def test_daemons_bind_to_the_host_s_name_only_where_that_is_loopback(render: Callable[[Layout], str]) -> None:
    assert "NoInAddrAny" not in render(LAYOUT)
    assert "NoInAddrAny" in render(replace(LAYOUT, bind_to_hostname=True))


def test_cgroups_are_off_where_that_can_be_said_and_unused_where_it_cannot() -> None:
    assert render_cgroup_conf((22, 5)) == render_cgroup_conf((23, 11)) == "CgroupPlugin=cgroup/v1\n"
    assert render_cgroup_conf((24, 5)) == render_cgroup_conf((26, 5)) == "CgroupPlugin=disabled\n"


def test_a_folder_that_all_can_reach_holds_the_cluster() -> None:
    assert choose_root(Path("/not-there/yet")) == Path("/not-there/yet/throwaway-slurm")


@pytest.mark.parametrize("length", [1, 80])
def test_a_closed_folder_or_too_long_a_name_gets_the_same_place_in_tmp_each_time(
    tmp_path: Path, length: int
) -> None:
    folder = tmp_path if length == 1 else Path("/", "x" * length)
    tmp_path.chmod(0o700)
    root = choose_root(folder)
    assert root.parent == Path("/tmp")
    assert root.name.startswith("throwaway-slurm-")
    assert root == choose_root(folder) != choose_root(folder / "other")


def test_free_ports_differ_and_nobody_listens_there() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(answers(port) for port in ports)


def test_waiting_tells_what_was_awaited_and_why_it_failed() -> None:
    def fail() -> bool:
        raise ClusterError("no controller")

    with pytest.raises(ClusterError, match="not so that jobs run: no controller"):
        wait_until(fail, 0, "jobs run")


def test_a_user_that_the_machine_lacks_is_named() -> None:
    with pytest.raises(ClusterError, match="no user nobody-such"):
        as_user("nobody-such")


@pytest.mark.parametrize(
    "one",
    [
        process("slurmctld", "slurmctld", "-D", "-f", f"{ROOT}/slurm.conf"),
        process("slurmdbd", "slurmdbd", "-D", folder=str(ROOT)),
        process("slurmstepd", "slurmstepd: [1.batch]", folder=str(ROOT)),
        process("mariadbd", "mariadbd", f"--datadir={ROOT}/mysql/data"),
        process("sleep", "sleep", environment=(f"SLURM_CONF={ROOT}/slurm.conf", "SLURM_JOB_ID=1")),
        process("srun", "srun", "-n1", "x", environment=(f"SLURM_CONF={ROOT}/slurm.conf",)),
    ],
)
def test_daemons_steps_tasks_and_waiting_clients_belong_to_their_cluster_alone(one: Process) -> None:
    assert belongs(one, ROOT)
    assert not belongs(one, Path("/srv/test/throwaway-slurm"))


@pytest.mark.parametrize(
    "one",
    [
        process("bash", "bash", environment=(f"SLURM_CONF={ROOT}/slurm.conf",), folder=str(ROOT)),
        process("tail", "tail", "-f", f"{ROOT}/log/slurmctld.log"),
        process("slurmd"),
    ],
)
def test_who_only_looks_at_a_cluster_and_zombies_do_not_belong_to_it(one: Process) -> None:
    assert not belongs(one, ROOT)


@pytest.mark.parametrize("name", ["slurmctld", "slurmd", "slurmdbd", "munged"])
def test_a_daemon_that_is_not_ours_is_a_slurm_in_use(name: str) -> None:
    reason = slurm_in_use([process(name, f"/usr/sbin/{name}")], [])
    assert reason is not None
    assert f"{name} (process 4711)" in reason


def test_a_configuration_in_etc_is_a_slurm_in_use() -> None:
    assert "/etc/slurm-llnl/slurm.conf" in str(slurm_in_use([], [Path("/etc/slurm-llnl/slurm.conf")]))


@pytest.mark.parametrize(
    "one",
    [
        process("slurmd", "slurmd", "-N", "n1", "-f", f"{ROOT}/slurm.conf"),
        process("slurmdbd", "slurmdbd", "-D", folder="/tmp/throwaway-slurm-0123456789"),
        process("munged", "munged", f"--socket={ROOT}/munge/socket"),
        process("slurmd"),
        process("mariadbd", "/usr/sbin/mariadbd"),
        process("redis-server", "/usr/bin/redis-server"),
        process("vim", "vim", "slurmctld"),
    ],
)
def test_throw_away_daemons_zombies_and_databases_are_no_slurm_in_use(one: Process) -> None:
    assert slurm_in_use([one], []) is None


def test_a_process_is_read_with_its_command_environment_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "4711"
    folder.mkdir()
    (folder / "stat").write_text("4711 (odd) name) S 7 4711 4711 0")
    (folder / "cmdline").write_bytes(b"slurmd\0-N\0n1\0")
    (folder / "environ").write_bytes(b"A=1\0B=\xff\0")
    (folder / "cwd").symlink_to("/somewhere")
    (tmp_path / "12").mkdir()  # one that ended while we looked
    command, environment = ("slurmd", "-N", "n1"), ("A=1", "B=\ufffd")
    assert read_processes(tmp_path) == [Process(4711, 7, "odd) name", command, environment, "/somewhere")]


def test_a_package_is_missing_while_one_of_its_programs_is_not_there(tmp_path: Path) -> None:
    for name in ("munged", "slurmd"):
        (tmp_path / name).touch(mode=0o755)
    assert missing(["munge", "slurmd", "slurmctld"], str(tmp_path)) == ["slurmd", "slurmctld"]


def test_nothing_is_installed_where_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "refusal", lambda: "a Slurm works here")
    monkeypatch.setattr(packages, "_apt", lambda *command: pytest.fail(f"{command} was run"))
    with pytest.raises(NotPossible, match="a Slurm works here"):
        packages.install(["munge"])


def test_the_machine_s_own_policy_comes_back_also_after_a_failure(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("its own")
    policy.chmod(0o700)
    with pytest.raises(ClusterError), no_services(policy):
        assert policy.read_text() == POLICY_TEXT
        assert policy.stat().st_mode & 0o777 == 0o755
        raise ClusterError
    assert policy.read_text() == "its own"
    assert policy.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == [policy]


@pytest.mark.parametrize("left", [None, POLICY_TEXT])
def test_where_there_was_no_policy_none_stays(tmp_path: Path, left: str | None) -> None:
    policy = tmp_path / "policy-rc.d"
    if left:  # by an installation that was killed
        policy.write_text(left)
    with no_services(policy):
        assert policy.read_text() == POLICY_TEXT
    assert not policy.exists()


def test_a_policy_set_aside_by_an_installation_that_was_killed_comes_back(tmp_path: Path) -> None:
    policy, aside = tmp_path / "policy-rc.d", tmp_path / "policy-rc.d.aside"
    policy.write_text(POLICY_TEXT)
    aside.write_text("its own")
    with no_services(policy):
        pass
    assert policy.read_text() == "its own"
    assert not aside.exists()
