"""NTP over PTP: the prefix as recorded, and everything else refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast._ptp import PREFIX_LENGTH, unwrap, wrap

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text())["ptp_wrap"]
NTP = bytes.fromhex(VECTORS["ntp"])
WRAPPED = bytes.fromhex(VECTORS["wrapped_default_domain123_seq0"])


def changed(offset: int, value: int) -> bytes:
    return WRAPPED[:offset] + bytes([value]) + WRAPPED[offset + 1 :]


def test_the_recorded_prefix() -> None:
    assert wrap(NTP, 123, 0) == WRAPPED
    assert wrap(NTP, 0, 1) == bytes.fromhex(VECTORS["wrapped_seq1_domain0"])
    assert unwrap(WRAPPED, 123) == NTP
    assert unwrap(bytes.fromhex(VECTORS["wrapped_correction_1500ns"]), 123) == NTP
    # up to 4.8 chronyd used an experimental TLV with another layout, which its development tree has given up
    assert unwrap(bytes.fromhex(VECTORS["captured_chronyd_4_8"]), 123) is None


@pytest.mark.parametrize(
    "datagram",
    [changed(0, 0x00), changed(0, 0x31), changed(5, 7), changed(1, 0x12), WRAPPED[:44] + b"\x80\0" + WRAPPED[46:]],
)
def test_accepted_forms(datagram: bytes) -> None:
    assert unwrap(datagram, 123) == NTP


@pytest.mark.parametrize(
    "datagram",
    [changed(0, 2), changed(1, 1), changed(1, 0x22), changed(3, 0), changed(4, 0), changed(6, 0), changed(7, 1),
     changed(45, 4), changed(47, 0), changed(50, 0), changed(53, 2), WRAPPED[:-1], WRAPPED + b"\0", b"", WRAPPED[:55],
     changed(1, 0x12)[:5] + b"\1" + WRAPPED[6:]],
)  # fmt: skip
def test_refused_forms(datagram: bytes) -> None:
    assert unwrap(datagram, 123) is None


@given(st.binary(max_size=1140), st.integers(0, 255), st.integers(0, 1 << 20))
def test_what_is_wrapped_comes_out_again(message: bytes, domain: int, sequence: int) -> None:
    assert unwrap(wrap(message, domain, sequence), domain) == message


@given(st.binary(max_size=200))
def test_random_datagrams(data: bytes) -> None:
    found = unwrap(data, 123)
    assert found is None or len(found) == len(data) - PREFIX_LENGTH
