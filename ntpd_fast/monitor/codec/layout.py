"""How messages are laid out: a message is a NamedTuple whose annotations name the wire types of its fields.

The declaration is the layout, for both directions: `Layout.of(Message)` compiles it once into a single
`struct.Struct` and a list of conversions. Fields are packed in order, big-endian, with no implicit padding.
Integers outside the range of their field are clamped on the way out, so that a counter that outgrew its
field reads as full instead of failing the report. NamedTuples and not dataclasses: forty dataclasses cost
the command line more than half of its start-up budget.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

from .address import Address, decode_address, encode_address
from .floats import decode_float, encode_float

Message = tuple[Any, ...]
NS_PER_S = 1_000_000_000
NAME_LENGTH = 256
# Senders whose time_t has 32 bits mark the high word so.
_NO_HIGH_WORD = 0x7FFFFFFF


class Primitive(NamedTuple):
    """One wire type: its `struct` code and the conversions of the value (None: as it is)."""

    code: str
    load: Callable[[Any], Any] | None
    dump: Callable[[Any], Any] | None
    is_number: bool = False
    """`dump` only limits it to what the field holds."""


class Counted(NamedTuple):
    """A count and then a fixed number of slots; unused slots are zero."""

    record: type[Message]
    slots: int


def _clamp(low: int, high: int) -> Callable[[int], int]:
    def clamp(value: int) -> int:
        return low if value < low else high if value > high else value

    return clamp


def decode_time(wire: bytes) -> int:
    """Nanoseconds since the Unix epoch from 12 bytes; excess nanoseconds are cut to 999999999."""
    high, low, nanoseconds = struct.unpack(">III", wire)
    if high == _NO_HIGH_WORD:
        high = 0
    seconds = high << 32 | low
    if seconds >= 1 << 63:
        seconds -= 1 << 64
    return int(seconds * NS_PER_S + min(nanoseconds, NS_PER_S - 1))


def encode_time(time_ns: int) -> bytes:
    """12 bytes for nanoseconds since the Unix epoch; times before it are negative."""
    seconds, nanoseconds = divmod(time_ns, NS_PER_S)
    return struct.pack(">qI", seconds, nanoseconds)


def _load_character(code: int) -> str:
    return chr(code) if code else ""


def _dump_character(character: str) -> int:
    return ord(character) if character else 0


def _load_name(wire: bytes) -> bytes:
    return wire.partition(b"\0")[0]


def _integer(code: str, bits: int, *, signed: bool = False, padding: str = "") -> Primitive:
    low = -(1 << bits - 1) if signed else 0
    high = (1 << bits - 1) - 1 if signed else (1 << bits) - 1
    return Primitive(code + padding, None, _clamp(low, high), is_number=True)


U8 = Annotated[int, _integer("B", 8)]
I8 = Annotated[int, _integer("b", 8, signed=True)]
U16 = Annotated[int, _integer("H", 16)]
I16 = Annotated[int, _integer("h", 16, signed=True)]
U32 = Annotated[int, _integer("I", 32)]
I32 = Annotated[int, _integer("i", 32, signed=True)]
U64 = Annotated[int, _integer("Q", 64)]
# Followed by as many zero bytes as the name says: fields the protocol never used.
U8Pad1 = Annotated[int, _integer("B", 8, padding="x")]
U16Pad2 = Annotated[int, _integer("H", 16, padding="xx")]
Flag8 = Annotated[bool, Primitive("B", bool, int)]
Char = Annotated[str, Primitive("B", _load_character, _dump_character)]
Float = Annotated[float, Primitive("I", decode_float, encode_float)]
TimeNs = Annotated[int, Primitive("12s", decode_time, encode_time)]
WireAddress = Annotated[Address, Primitive("20s", decode_address, encode_address)]
# Up to the NUL; 256 bytes long where there is none, which whoever reads it must refuse.
Name = Annotated[bytes, Primitive(f"{NAME_LENGTH}s", _load_name, None)]


class Layout:
    """The compiled layout of one message type."""

    __slots__ = ("_blank", "_counted", "_dumps", "_loads", "_message", "_quick", "_struct", "size")

    _known: dict[type[Message], "Layout"] = {}  # noqa: RUF012 - a cache, filled once a message type

    def __init__(self, message: type[Message]) -> None:
        codes = [">"]
        self._message = message
        self._loads: list[Callable[[Any], Any] | None] = []
        self._dumps: list[Callable[[Any], Any] | None] = []
        self._quick: list[Callable[[Any], Any] | None] = []
        self._counted: Counted | None = None
        for primitive in _primitives(message):
            if isinstance(primitive, Counted):
                self._counted = primitive
                record = list(_primitives(primitive.record))
                plain = [_COUNT, *(p for _ in range(primitive.slots) for p in record)]
            else:
                plain = [primitive]
            for part in plain:
                assert isinstance(part, Primitive), "records of a counted field hold plain fields"
                codes.append(part.code)
                self._loads.append(part.load)
                self._dumps.append(part.dump)
                self._quick.append(None if part.is_number else part.dump)
        self._struct = struct.Struct("".join(codes))
        self.size = self._struct.size
        self._blank = self._struct.unpack(bytes(self.size))

    @classmethod
    def of(cls, message: type[Message]) -> "Layout":
        layout = cls._known.get(message)
        if layout is None:
            layout = cls._known[message] = cls(message)
        return layout

    def decode(self, wire: bytes, offset: int) -> Message:
        """The message at `offset`; struct.error when `wire` is too short (callers check lengths before)."""
        values = [
            value if load is None else load(value)
            for value, load in zip(self._struct.unpack_from(wire, offset), self._loads, strict=True)
        ]
        if self._counted is not None:
            record, slots = self._counted
            width = len(record.__annotations__)
            first = len(values) - slots * width
            count = min(values[first - 1], slots)
            records = tuple(record(*values[first + i * width : first + (i + 1) * width]) for i in range(count))
            values[first - 1 :] = [records]
        return self._message(*values)

    def encode(self, message: Message) -> bytes:
        """The payload; AssertionError when a list has more records than the message has slots."""
        values: list[Any] = list(message)
        if self._counted is not None:
            slots = self._counted.slots
            records = values.pop()
            assert len(records) <= slots, f"{len(records)} records for {slots} slots"
            values.append(len(records))
            for item in records:
                values.extend(item)
        try:
            return self._packed(values, self._quick)
        except struct.error:
            # A number beyond its field, which is rare: most messages need not look at each of theirs.
            return self._packed(values, self._dumps)

    def _packed(self, values: list[Any], dumps: list[Callable[[Any], Any] | None]) -> bytes:
        packed = [v if dump is None else dump(v) for v, dump in zip(values, dumps, strict=False)]
        packed.extend(self._blank[len(packed) :])
        return self._struct.pack(*packed)


_COUNT = Primitive("I", None, None)


def _primitives(message: type[Message]) -> Iterator[Primitive | Counted]:
    for name, annotation in message.__annotations__.items():
        metadata = getattr(annotation, "__metadata__", None)
        if metadata is None:
            raise TypeError(f"{message.__name__}.{name} names no wire type")
        yield metadata[0]
