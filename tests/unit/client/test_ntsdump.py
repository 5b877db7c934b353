"""Dump files of NTS sources: chrony's format, used once, hostile contents refused."""

import os
import stat
from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ntpd_fast.client.nts_auth import NtsState
from ntpd_fast.client.ntsdump import DumpError, format_dump, load, parse_dump, save

STATE = NtsState(
    "ntp.example.test",
    1700000000.5,
    ip_address("192.0.2.1"),
    123,
    3,
    15,
    bytes(range(32)),
    bytes(range(32, 64)),
    (bytes(100), bytes([255]) * 100),
)
S2C, C2S = bytes(range(32)).hex().upper(), bytes(range(32, 64)).hex().upper()
DUMP = (f"NNC0\nntp.example.test\n1700000000.5\n192.0.2.1 123\n3 15 {S2C} {C2S}\n{'00' * 100}\n{'FF' * 100}\n").encode()


def test_format():
    assert format_dump(STATE) == DUMP
    assert parse_dump(DUMP) == STATE
    six = DUMP.replace(b"192.0.2.1 123", b"2001:db8::1 4123")
    assert (parse_dump(six).ntp_address, parse_dump(six).ntp_port) == (ip_address("2001:db8::1"), 4123)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NNC0", b"NNC1"),
        (b"ntp.example.test", b""),
        (b"ntp.example.test", b"two words"),
        (b"ntp.example.test", b"x" * 256),
        (b"ntp.example.test", b"ntp.ex\xe4mple.test"),
        (b"1700000000.5", b"yesterday"),
        (b"1700000000.5", b"nan"),
        (b"192.0.2.1 123", b"192.0.2.1"),
        (b"192.0.2.1 123", b"192.0.2.1 0"),
        (b"192.0.2.1 123", b"192.0.2.1 65536"),
        (b"192.0.2.1 123", b"192.0.2.1 -1"),
        (b"192.0.2.1 123", b"name 123"),
        (b"3 15", b"-3 15"),
        (b"3 15", b"4294967296 15"),
        (b"3 15", b"3 16"),
        (b"3 15", b"3 30"),
        (b"3 15", b"3"),
        (S2C.encode(), S2C.encode()[2:]),
        (S2C.encode(), S2C.encode().replace(b"00", b"0x")),
        (b"00" * 100, b"00" * 99),
        (b"00" * 100, b"00" * 260),
        (b"00" * 100, b"0" * 199),
        (b"00" * 100, b""),
        (b"00" * 100, b"zz" * 100),
        (b"\n" + b"00" * 100 + b"\n" + b"FF" * 100, b""),
        (b"FF" * 100 + b"\n", (b"FF" * 100 + b"\n") * 8),
        (b"FF" * 100 + b"\n", b"FF" * 100),
    ],
)
def test_what_does_not_fit_is_refused(old, new):
    assert old in DUMP
    with pytest.raises(DumpError) as refused:
        parse_dump(DUMP.replace(old, new))
    assert C2S[:8] not in str(refused.value)


@given(st.binary(max_size=1000))
@example(DUMP)
@settings(deadline=None)
def test_any_file_parses_or_is_refused(data):
    try:
        state = parse_dump(data)
    except DumpError:
        return
    assert parse_dump(format_dump(state)).cookies == state.cookies


@given(st.integers(0, len(DUMP) - 1), st.integers(0, 255))
@settings(deadline=None, max_examples=500)
def test_any_changed_byte_parses_or_is_refused(position, value):
    try:
        state = parse_dump(DUMP[:position] + bytes([value]) + DUMP[position + 1 :])
    except DumpError:
        return
    assert len(state.cookies) == 2


def test_a_file_is_used_once(tmp_path):
    address = ip_address("192.0.2.1")
    assert load(str(tmp_path), address) is None
    save(str(tmp_path), address, STATE)
    path = tmp_path / "192.0.2.1.nts"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == DUMP
    assert load(str(tmp_path), address) == STATE
    assert os.listdir(tmp_path) == []


def test_a_bad_file_is_removed_too(tmp_path):
    path = tmp_path / "2001:db8::1.nts"
    path.write_bytes(b"nonsense")
    with pytest.raises(DumpError):
        load(str(tmp_path), ip_address("2001:db8::1"))
    assert not path.exists()
    path.write_bytes(bytes(100000))
    with pytest.raises(DumpError, match="longer"):
        load(str(tmp_path), ip_address("2001:db8::1"))
