"""Which sockets, how many workers: decided from the configuration alone."""

import socket

import pytest

from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.config import parse_lines
from ntpd_fast.config.model import BIND_ADDRESSES_MAX
from ntpd_fast.control.plan import command_socket_plan, make_plan, plan_memory
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.server.channel import MESSAGE_BYTES, Verb

RUN = RunOptions(command_socket="/run/x.sock")
SINGLE = RunOptions(single_process=True)
ONCE = RunOptions(mode=ReferenceMode.PRINT_ONCE, command_socket="/run/x.sock", single_process=True)


def binds(*lines, run=RUN):
    return [str(bind) for bind in make_plan(parse_lines(lines), run, cpus=4).binds]


def workers(*lines, run=RUN, cpus=4):
    return make_plan(parse_lines(lines), run, cpus=cpus).workers


def test_sockets_only_where_somebody_may_ask():
    assert binds() == []
    assert binds("allow") == ["0.0.0.0:123", "[::]:123"]
    assert binds("allow 10.0.0.0/8", "port 1123") == ["0.0.0.0:1123"]
    assert binds("allow ::1") == ["[::]:123"]
    assert binds("allow 10.0.0.0/8", "deny all") == []
    assert binds("allow", "port 0") == []


def test_bound_addresses():
    assert binds("allow", "bindaddress 192.0.2.1") == ["192.0.2.1:123", "[::]:123"]
    assert binds("allow", "bindaddress 192.0.2.1", "bindaddress 2001:db8::1") == ["192.0.2.1:123", "[2001:db8::1]:123"]


def test_a_family_is_served_on_all_of_its_bound_addresses():
    lines = ("allow", "bindaddress 192.0.2.1", "bindaddress 2001:db8::1", "bindaddress 192.0.2.2")
    assert binds(*lines) == ["192.0.2.1:123", "192.0.2.2:123", "[2001:db8::1]:123"]
    assert binds(*lines, "ptpport 319")[3:] == ["192.0.2.1:319", "192.0.2.2:319", "[2001:db8::1]:319"]
    assert binds(*lines, "bindaddress 0.0.0.0") == ["0.0.0.0:123", "[2001:db8::1]:123"]
    nts = make_plan(parse_lines([*lines, "ntsservercert /c", "ntsserverkey /k"]), RUN, cpus=4).nts
    assert nts is not None
    assert [str(bind) for bind in nts.binds] == ["192.0.2.1:4460", "192.0.2.2:4460", "[2001:db8::1]:4460"]


def test_the_supervisor_can_name_all_addresses_there_may_be_in_one_message():
    networks = ("198.51.100.1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ff")
    addresses = [f"{network}{last}" for network in networks for last in range(10, 26)]
    names = binds("allow", "port 65534", "ptpport 65535", *(f"bindaddress {address}" for address in addresses))
    assert len(names) == 4 * BIND_ADDRESSES_MAX
    assert len(f"{Verb.CONFIGURE.word} {' '.join(names)}") < MESSAGE_BYTES


def test_family_of_the_command_line():
    assert binds("allow", run=RunOptions(family=4)) == ["0.0.0.0:123"]
    assert binds("allow", run=RunOptions(family=6)) == ["[::]:123"]


def test_peers_and_broadcasts_need_the_server_socket():
    assert binds("peer 192.0.2.1") == ["0.0.0.0:123", "[::]:123"]
    assert binds("server 192.0.2.1") == []
    assert binds("broadcast 60 192.0.2.255") == ["0.0.0.0:123"]


def test_requests_from_the_server_port_need_its_socket():
    assert binds("acquisitionport 123") == ["0.0.0.0:123", "[::]:123"]
    assert binds("acquisitionport 1123") == []
    assert binds("acquisitionport 0", "port 0") == []


def test_run_for_one_measurement_opens_only_what_was_asked_for():
    assert binds("allow", run=ONCE) == []
    assert binds("allow", "port 123", run=ONCE) == ["0.0.0.0:123", "[::]:123"]


@pytest.mark.parametrize(
    ("lines", "run", "count"),
    [
        (["allow"], RUN, 4),
        ([], RUN, 0),
        (["workers 3"], RUN, 0),
        (["workers 3", "acquisitionport 123"], RUN, 0),
        (["workers 3", "acquisitionport 123", "allow"], RUN, 3),
        (["allow", "workers 3"], RUN, 3),
        (["allow", "workers 0"], RUN, 0),
        (["allow"], SINGLE, 0),
        (["allow", "workers 2"], SINGLE, 2),
    ],
)
def test_workers(lines, run, count):
    assert workers(*lines, run=run) == count


def test_workers_are_bounded():
    assert workers("allow", cpus=1000) == 256


def test_options_of_sockets():
    plan = make_plan(parse_lines(["dscp 46", "binddevice eth7"]), RUN, cpus=1)
    assert (plan.socket_options.dscp, plan.socket_options.device) == (46, "eth7")


def test_memory():
    assert plan_memory(parse_lines(["noclientlog"]), 2, None).shared.log_blocks == 0
    memory = plan_memory(parse_lines([]), 2, None)
    assert memory.shared.workers == 2
    assert memory.shared.log_blocks > 0
    assert memory.warnings == ()
    small = plan_memory(parse_lines(["clientloglimit 1"]), 2, None)
    assert "too small" in small.warnings[0]
    assert small.shared.log_blocks >= 1


def test_command_sockets():
    plan = command_socket_plan(parse_lines([]), RUN, 1, 2)
    assert (plan.unix_path, plan.port, plan.uid, plan.gid) == ("/run/x.sock", 323, 1, 2)
    assert [str(address) for address in plan.addresses] == ["127.0.0.1", "::1"]
    lines = ["bindcmdaddress /", "bindcmdaddress 192.0.2.1", "cmdport 0", "bindcmddevice eth7"]
    plan = command_socket_plan(parse_lines(lines), RunOptions(family=4), 0, 0)
    assert (plan.unix_path, plan.port, plan.device) == ("", 0, "eth7")
    assert [str(address) for address in plan.addresses] == ["192.0.2.1"]


def test_command_sockets_of_a_run_for_one_measurement():
    plan = command_socket_plan(parse_lines([]), ONCE, 0, 0)
    assert (plan.unix_path, plan.port) == ("", 0)
    plan = command_socket_plan(parse_lines(["bindcmdaddress /y.sock", "cmdport 323"]), ONCE, 0, 0)
    assert (plan.unix_path, plan.port) == ("/y.sock", 323)


def test_family_names_agree_with_the_system():
    assert {bind.family for bind in make_plan(parse_lines(["allow"]), RUN, cpus=1).binds} == {
        socket.AF_INET,
        socket.AF_INET6,
    }
