"""Server sockets follow the access rules of commands: opened and closed here, or by a supervisor that is told."""

from collections.abc import Collection
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from ntpd_fast.config import parse_lines
from ntpd_fast.control.serving import Serving
from ntpd_fast.control.setup import Setup
from tests.unit.control.families import is_free, make_setup, table, versions

NOTHING: Any = None


class Told:
    """An overseer; `said` is what it was told. With `supervises` it is not for control to open anything."""

    def __init__(self, supervises: bool) -> None:
        self.supervises = supervises
        self.said: list[tuple[set[int], int]] = []

    def serve_families(self, families: Collection[int], reloads: int) -> bool:
        self.said.append((set(families), reloads))
        return self.supervises


class Here(Serving):
    """Without an engine."""

    def serve(self, opened: Any) -> None:
        pass


def make_serving(setup: Setup, *, supervised: bool = False, peers: tuple[str, ...] = ()) -> tuple[Serving, Told, Any]:
    overseer: Any = Told(supervised)
    poller = SimpleNamespace(attach_server_socket=lambda *_, **__: None, detach_server_socket=lambda sock: None)
    sources = SimpleNamespace(
        facts=SimpleNamespace(serving=True),
        ntp_sources=[SimpleNamespace(address=ip_address(peer), is_peer=True, port=123) for peer in peers],
    )
    upstream: Any = SimpleNamespace(poller=poller, sources=sources)
    return Here(NOTHING, NOTHING, setup, overseer, upstream), overseer, sources


def test_one_process_opens_and_closes_what_the_rules_say() -> None:
    setup = make_setup("allow")
    serving, _, sources = make_serving(setup)
    assert versions(setup) == [4, 6]
    serving.follow(table("allow", "deny all 0/0"))
    assert (versions(setup), is_free(setup, 4)) == ([6], True)
    assert sources.facts.serving
    serving.follow(table())
    assert (versions(setup), is_free(setup, 6)) == ([], True)
    assert not sources.facts.serving
    serving.follow(table("allow 127.0.0.1"))
    assert (versions(setup), is_free(setup, 4)) == ([4], False)
    assert sources.facts.serving
    setup.ntp_sockets.close()


def test_a_supervisor_is_told_what_is_left_and_only_when_that_is_another() -> None:
    setup = make_setup("allow")
    serving, overseer, _ = make_serving(setup, supervised=True)
    serving.follow(table("allow", "deny 10/8"))
    del overseer.said[:]
    serving.follow(table("allow", "deny 10/8", "deny 11/8"))
    assert overseer.said == []
    setup.reloads.add(["maxdrift_ppm"])
    serving.follow(table("allow ::1"))
    serving.follow(table())
    serving.follow(table("allow"))
    assert overseer.said == [({6}, 1), (set(), 1), ({4, 6}, 1)]
    # what is closed is the supervisor's to say
    assert versions(setup) == [4, 6]
    setup.ntp_sockets.close()


@pytest.mark.parametrize("line", ["peer 192.0.2.1", "broadcast 60 192.0.2.255"])
def test_what_the_configuration_needs_stays_open(line: str) -> None:
    setup = make_setup("allow 127.0.0.1", line)
    serving, _, _ = make_serving(setup)
    serving.follow(table())
    assert 4 in versions(setup)
    setup.ntp_sockets.close()


def test_what_a_peer_of_a_command_needs_stays_open() -> None:
    setup = make_setup("allow")
    serving, _, _ = make_serving(setup, peers=("192.0.2.1",))
    serving.follow(table())
    assert versions(setup) == [4]
    assert [bind.version for bind in setup.wanted_binds(setup.config)] == [4]
    setup.ntp_sockets.close()


def test_what_was_handed_over_stays_open_while_the_configuration_wants_it() -> None:
    setup = make_setup("allow")
    serving, _, _ = make_serving(setup)
    setup.ntp_sockets.groups[0].inherited = True
    serving.follow(table())
    assert versions(setup) == [4]
    denied = parse_lines([f"port {setup.config.port}"])
    assert setup.wanted_binds(denied) == []
    setup.ntp_sockets.close()


def test_reloads_with_the_same_rules_keep_what_commands_have_said() -> None:
    setup = make_setup("allow")
    serving, _, _ = make_serving(setup)
    serving.follow(table("allow ::1"))
    port = f"port {setup.config.port}"
    same = parse_lines([port, "allow", "maxdrift 100"])
    assert [bind.version for bind in setup.wanted_binds(same)] == [6]
    other = parse_lines([port, "allow 127.0.0.1"])
    assert [bind.version for bind in setup.wanted_binds(other)] == [4]
    setup.ntp_sockets.close()
