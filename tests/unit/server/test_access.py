"""The access rules and their compiled table against a naive model of the 16-way tree."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast._access import AccessView
from ntpd_fast.config.model import AccessRule, IPAddress, Where
from ntpd_fast.server.access import AccessTable, AccessTableFull, IPNetwork

Rule = tuple[IPNetwork | None, bool, bool]


class NaiveModel:
    """States by bit-string prefix whose length is a multiple of 4; the longest one present answers."""

    def __init__(self) -> None:
        self.states: dict[int, dict[str, bool]] = {4: {"": False}, 6: {"": False}}

    def set(self, network: IPNetwork | None, allow: bool, all_below: bool) -> None:
        if network is None:
            for version in (4, 6):
                self._write(version, [""], allow, all_below)
            return
        width = network.max_prefixlen
        bits = format(int(network.network_address), f"0{width}b")[: network.prefixlen]
        missing = -len(bits) % 4
        prefixes = [bits + format(i, f"0{missing}b") for i in range(1 << missing)] if missing else [bits]
        self._write(network.version, prefixes, allow, all_below)

    def _write(self, version: int, prefixes: list[str], allow: bool, all_below: bool) -> None:
        states = self.states[version]
        for prefix in prefixes:
            if all_below:
                for longer in [p for p in states if p.startswith(prefix)]:
                    del states[longer]
            states[prefix] = allow

    def check(self, address: IPAddress) -> bool:
        bits = format(int(address), f"0{address.max_prefixlen}b")
        states = self.states[address.version]
        return next(states[bits[:n]] for n in range(len(bits), -1, -4) if bits[:n] in states)


def build(rules: list[Rule]) -> AccessTable:
    table = AccessTable()
    for network, allow, all_below in rules:
        table.set(network, allow, all_below=all_below)
    return table


# Few distinct bits, so that rules overlap, nest and overwrite each other.
v4_numbers = st.one_of(st.sampled_from([0, 0x0A000000, 0x0A0A0A0A, 0xC0A80001, 0xFFFFFFFF]), st.integers(0, 2**32 - 1))
v6_numbers = st.one_of(
    st.sampled_from([0, 1, 0x20010DB8 << 96, (0x20010DB8 << 96) | 0xFF, 2**128 - 1]),
    st.integers(0, 2**128 - 1),
)
networks = st.one_of(
    st.none(),
    st.builds(lambda n, p: IPv4Network((n, p), strict=False), v4_numbers, st.integers(0, 32)),
    st.builds(lambda n, p: IPv6Network((n, p), strict=False), v6_numbers, st.integers(0, 128)),
)
rules = st.lists(st.tuples(networks, st.booleans(), st.booleans()), max_size=12)
addresses = st.one_of(st.builds(IPv4Address, v4_numbers), st.builds(IPv6Address, v6_numbers))


def around(network: IPNetwork) -> list[IPAddress]:
    """The first and last addresses inside a network and the ones just outside."""
    first, last = int(network.network_address), int(network.broadcast_address)
    make = IPv4Address if network.version == 4 else IPv6Address
    top = 2**network.max_prefixlen - 1
    return [make(n) for n in {max(first - 1, 0), first, last, min(last + 1, top)}]


@settings(max_examples=300, deadline=None)
@given(rules, st.lists(addresses, max_size=10))
def test_tree_and_table_answer_as_the_naive_model(rules: list[Rule], probes: list[IPAddress]) -> None:
    model = NaiveModel()
    for rule in rules:
        model.set(*rule)
    table = build(rules)
    view = AccessView(table.compile())
    for network, _, _ in rules:
        if network is not None:
            probes = probes + around(network)
    for probe in probes:
        expected = model.check(probe)
        assert table.is_allowed(probe) is expected
        assert view.check(probe.packed) is expected
    for family in (4, 6):
        assert view.any_allowed(family) is table.any_allowed(family)
        if any(model.check(probe) for probe in probes if probe.version == family):
            assert table.any_allowed(family)


def test_nothing_is_allowed_without_rules() -> None:
    table = AccessTable()
    assert not table.is_allowed(ip_address("127.0.0.1"))
    assert not table.any_allowed(4)
    assert not table.any_allowed(6)
    assert not AccessView(table.compile()).check(bytes(16))


def test_longer_prefix_wins_in_any_order() -> None:
    wide, narrow = ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16")
    for rules in (
        [(wide, True, False), (narrow, False, False)],
        [(narrow, False, False), (wide, True, False)],
    ):
        table = build(rules)
        assert table.is_allowed(ip_address("10.2.0.1"))
        assert not table.is_allowed(ip_address("10.1.0.1"))


def test_all_overrides_earlier_narrower_rules_only() -> None:
    narrow, wide = ip_network("10.1.0.0/16"), ip_network("10.0.0.0/8")
    table = build([(narrow, False, False), (wide, True, True)])
    assert table.is_allowed(ip_address("10.1.0.1"))
    table.set(narrow, False)
    assert not table.is_allowed(ip_address("10.1.0.1"))


def test_prefixes_of_one_level_overwrite_in_order() -> None:
    table = build([(ip_network("10.0.0.0/8"), True, False), (ip_network("10.0.0.0/7"), False, False)])
    assert not table.is_allowed(ip_address("10.0.0.1"))


def test_a_rule_without_address_is_for_both_families() -> None:
    table = build([(None, True, False)])
    assert table.any_allowed(4)
    assert table.any_allowed(6)
    table.set(None, False, all_below=True)
    assert not table.any_allowed(4)
    assert not table.any_allowed(6)


def test_any_allowed_sees_through_a_root_that_is_overridden_everywhere() -> None:
    table = build([(ip_network("0.0.0.0/0"), True, False)])
    table.set(ip_network("0.0.0.0/1"), False)
    table.set(ip_network("128.0.0.0/1"), False)
    assert not table.any_allowed(4)
    assert not AccessView(table.compile()).any_allowed(4)


def test_mapped_addresses_are_ipv6() -> None:
    table = build([(ip_network("10.0.0.0/8"), True, False)])
    assert not table.is_allowed(ip_address("::ffff:10.0.0.1"))


def test_builder_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    table = AccessTable(nodes_max=2 + 8)
    table.set(ip_address("192.0.2.1"), True)
    with pytest.raises(AccessTableFull, match=r"198\.51\.100\.1/32"):
        table.set(ip_address("198.51.100.1"), True)
    assert table.is_allowed(ip_address("192.0.2.1"))
    assert not table.is_allowed(ip_address("198.51.100.1"))
    table.set(None, False, all_below=True)
    table.set(ip_address("198.51.100.1"), True)
    assert table.is_allowed(ip_address("198.51.100.1"))


def test_rules_of_a_configuration() -> None:
    table = AccessTable.from_rules(
        [
            AccessRule(True, False, ip_address("10.1.2.3"), 8),
            AccessRule(True, False, ip_address("2001:db8::5"), 32),
            AccessRule(False, False, ip_address("10.1.0.0"), 16),
            AccessRule(True, True, ip_address("10.1.2.0"), 24),
        ]
    )
    assert table.is_allowed(ip_address("10.9.9.9"))
    assert not table.is_allowed(ip_address("10.1.9.9"))
    assert table.is_allowed(ip_address("10.1.2.9"))
    assert table.is_allowed(ip_address("2001:db8:ffff::"))
    assert not table.is_allowed(ip_address("2001:db9::"))
    table.set_rule(AccessRule(False, True, None, 0))
    assert not table.any_allowed(4)
    with pytest.raises(ValueError):
        table.set_rule(AccessRule(True, False, ip_address("10.1.2.3"), 33))


def test_a_configuration_that_does_not_fit_names_the_line() -> None:
    rule = AccessRule(True, False, ip_address("2001:db8::5"), 128, Where("/etc/ntp.conf", 7))
    with pytest.raises(AccessTableFull, match=r"2001:db8::5/128.* at line 7 in file /etc/ntp\.conf"):
        AccessTable.from_rules([rule], nodes_max=10)


def test_compiled_size_is_bounded() -> None:
    table = build([(ip_address("192.0.2.1"), True, False)])
    size = len(table.compile())
    assert len(table.compile(size)) == size
    with pytest.raises(AccessTableFull, match=f"needs {size} bytes"):
        table.compile(size - 1)


def test_many_scattered_networks_fit_the_default_bounds() -> None:
    table = AccessTable()
    step = 2**32 // 20000
    for i in range(10000):
        table.set(IPv4Network((i * 2 * step & 0xFFFFFF00, 24)), True)
    compiled = table.compile()
    view = AccessView(compiled)
    assert len(compiled) < 3_000_000
    for i in range(0, 10000, 7):
        base = i * 2 * step & 0xFFFFFF00
        assert view.check(struct.pack(">I", base + 255))
        assert not view.check(struct.pack(">I", base + step & 0xFFFFFF00))


@settings(max_examples=300, deadline=None)
@given(rules, st.data())
def test_damaged_tables_are_refused_or_safe(rules: list[Rule], data: st.DataObject) -> None:
    damaged = bytearray(build(rules).compile())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) // 4 - 1)) * 4
        struct.pack_into("=I", damaged, at, data.draw(st.integers(0, 2**32 - 1)))
    try:
        view = AccessView(damaged)
    except ValueError:
        return
    for probe in (bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16):
        assert view.check(probe) in (True, False)


@pytest.mark.parametrize("cut", [0, 1, 63, -4])
def test_short_tables_are_refused(cut: int) -> None:
    compiled = build([(ip_address("192.0.2.1"), True, False)]).compile()
    with pytest.raises(ValueError):
        AccessView(compiled[:cut])
