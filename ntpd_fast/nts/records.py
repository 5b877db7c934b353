"""The records of NTS key exchange (RFC 8915 §4), both directions, without I/O.

`MessageReader` turns a stream of bytes into one message, a list of records. `answer_request` is the server's side of
the negotiation, `read_response` the client's; both are driven by a table with a row for every record type. What a peer
gets wrong is an outcome, never an exception: on the server an error record for the client or a closed session, on the
client a reason for the log. Every length is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from ipaddress import ip_address
from typing import NamedTuple

from ntpd_fast._aead import key_size
from ntpd_fast._record import dataclass, field

ALPN = b"ntske/1"
MESSAGE_MAX = 16384
"""Bytes of a message, in either direction."""
BODY_MAX = 256
"""Bytes of a record that are looked at."""
COOKIES = 8
"""Cookies a server hands out, and a client keeps."""
COOKIE_MAX = 256
NTPV4 = 0
DEFAULT_NTP_PORT = 123

AES_SIV_CMAC_256 = 15
AES_128_GCM_SIV = 30

_HEADER = struct.Struct(">HH")
_CRITICAL = 0x8000


class RecordType(IntEnum):
    END_OF_MESSAGE = 0
    NEXT_PROTOCOL = 1
    ERROR = 2
    WARNING = 3
    AEAD_ALGORITHM = 4
    COOKIE = 5
    NTPV4_SERVER = 6
    NTPV4_PORT = 7
    COMPLIANT_GCM_SIV_EXPORT = 1024
    """Keys of AES-128-GCM-SIV are exported with the context of the RFC (chrony before 4.6.1 used another)."""


class ErrorCode(IntEnum):
    UNRECOGNISED_CRITICAL = 0
    BAD_REQUEST = 1
    INTERNAL = 2


_ERROR_TEXT = {
    ErrorCode.UNRECOGNISED_CRITICAL: "unrecognised critical record",
    ErrorCode.BAD_REQUEST: "bad request",
    ErrorCode.INTERNAL: "internal server error",
}


# Python 3.11 looks a member of an enumeration up with Python code: not eight times for every client.
_END_OF_MESSAGE = int(RecordType.END_OF_MESSAGE)
_COOKIE = int(RecordType.COOKIE)


class Record(NamedTuple):
    """One record; `kind` is a RecordType or another number below 2^15."""

    kind: int
    body: bytes = b""
    critical: bool = False

    def encode(self) -> bytes:
        return _encode(self)


def _encode(record: tuple[int, bytes, bool]) -> bytes:
    kind, body, critical = record
    return _HEADER.pack(kind | _CRITICAL if critical else kind, len(body)) + body


END = Record(_END_OF_MESSAGE, critical=True)


def encode_open(records: Iterable[Record]) -> bytes:
    """The beginning of a message: the records, and more can follow."""
    return b"".join([_encode(record) for record in records])


def encode(records: Iterable[Record]) -> bytes:
    """A message: the records and the End of Message."""
    return encode_open((*records, END))


def uint16s(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(2) for value in values)


def values_of(body: bytes) -> list[int]:
    """The 16-bit values in the first BODY_MAX bytes of a body; none when its length is odd."""
    return [] if len(body) % 2 else [value for (value,) in struct.iter_unpack(">H", body[:BODY_MAX])]


class BrokenMessage(Exception):
    """The peer's bytes cannot be a message: the session ends without an answer."""


class MessageReader:
    """Collects a message. `feed` gives its records once the End of Message is there."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._offset = 0
        self._records: list[Record] = []

    def feed(self, data: bytes) -> list[Record] | None:
        """More bytes; the records without the End of Message, None while it is missing. Raises BrokenMessage."""
        self._data += data
        if len(self._data) > MESSAGE_MAX:
            raise BrokenMessage(f"message longer than {MESSAGE_MAX} bytes")
        while len(self._data) - self._offset >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._data, self._offset)
            start = self._offset + _HEADER.size
            if len(self._data) < start + length:
                return None
            record = Record(kind & ~_CRITICAL, bytes(self._data[start : start + length]), bool(kind & _CRITICAL))
            self._offset = start + length
            if record.kind == _END_OF_MESSAGE:
                if record != END:
                    raise BrokenMessage("End of Message record is not critical or not empty")
                if len(self._data) > self._offset:
                    raise BrokenMessage("data after the End of Message record")
                return self._records
            self._records.append(record)
        return None


@dataclass(frozen=True)
class Agreement:
    """A request the server can serve."""

    algorithm: int
    compliant_export: bool
    """The client asked for the RFC's export context of AES-128-GCM-SIV, and that algorithm was chosen."""


@dataclass(frozen=True)
class Refusal:
    """A request that gets an answer without keys."""

    records: tuple[Record, ...]
    reason: str


@dataclass
class _Request:
    """What the rows of the server's table have found so far."""

    protocols: list[int] | None = None
    algorithms: list[int] | None = None
    compliant_export: bool = False
    repeated: bool = False
    """A record came twice. Judged last, as chronyd does: what else is wrong is told first."""


def _request_protocols(request: _Request, record: Record) -> bool:
    request.repeated |= request.protocols is not None
    request.protocols = values_of(record.body)
    return record.critical and bool(request.protocols)


def _request_algorithms(request: _Request, record: Record) -> bool:
    request.repeated |= request.algorithms is not None
    request.algorithms = values_of(record.body)
    return bool(request.algorithms)


def _request_export(request: _Request, record: Record) -> bool:
    request.compliant_export = True
    return not record.body


def _ignored(_: object, __: Record) -> bool:
    return True


def _forbidden(_: object, __: Record) -> bool:
    return False


# What each type means in a request; false is a bad request.
_REQUEST_ROWS: dict[int, Callable[[_Request, Record], bool]] = {
    RecordType.NEXT_PROTOCOL: _request_protocols,
    RecordType.ERROR: _forbidden,
    RecordType.WARNING: _forbidden,
    RecordType.AEAD_ALGORITHM: _request_algorithms,
    RecordType.COOKIE: _forbidden,
    RecordType.NTPV4_SERVER: _ignored,
    RecordType.NTPV4_PORT: _ignored,
    RecordType.COMPLIANT_GCM_SIV_EXPORT: _request_export,
}


def error_records(code: ErrorCode) -> tuple[Record, ...]:
    return (Record(RecordType.ERROR, uint16s([code]), critical=True),)


def _refuse(code: ErrorCode) -> Refusal:
    return Refusal(error_records(code), _ERROR_TEXT[code])


def answer_request(records: Sequence[Record], algorithms: Sequence[int]) -> Agreement | Refusal:
    """The server's decision about a request; `algorithms` are those it allows."""
    request = _Request()
    for record in records:
        row = _REQUEST_ROWS.get(record.kind)
        if row is None:
            if record.critical:
                return _refuse(ErrorCode.UNRECOGNISED_CRITICAL)
        elif not row(request, record):
            return _refuse(ErrorCode.BAD_REQUEST)
    if request.protocols is None or request.repeated:
        return _refuse(ErrorCode.BAD_REQUEST)
    if NTPV4 not in request.protocols:
        return Refusal((Record(RecordType.NEXT_PROTOCOL, critical=True),), "no common next protocol")
    if request.algorithms is None:
        return _refuse(ErrorCode.BAD_REQUEST)
    for algorithm in request.algorithms:
        if algorithm in algorithms and key_size(algorithm):
            return Agreement(algorithm, request.compliant_export and algorithm == AES_128_GCM_SIV)
    nothing = (
        Record(RecordType.NEXT_PROTOCOL, uint16s([NTPV4]), critical=True),
        Record(RecordType.AEAD_ALGORITHM, critical=True),
    )
    return Refusal(nothing, "no common AEAD algorithm")


def agreement_records(
    agreement: Agreement, cookies: Iterable[bytes], *, server: str | None = None, port: int = DEFAULT_NTP_PORT
) -> tuple[Record, ...]:
    """The server's answer with cookies. `server`: `ntsntpserver`; `port`: where it serves NTP."""
    records = [
        Record(RecordType.NEXT_PROTOCOL, uint16s([NTPV4]), critical=True),
        Record(RecordType.AEAD_ALGORITHM, uint16s([agreement.algorithm]), critical=True),
    ]
    if agreement.compliant_export:
        records.append(Record(RecordType.COMPLIANT_GCM_SIV_EXPORT))
    if port != DEFAULT_NTP_PORT:
        records.append(Record(RecordType.NTPV4_PORT, uint16s([port]), critical=True))
    if server is not None:
        records.append(Record(RecordType.NTPV4_SERVER, server.encode("ascii"), critical=True))
    return (*records, *[Record(_COOKIE, cookie) for cookie in cookies])


def request_records(algorithms: Sequence[int]) -> tuple[Record, ...]:
    """The client's request; `algorithms` in order of preference."""
    records = [
        Record(RecordType.NEXT_PROTOCOL, uint16s([NTPV4]), critical=True),
        Record(RecordType.AEAD_ALGORITHM, uint16s(algorithms), critical=True),
    ]
    if AES_128_GCM_SIV in algorithms:
        records.append(Record(RecordType.COMPLIANT_GCM_SIV_EXPORT))
    return tuple(records)


@dataclass
class Response:
    """What a server granted."""

    algorithm: int = 0
    cookies: list[bytes] = field(default_factory=list)
    compliant_export: bool = False
    server: str | None = None
    port: int | None = None


class BadResponse(Exception):
    """The server's answer gives no keys; the text is the reason."""


@dataclass
class _Answer:
    """What the rows of the client's table have found so far."""

    offered: Sequence[int]
    response: Response = field(default_factory=Response)
    protocol: bool = False


def _answer_protocol(answer: _Answer, record: Record) -> str | None:
    if answer.protocol or not record.critical:
        return "invalid next protocol record"
    if record.body != uint16s([NTPV4]):
        return "no common next protocol" if not record.body else "invalid next protocol record"
    answer.protocol = True
    return None


def _answer_algorithm(answer: _Answer, record: Record) -> str | None:
    if not record.body:
        return "no common AEAD algorithm"
    if answer.response.algorithm or len(record.body) != 2:
        return "invalid AEAD algorithm record"
    [algorithm] = values_of(record.body)
    if algorithm not in answer.offered or not key_size(algorithm):
        return f"AEAD algorithm {algorithm} was not offered"
    answer.response.algorithm = algorithm
    return None


def _answer_error(_: _Answer, record: Record) -> str | None:
    if len(record.body) != 2:
        return "invalid error record"
    [code] = values_of(record.body)
    return f"server reports error {code}" + (f" ({_ERROR_TEXT[ErrorCode(code)]})" if code in _ERROR_TEXT else "")


def _answer_warning(_: _Answer, record: Record) -> str | None:
    return f"server reports warning {record.body[:2].hex()}"


def _answer_cookie(answer: _Answer, record: Record) -> str | None:
    usable = 1 <= len(record.body) <= COOKIE_MAX and len(record.body) % 4 == 0
    if usable and len(answer.response.cookies) < COOKIES:
        answer.response.cookies.append(record.body)
    return None


def _answer_server(answer: _Answer, record: Record) -> str | None:
    name = record.body.decode("latin-1")
    if not name or not all("!" <= c <= "~" for c in name):
        return "invalid NTPv4 server record"
    answer.response.server = name
    return None


def _answer_port(answer: _Answer, record: Record) -> str | None:
    if len(record.body) != 2 or record.body == b"\0\0":
        return "invalid NTPv4 port record"
    [answer.response.port] = values_of(record.body)
    return None


def _answer_export(answer: _Answer, record: Record) -> str | None:
    if record.body:
        return "invalid compliant export record"
    answer.response.compliant_export = True
    return None


# What each type means in a response; a text is why the response is refused.
_RESPONSE_ROWS: dict[int, Callable[[_Answer, Record], str | None]] = {
    RecordType.NEXT_PROTOCOL: _answer_protocol,
    RecordType.ERROR: _answer_error,
    RecordType.WARNING: _answer_warning,
    RecordType.AEAD_ALGORITHM: _answer_algorithm,
    RecordType.COOKIE: _answer_cookie,
    RecordType.NTPV4_SERVER: _answer_server,
    RecordType.NTPV4_PORT: _answer_port,
    RecordType.COMPLIANT_GCM_SIV_EXPORT: _answer_export,
}


def read_response(records: Sequence[Record], offered: Sequence[int]) -> Response:
    """What the server granted to a request that offered these algorithms. Raises BadResponse."""
    answer = _Answer(offered)
    for record in records:
        row = _RESPONSE_ROWS.get(record.kind)
        if len(record.body) > BODY_MAX:
            if record.critical:
                raise BadResponse(f"critical record of {len(record.body)} bytes")
            continue
        if row is None:
            if record.critical:
                raise BadResponse(f"unrecognised critical record {record.kind}")
            continue
        reason = row(answer, record)
        if reason is not None:
            raise BadResponse(reason)
    if not answer.protocol:
        raise BadResponse("no next protocol record")
    if not answer.response.algorithm:
        raise BadResponse("no AEAD algorithm record")
    if not answer.response.cookies:
        raise BadResponse("no usable cookies")
    if answer.response.algorithm != AES_128_GCM_SIV:
        answer.response.compliant_export = False
    return answer.response


def is_address(name: str) -> bool:
    """Whether a host name is a literal address: it is then neither resolved nor sent as SNI."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
