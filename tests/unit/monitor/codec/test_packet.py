"""Every recorded packet decodes and encodes back to the same bytes; lengths are those of the specification."""

import struct

import pytest

from ntpd_fast.monitor.codec import packet as pk
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.address import Address
from ntpd_fast.monitor.codec.commands import COMMANDS, REPLIES, Access, Number, Status
from ntpd_fast.monitor.codec.layout import Layout
from tests.cmdmon_vectors import runs, synthetic

# Number: (length in 4.8, shortest length accepted), from the table of the protocol's description.
LENGTHS = {
    1: 60, 2: 60, 3: 68, 4: 44, 5: 44, 6: 28, 7: 44, 8: 44, 9: 28, 11: 40, 13: 28, 14: 32, 15: 76, 16: 28,
    17: 44, 18: 44, 19: 44, 20: 44, 21: 44, 22: 44, 23: 44, 24: 44, 25: 40, 26: 40, 29: 40, 30: 28, 31: 28,
    33: 104, 34: 84, 35: 56, 36: 28, 37: 28, 41: 416, 42: 28, 43: 28, 44: 48, 45: 44, 46: 44, 47: 44, 48: 28,
    49: 28, 50: 28, 51: 52, 52: 28, 53: 28, 54: 196, 56: 36, 57: 172, 62: 28, 63: 28, 64: 372, 65: 284,
    66: 28, 67: 52, 68: 520, 69: 76, 70: 28, 71: 28, 72: 52, 73: 48, 74: 48, 0x4E01: 316, 0x4E02: 552, 0x4E03: 552,
}  # fmt: skip
SHORTEST = {54: 72, 57: 152}
REPLY_LENGTHS = {
    1: 28, 2: 32, 3: 76, 5: 104, 6: 84, 7: 56, 12: 48, 13: 52, 16: 152, 17: 40, 18: 416, 19: 284, 20: 52,
    21: 520, 23: 76, 24: 72, 25: 196, 26: 172, 0x4E01: 316, 0x4E02: 552,
}  # fmt: skip


def exchanges():
    seen = set()
    for run in runs() + synthetic():
        for exchange in run["exchanges"]:
            key = exchange["request_hex"], exchange["reply_hex"]
            if key not in seen:
                seen.add(key)
                yield exchange


def test_every_command_has_the_specified_length():
    assert {number: command.length for number, command in COMMANDS.items()} == LENGTHS
    assert {n: c.length_min for n, c in COMMANDS.items() if c.length_min != c.length} == SHORTEST


def test_every_reply_has_the_specified_length():
    assert {number: reply.length for number, reply in REPLIES.items()} == REPLY_LENGTHS


def test_no_reply_is_longer_than_its_shortest_request():
    for command in COMMANDS.values():
        assert command.replies[-1].length <= command.length_min


def test_recorded_requests_encode_back():
    count = 0
    for exchange in exchanges():
        wire = bytes.fromhex(exchange["request_hex"])
        if len(wire) < 28:
            continue
        header = pk.decode_request_header(wire)
        command = COMMANDS.get(header.command)
        if command is None or len(wire) < command.length_min or wire[:4] != b"\6\1\0\0":
            continue
        payload = pk.decode_request(command, wire)
        again = pk.encode_request(command, payload, header.sequence, header.attempt)
        size = 20 + Layout.of(command.request).size
        significant = bytearray(wire[:size])
        significant[12:20] = bytes(8)
        if b"\0" in wire[24:280] or command.number != Number.ADD_SOURCE:
            assert again[:size] == significant, exchange["request"]
        assert again[size:].strip(b"\0") == b""
        count += 1
    assert count > 700


def test_recorded_replies_encode_back():
    count = 0
    for exchange in exchanges():
        if exchange["reply_hex"] is None:
            continue
        request = pk.decode_request_header(bytes.fromhex(exchange["request_hex"]))
        wire = bytes.fromhex(exchange["reply_hex"])
        header = pk.decode_reply_header(wire)
        reply = REPLIES.get(header.reply)
        if reply is None:
            assert pk.decode_reply(wire) is None
            continue
        payload = pk.decode_reply(wire)
        if payload is None:
            assert len(wire) < reply.length
            continue
        if reply.number == 1:
            again = pk.encode_reply(request, header.status)
        else:
            again = pk.encode_reply(request, header.status, reply, payload)
        assert again == _with_clean_slots(wire, payload)[: reply.length], exchange["reply"]
        count += 1
    assert count > 700


def _with_clean_slots(wire: bytes, payload: tuple) -> bytes:
    """Unused slots of lists hold whatever the recording's sender left there; "no high word" reads as 0."""
    clean = bytearray(wire.replace(bytes.fromhex("7fffffff588b"), bytes.fromhex("00000000588b")))
    if isinstance(payload, rep.ClientAccesses):
        clean[40 + 60 * len(payload.clients) : 520] = bytes(60 * (8 - len(payload.clients)))
    if isinstance(payload, rep.ManualList):
        clean[32 + 24 * len(payload.samples) : 416] = bytes(24 * (16 - len(payload.samples)))
    return bytes(clean)


def test_decoded_values_are_the_recorded_ones():
    names = {"ref_time": "ref_time_ns", "nak": "nak"}
    checked = 0
    for exchange in exchanges():
        if exchange["reply_hex"] is None or not exchange["reply"].get("data"):
            continue
        payload = pk.decode_reply(bytes.fromhex(exchange["reply_hex"]))
        if payload is None:
            continue
        for name, expected in exchange["reply"]["data"].items():
            ours = getattr(payload, names.get(name, name), None)
            if ours is None or isinstance(expected, list):
                continue
            if isinstance(expected, dict):
                expected = expected["sec"] * 10**9 + expected["nsec"]
            if isinstance(ours, Address):
                ours = None if not ours.packed else str(ours)
            if isinstance(ours, bytes):
                ours = ours.decode()
            if isinstance(ours, str) and isinstance(expected, int):
                expected = chr(expected) if expected else ""
            assert ours == expected, (name, exchange["reply"])
            checked += 1
    assert checked > 3000


def test_numbers_beyond_their_field_are_clamped():
    activity = rep.Activity(2**40, -1, 0, 0, 0)
    assert Layout.of(rep.Activity).decode(Layout.of(rep.Activity).encode(activity), 0) == rep.Activity(
        2**32 - 1, 0, 0, 0, 0
    )


def test_a_list_keeps_its_records_and_no_more():
    sample = rep.ManualSample(10**18, 1.0, -0.5, 0.25)
    layout = Layout.of(rep.ManualList)
    for count in (0, 1, 16):
        assert layout.decode(layout.encode(rep.ManualList((sample,) * count)), 0).samples == (sample,) * count
    with pytest.raises(AssertionError, match="17 records for 16 slots"):
        layout.encode(rep.ManualList((sample,) * 17))


def test_a_count_beyond_the_slots_reads_as_all_slots():
    wire = bytearray(Layout.of(rep.ManualList).size)
    wire[0:4] = b"\xff\xff\xff\xff"
    assert len(Layout.of(rep.ManualList).decode(bytes(wire), 0).samples) == 16


def test_version_5_requests_are_not_padded():
    wire = pk.encode_request(COMMANDS[Number.TRACKING], req.Nothing(), 7, version=5)
    assert len(wire) == 20
    assert wire[0] == 5


def test_an_error_reply_is_28_bytes_and_echoes_command_and_sequence():
    request = pk.decode_request_header(pk.encode_request(COMMANDS[Number.TRACKING], req.Nothing(), 0xDEADBEEF))
    reply = pk.encode_reply(request, Status.UNAUTHORISED)
    assert reply.hex() == "0602000000210001000200000000000 0deadbeef0000000000000000".replace(" ", "")
    header = pk.decode_reply_header(reply)
    assert (header.status, header.sequence, header.reply) == (Status.UNAUTHORISED, 0xDEADBEEF, 1)


def test_short_packets_raise_only_what_the_callers_check_for():
    with pytest.raises(struct.error):
        pk.decode_request_header(bytes(19))


def test_changes_are_never_reports():
    for command in COMMANDS.values():
        if command.access is not Access.MODIFY:
            assert command.number in {14, 15, 25, 26, 33, 34, 35, 41, 44, 51, 54, 57, 65, 67, 68, 69, 0x4E01}
