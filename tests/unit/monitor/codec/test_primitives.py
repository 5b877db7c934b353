"""Floats, times and addresses are encoded bit by bit as chrony encodes them, and any word decodes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.monitor.codec.address import (
    UNSPECIFIED,
    Address,
    Family,
    decode_address,
    encode_address,
)
from ntpd_fast.monitor.codec.floats import decode_float, encode_float
from ntpd_fast.monitor.codec.layout import decode_time, encode_time
from tests.cmdmon_vectors import vectors


@pytest.mark.parametrize("vector", vectors()["floats"], ids=lambda v: v["hex"])
def test_float_vectors(vector):
    value = math.nan if vector["value"] is None else vector["value"]
    assert encode_float(value) == int(vector["hex"], 16)
    assert decode_float(int(vector["hex"], 16)) == vector["decoded"]


@given(st.integers(0, 2**32 - 1))
def test_any_word_decodes_to_a_number_that_encodes_to_the_same_value(word):
    value = decode_float(word)
    assert math.isfinite(value)
    assert decode_float(encode_float(value)) == value


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_encodes_within_the_precision_of_the_format(value):
    word = encode_float(value)
    assert 0 <= word < 2**32
    if 1e-18 < abs(value) < 4e18:
        assert math.isclose(decode_float(word), value, rel_tol=2.0**-23)
    assert word != 1 << 24 or value < 0


@pytest.mark.parametrize("vector", vectors()["timespecs"], ids=lambda v: v["hex"])
def test_time_vectors(vector):
    assert decode_time(bytes.fromhex(vector["hex"])) == vector["sec"] * 10**9 + vector["nsec"]


@given(st.integers(-(2**62), 2**62))
def test_times_before_and_after_the_epoch_survive(time_ns):
    assert decode_time(encode_time(time_ns)) == time_ns


def test_a_time_of_1850_has_the_high_word_of_a_negative_number():
    assert encode_time(-3_786_825_600 * 10**9).hex() == "ffffffff1e49a08000000000"


@pytest.mark.parametrize("vector", vectors()["addresses"], ids=lambda v: v["hex"])
def test_address_vectors(vector):
    address = UNSPECIFIED if vector["text"] is None else Address.parse(vector["text"])
    assert address is not None
    assert encode_address(address).hex() == vector["hex"]
    assert decode_address(bytes.fromhex(vector["hex"])) == address
    assert str(address) == (vector["text"] or "[UNSPEC]")


def test_an_unknown_family_reads_as_unspecified():
    assert decode_address(bytes.fromhex("7f000001" + "00" * 12 + "00090000")) == UNSPECIFIED


@pytest.mark.parametrize("text", ["", "1.2.3", "ID#", "ID#x", "ID#4294967296", "::g", "a\0b", "ID#²"])
def test_what_is_no_literal_is_refused(text):
    assert Address.parse(text) is None


def test_an_address_of_the_wrong_length_is_our_bug():
    with pytest.raises(ValueError, match="3 bytes"):
        encode_address(Address(Family.INET4, b"\1\2\3"))


def test_ipaddress_objects_convert_both_ways():
    for text in ("192.0.2.1", "2001:db8::1"):
        address = Address.parse(text)
        assert address is not None
        assert Address.from_ip(address.ip()) == address
    with pytest.raises(ValueError, match="not an IP"):
        UNSPECIFIED.ip()
