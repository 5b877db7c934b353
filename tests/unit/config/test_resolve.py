"""Literals and host names."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from ntpd_fast.config.resolve import parse_address, system_resolver


@pytest.mark.parametrize(
    "word", ["", "x", "1.2.3", "1.2.3.04", "1.2.3.4 ", "::1%lo", "::g", "1.2.3.4/8", "a\0b", "\udcff"]
)
def test_what_is_no_literal(word: str) -> None:
    assert parse_address(word) is None


def test_system_resolver() -> None:
    assert system_resolver(4)("localhost") == IPv4Address("127.0.0.1")
    assert system_resolver(6)("::1") == IPv6Address("::1")
    assert system_resolver()("127.0.0.1") == IPv4Address("127.0.0.1")
    # What only the old forms of inet_aton mean is an address to getaddrinfo.
    assert system_resolver()("1.2.3.04") == IPv4Address("1.2.3.4")
    assert system_resolver(6)("127.0.0.1") is None


@pytest.mark.parametrize("name", ["", "a" * 64 + ".invalid", "a" * 2000, "..", "\udcff", "x\0y", "1.2.3.4.5"])
def test_system_resolver_never_raises(name: str) -> None:
    system_resolver()(name)
