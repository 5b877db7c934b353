"""Subnets of access rules."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from ntpd_fast.config import ConfigError
from ntpd_fast.config.access import parse_subnet
from ntpd_fast.config.model import AccessRule, IPAddress
from tests.unit.config.conftest import hosts, parse


def v4(address: str) -> IPAddress:
    return IPv4Address(address)


def v6(address: str) -> IPAddress:
    return IPv6Address(address)


@pytest.mark.parametrize(
    ("word", "address", "prefix_len"),
    [
        ("192.0.2.1", v4("192.0.2.1"), 32),
        ("192.0.2.1/24", v4("192.0.2.1"), 24),
        ("192.0.2.1/0", v4("192.0.2.1"), 0),
        ("192.0.2.1/+8", v4("192.0.2.1"), 8),
        ("192.0.2.1/33", v4("192.0.2.1"), 33),
        ("192.0.2.1/99999999999", v4("192.0.2.1"), 2**31 - 1),
        ("11", v4("11.0.0.0"), 8),
        ("010.1", v4("10.1.0.0"), 16),
        ("192.168.5", v4("192.168.5.0"), 24),
        ("172.16/12", v4("172.16.0.0"), 12),
        ("+7.+1", v4("7.1.0.0"), 16),
        ("0/0", v4("0.0.0.0"), 0),
        ("::1", v6("::1"), 128),
        ("2001:db8::/32", v6("2001:db8::"), 32),
        ("::ffff:192.0.2.1", v6("::ffff:192.0.2.1"), 128),
        ("localhost", v4("127.0.0.1"), 32),
    ],
)
def test_subnet(word: str, address: IPAddress, prefix_len: int) -> None:
    assert parse_subnet(word, hosts) == (address, prefix_len)


@pytest.mark.parametrize(
    "word",
    [
        "256", "10.300", "10.", ".1", "1..2", "10.1.2.3.", "1.2.3.4.5", "-1", "/8", "10/", "10/-1", "10/8x", "10/x",
        "1.2.3.4/", "::1/", "::1/-1", "fe80::1%lo", "fe80::1%lo/64", "localhost/8", "nohost.invalid", "ALL", "１０",
    ],
)  # fmt: skip
def test_no_subnet(word: str) -> None:
    assert parse_subnet(word, hosts) is None
    for name in ("allow", "deny", "cmdallow", "cmddeny"):
        with pytest.raises(ConfigError) as error:
            parse(f"{name} {word}")
        assert str(error.value) == f"Could not parse {name} directive at line 1"


def test_short_form_is_never_a_host_name() -> None:
    """inet_aton would read 300 as 0.0.1.44."""

    def every_name(name: str) -> IPAddress | None:
        raise AssertionError(name)

    assert parse_subnet("300", every_name) is None


def test_rules_keep_their_order_over_both_directives() -> None:
    config = parse("allow", "deny all", "allow all 10/8", "cmddeny 192.0.2.1", "deny ::/0", "cmdallow all ::1")
    assert config.access == (
        AccessRule(True, False, None, 0),
        AccessRule(False, True, None, 0),
        AccessRule(True, True, v4("10.0.0.0"), 8),
        AccessRule(False, False, v6("::"), 0),
    )
    assert config.cmd_access == (
        AccessRule(False, False, v4("192.0.2.1"), 32),
        AccessRule(True, True, v6("::1"), 128),
    )
    assert config.access[2].where.line == 3


@pytest.mark.parametrize("line", ["allow 10.0.0.1 10.0.0.2", "allow all all", "allow 10/8 all", "allow all 10/8 x"])
def test_one_subnet_a_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^Could not parse allow directive at line 1$"):
        parse(line)
