"""NTS-KE records in both directions: chronyd's captures, every error case of RFC 8915 §4, hostile bytes."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpd_fast.nts.records import (
    BODY_MAX,
    END,
    MESSAGE_MAX,
    Agreement,
    BadResponse,
    BrokenMessage,
    MessageReader,
    Record,
    Refusal,
    agreement_records,
    answer_request,
    encode,
    is_address,
    read_response,
    request_records,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "ntp_vectors.json").read_text())["nts_ke_messages"]
SIV, GCM_SIV = 15, 30
BOTH = (GCM_SIV, SIV)
UNRECOGNISED = bytes.fromhex(VECTORS["server_error_unrecognized_critical"])
BAD_REQUEST = bytes.fromhex(VECTORS["server_error_bad_request"])


def record(kind, body=b"", critical=True):
    return Record(kind, body, critical)


PROTOCOL = record(1, b"\0\0")
AEAD = record(4, b"\0\x0f")
COOKIE = record(5, bytes(100), False)


def vector(start):
    [value] = [v for name, v in VECTORS.items() if name.startswith(start)]
    return bytes.fromhex(value)


def parsed(data):
    return MessageReader().feed(data)


def answer(*records, allowed=BOTH):
    """The server's answer to a request as bytes, with no cookies in it."""
    decision = answer_request(records, allowed)
    if isinstance(decision, Refusal):
        assert decision.reason
        return encode(decision.records)
    return encode(agreement_records(decision, []))


def test_chronyd_captures():
    assert encode(request_records([SIV])) == vector("client_request_aead15_only")
    assert encode(request_records(BOTH)) == vector("client_request_aead30_15_with_record1024")
    assert answer(*parsed(vector("client_request_aead15_only"))) == encode([PROTOCOL, AEAD])
    granted = agreement_records(Agreement(SIV, False), [], server="ntp.example.test", port=11123)
    assert encode(granted)[:-4] == vector("server_ok_prefix")
    assert answer(record(1, b"\0\1"), AEAD) == vector("server_no_common_next_protocol")
    assert answer(PROTOCOL, record(4, b"\0\x63")) == vector("server_no_common_aead")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], BAD_REQUEST),
        ([AEAD], BAD_REQUEST),
        ([PROTOCOL], BAD_REQUEST),
        ([record(1, b""), AEAD], BAD_REQUEST),
        ([record(1, b"\0"), AEAD], BAD_REQUEST),
        ([record(1, b"\0\0\0"), AEAD], BAD_REQUEST),
        ([record(1, b"\0\0", False), AEAD], BAD_REQUEST),
        ([PROTOCOL, PROTOCOL, AEAD], BAD_REQUEST),
        ([PROTOCOL, record(4, b"")], BAD_REQUEST),
        ([PROTOCOL, record(4, b"\0\x0f\0")], BAD_REQUEST),
        ([PROTOCOL, AEAD, AEAD], BAD_REQUEST),
        ([PROTOCOL, AEAD, record(2, b"\0\1")], BAD_REQUEST),
        ([PROTOCOL, AEAD, record(2, b"\0\1", False)], BAD_REQUEST),
        ([PROTOCOL, AEAD, record(3, b"\0\1")], BAD_REQUEST),
        ([PROTOCOL, AEAD, COOKIE], BAD_REQUEST),
        ([PROTOCOL, AEAD, record(1024, b"\0", False)], BAD_REQUEST),
        ([PROTOCOL, AEAD, record(0x4000)], UNRECOGNISED),
        ([PROTOCOL, AEAD, record(0x7FFF, bytes(10))], UNRECOGNISED),
        ([record(0x4000), record(1, b"")], UNRECOGNISED),
        ([record(1, b""), record(0x4000)], BAD_REQUEST),
        ([PROTOCOL, PROTOCOL, AEAD, record(0x4000)], UNRECOGNISED),
    ],
)
def test_requests_that_get_an_error_record(records, expected):
    assert answer(*records) == expected


@pytest.mark.parametrize(
    "records",
    [
        [PROTOCOL, AEAD],
        [AEAD, PROTOCOL],
        [PROTOCOL, record(4, b"\0\x0f", False)],
        [record(1, b"\0\1\0\0"), AEAD],
        [PROTOCOL, record(4, b"\0\1\0\x0f\0\x1e")],
        [PROTOCOL, AEAD, record(6, b"name")],
        [PROTOCOL, AEAD, record(6, b"name", False)],
        [PROTOCOL, AEAD, record(7, b"\0\x7b")],
        [PROTOCOL, AEAD, record(1024)],
        [PROTOCOL, AEAD, record(0x4000, bytes(1000), False)],
        [PROTOCOL, record(4, b"\0\x0f" + bytes(1000))],
    ],
)
def test_requests_that_are_served(records):
    assert answer(*records) == encode([PROTOCOL, AEAD])


def test_the_first_algorithm_of_the_client_that_is_allowed_wins():
    assert answer_request([PROTOCOL, record(4, b"\0\x1e\0\x0f")], BOTH) == Agreement(GCM_SIV, False)
    assert answer_request([PROTOCOL, record(4, b"\0\x0f\0\x1e")], BOTH) == Agreement(SIV, False)
    assert answer_request([PROTOCOL, record(4, b"\0\x1e\0\x0f")], [SIV]) == Agreement(SIV, False)
    assert answer_request([PROTOCOL, record(4, b"\0\x10\0\x0f")], [16, SIV]) == Agreement(SIV, False)
    # the 129th value is not read any more
    assert isinstance(answer_request([PROTOCOL, record(4, bytes(BODY_MAX) + b"\0\x0f")], BOTH), Refusal)
    assert answer_request([PROTOCOL, record(4, bytes(BODY_MAX - 2) + b"\0\x0f")], BOTH) == Agreement(SIV, False)


def test_the_export_context_of_gcm_siv_is_negotiated():
    wanted = record(1024, critical=False)
    both = record(4, b"\0\x1e\0\x0f")
    assert answer_request([PROTOCOL, both, wanted], BOTH) == Agreement(GCM_SIV, True)
    assert answer_request([wanted, PROTOCOL, both], BOTH) == Agreement(GCM_SIV, True)
    assert answer_request([PROTOCOL, both, wanted], [SIV]) == Agreement(SIV, False)
    granted = agreement_records(Agreement(GCM_SIV, True), [bytes(4)])
    assert [r.kind for r in granted] == [1, 4, 1024, 5]


def test_order_of_the_answer():
    granted = agreement_records(Agreement(SIV, False), [bytes(100)] * 8, server="a", port=124)
    assert [r.kind for r in granted] == [1, 4, 7, 6] + [5] * 8
    assert [r.critical for r in granted] == [True] * 4 + [False] * 8
    assert 7 not in [r.kind for r in agreement_records(Agreement(SIV, False), [], port=123)]


ENDS = [
    record(0, b"", False).encode(),
    record(0, b"\0\0").encode(),
    END.encode() * 2,
    END.encode() + b"x",
    END.encode() + PROTOCOL.encode(),
]


@pytest.mark.parametrize("end", ENDS)
def test_a_wrong_end_breaks_the_message(end):
    with pytest.raises(BrokenMessage):
        parsed(PROTOCOL.encode() + end)


def test_a_message_may_come_in_any_pieces():
    message = encode([PROTOCOL, AEAD])
    reader = MessageReader()
    for i in range(len(message) - 1):
        assert reader.feed(message[i : i + 1]) is None
    assert reader.feed(message[-1:]) == [PROTOCOL, AEAD]


def test_the_longest_message():
    filler = record(0x4000, bytes(MESSAGE_MAX - len(encode([PROTOCOL, AEAD])) - 4), False)
    message = encode([PROTOCOL, filler, AEAD])
    assert len(message) == MESSAGE_MAX
    assert parsed(message) == [PROTOCOL, filler, AEAD]
    reader = MessageReader()
    assert reader.feed(b"\x40\0\xff\xff" + bytes(MESSAGE_MAX - 4)) is None
    with pytest.raises(BrokenMessage):
        reader.feed(b"x")


GRANTED = [PROTOCOL, AEAD, COOKIE]


def test_responses_that_grant():
    response = read_response(GRANTED, BOTH)
    assert (response.algorithm, response.cookies, response.server, response.port) == (SIV, [bytes(100)], None, None)
    response = read_response([*GRANTED, record(6, b"ntp.example.test"), record(7, b"\x04\xd2")], BOTH)
    assert (response.server, response.port) == ("ntp.example.test", 1234)
    assert read_response([*GRANTED, record(6, b"x" * 256)], BOTH).server == "x" * 256
    assert len(read_response([*GRANTED, *[COOKIE] * 20], BOTH).cookies) == 8
    assert read_response([*GRANTED, record(0x4000, b"", False), record(0x4000, bytes(1000), False)], BOTH).algorithm
    skipped = [record(5, bytes(n), False) for n in (0, 3, 257, 260, 1000)]
    assert read_response([*GRANTED, *skipped, record(5, bytes(256), False)], BOTH).cookies == [bytes(100), bytes(256)]
    assert not read_response([*GRANTED, record(1024, critical=False)], BOTH).compliant_export
    gcm_siv = [PROTOCOL, record(4, b"\0\x1e"), COOKIE]
    assert not read_response(gcm_siv, BOTH).compliant_export
    assert read_response([*gcm_siv, record(1024, critical=False)], BOTH).compliant_export


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], "no next protocol"),
        ([AEAD, COOKIE], "no next protocol"),
        ([record(1, b""), AEAD, COOKIE], "no common next protocol"),
        ([record(1, b"\0\1"), AEAD, COOKIE], "invalid next protocol"),
        ([record(1, b"\0\0\0\0"), AEAD, COOKIE], "invalid next protocol"),
        ([record(1, b"\0\0", False), AEAD, COOKIE], "invalid next protocol"),
        ([PROTOCOL, PROTOCOL, AEAD, COOKIE], "invalid next protocol"),
        ([PROTOCOL, COOKIE], "no AEAD algorithm"),
        ([PROTOCOL, record(4, b""), COOKIE], "no common AEAD"),
        ([PROTOCOL, record(4, b"\0\x10"), COOKIE], "16 was not offered"),
        ([PROTOCOL, record(4, b"\0\x0f\0\x1e"), COOKIE], "invalid AEAD"),
        ([PROTOCOL, AEAD, AEAD, COOKIE], "invalid AEAD"),
        ([PROTOCOL, AEAD], "no usable cookies"),
        ([PROTOCOL, AEAD, record(5, bytes(99), False)], "no usable cookies"),
        ([*GRANTED, record(2, b"\0\1")], "error 1 .bad request"),
        ([*GRANTED, record(2, b"\0\7")], "error 7$"),
        ([*GRANTED, record(2, b"")], "invalid error"),
        ([*GRANTED, record(3, b"\0\1")], "warning 0001"),
        ([*GRANTED, record(6, b"")], "invalid NTPv4 server"),
        ([*GRANTED, record(6, b"two words")], "invalid NTPv4 server"),
        ([*GRANTED, record(6, b"\xff")], "invalid NTPv4 server"),
        ([*GRANTED, record(6, b"x" * 257)], "critical record of 257"),
        ([*GRANTED, record(7, b"\0")], "invalid NTPv4 port"),
        ([*GRANTED, record(7, b"\0\0")], "invalid NTPv4 port"),
        ([*GRANTED, record(0x4000)], "unrecognised critical record 16384"),
        ([*GRANTED, record(1024, b"\0", False)], "invalid compliant"),
    ],
)
def test_responses_that_grant_nothing(records, reason):
    with pytest.raises(BadResponse, match=reason):
        read_response(records, BOTH)


def test_an_algorithm_that_was_not_offered_is_refused():
    with pytest.raises(BadResponse, match="30 was not offered"):
        read_response([PROTOCOL, record(4, b"\0\x1e"), COOKIE], [SIV])


records_strategy = st.lists(
    st.builds(
        Record,
        st.one_of(st.integers(1, 8), st.sampled_from([1024]), st.integers(1, 0x7FFF)),
        st.one_of(st.binary(max_size=12), st.binary(max_size=400), st.sampled_from([b"\0\0", b"\0\x0f", b"\0\x1e"])),
        st.booleans(),
    ),
    max_size=12,
)


@given(records_strategy, st.lists(st.integers(0, 5000), max_size=4))
@settings(deadline=None)
def test_any_message_is_read_as_it_was_written(records, cuts):
    message = encode(records)
    reader = MessageReader()
    start = 0
    result = None
    for cut in [*sorted(c for c in cuts if c < len(message)), len(message)]:
        assert result is None
        result = reader.feed(message[start:cut])
        start = cut
    assert result == records


@given(records_strategy)
@settings(deadline=None, max_examples=300)
def test_any_records_get_a_decision_on_both_sides(records):
    decision = answer_request(records, BOTH)
    if isinstance(decision, Refusal):
        with pytest.raises(BadResponse):
            read_response(decision.records, BOTH)
    else:
        granted = read_response(agreement_records(decision, [bytes(100)]), BOTH)
        assert granted.algorithm == decision.algorithm
    try:
        response = read_response(records, BOTH)
    except BadResponse:
        return
    assert response.algorithm in BOTH
    assert 1 <= len(response.cookies) <= 8


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_a_message_wait_or_break(data):
    reader = MessageReader()
    try:
        records = reader.feed(data)
    except BrokenMessage:
        return
    if records is not None:
        assert encode(records) == data
    else:
        offset = 0
        while offset + 4 <= len(data):
            _, length = struct.unpack_from(">HH", data, offset)
            offset += 4 + length
        assert offset != len(data) or data[-4:] != END.encode()


def test_literal_addresses():
    assert is_address("192.0.2.1")
    assert is_address("2001:db8::1")
    assert not is_address("ntp.example.test")
    assert not is_address("1.2.3")
