"""Only loopback, and what the user says is theirs, may be put under load."""

import ipaddress

import pytest

from loadtest.targets import TargetRefusedError, target


@pytest.mark.parametrize("address", ["127.0.0.1", "127.200.1.1", "::1"])
def test_loopback_needs_no_permission(address: str) -> None:
    assert str(target(address, 123).address) == address


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "0.0.0.0", "::ffff:192.0.2.1"])
def test_others_are_refused(address: str) -> None:
    with pytest.raises(TargetRefusedError):
        target(address, 123)


def test_others_are_allowed_by_network() -> None:
    network = ipaddress.ip_network("192.0.2.0/24")
    assert str(target("192.0.2.77", 123, [network])) == "192.0.2.77:123"
    with pytest.raises(TargetRefusedError):
        target("192.0.3.77", 123, [network])


def test_an_ipv6_target_is_written_with_brackets() -> None:
    assert str(target("::1", 11123)) == "[::1]:11123"


@pytest.mark.parametrize(("address", "port"), [("127.0.0.1", 0), ("127.0.0.1", 65536), ("localhost", 123)])
def test_nonsense_is_refused(address: str, port: int) -> None:
    with pytest.raises(ValueError):
        target(address, port)
