"""Words between the supervisor and its children: one SOCK_SEQPACKET pair a child.

A message is `VERB` or `VERB TEXT`, UTF-8, one datagram, at most `MESSAGE_BYTES` long, with at most `DESCRIPTORS_MAX`
descriptors (from the supervisor only). The whole vocabulary is `Verb`.
Neither side ever waits for the other: a message the pair has no room for is dropped and counted, since the only reader
that slow is one that is about to be killed for standing still.
"""

from __future__ import annotations

import array
import enum
import os
import socket
from collections.abc import Sequence

from ntpd_fast._record import dataclass

MESSAGE_BYTES = 4096
"""Room for the names of all addresses a server can be bound to (BIND_ADDRESSES_MAX of each family, NTP and PTP)."""
DESCRIPTORS_MAX = 16
_DESCRIPTORS_ROOM = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)


class Verb(enum.Enum):
    """Every message there is: word, who says it, and what it means."""

    READY = ("ready", "child", "everything is set up; a worker's successor now waits for `go`")
    FAILED = ("failed", "control", "TEXT is why it cannot start; it exits with EXIT_FAILED")
    STOPPED = ("stopped", "worker", "its last batch is answered and its sockets are let go")
    ALIVE = ("alive", "control", "a sign of life, for the service manager's watchdog")
    STATUS = ("status", "control", "TEXT is the line for the service manager")
    FAMILIES = (
        "families", "control",
        "TEXT is how many reloads it knows of, then the families (4, 6) to be served as commands have left the rules",
    )
    CERTIFICATES = ("certificates", "control", "have the NTS-KE processes load their certificates again")
    RELOAD = ("reload", "control", "read the configuration again")
    CONFIGURED = ("configured", "control", "what `configure` brought is in effect, what `drop` named is let go")
    CONFIGURE = (
        "configure", "supervisor",
        "descriptors: a file that holds the new configuration, then control's sockets of the addresses TEXT names",
    )
    REFUSED = ("refused", "supervisor", "TEXT is why the configuration that was read again changes nothing")
    ADD = ("add", "supervisor", "serve on this socket, too, of the address TEXT names; a second one is only emptied")
    DROP = ("drop", "supervisor", "answer what waits on the socket of the address TEXT names, and let it go")
    LOG = ("log", "supervisor", "TEXT is in how many blocks to keep clients from now on, forgetting those there are")
    GO = ("go", "supervisor", "serve: nobody else does on these sockets")
    STOP = ("stop", "supervisor", "stop at the end of a batch, say `stopped`, exit")

    def __init__(self, word: str, sender: str, meaning: str) -> None:
        self.word = word
        self.sender = sender
        self.meaning = meaning


_VERBS = {verb.word: verb for verb in Verb}


@dataclass(frozen=True, slots=True)
class Message:
    verb: Verb
    text: str = ""
    descriptors: tuple[int, ...] = ()
    """Of files that are the receiver's to close."""


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a pair."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)
        self.dropped = 0

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, verb: Verb, text: str = "", descriptors: Sequence[int] = ()) -> None:
        """Say it; text beyond the limit is cut. Lost, and counted, when the other side does not read or is gone.

        `descriptors` arrive as new ones; ours stay open.
        """
        message = f"{verb.word} {text}".rstrip().encode()[:MESSAGE_BYTES]
        try:
            if descriptors:
                socket.send_fds(self._socket, [message], list(descriptors))
            else:
                self._socket.send(message)
        except OSError:
            self.dropped += 1

    def receive(self) -> Message | None:
        """The next message, None when there is none yet.

        Raises ChannelClosed; ValueError for a word that is not in the table (a bug of ours).
        """
        try:
            data, control, _, _ = self._socket.recvmsg(MESSAGE_BYTES, _DESCRIPTORS_ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionError:
            raise ChannelClosed from None
        descriptors = _descriptors_in(control)
        if not data:
            raise ChannelClosed
        word, _, text = data.decode(errors="replace").partition(" ")
        verb = _VERBS.get(word)
        if verb is None or (descriptors and verb.sender != "supervisor"):
            for descriptor in descriptors:
                os.close(descriptor)
            raise ValueError(f"unknown message {data!r}")
        return Message(verb, text, descriptors)

    def close(self) -> None:
        self._socket.close()


def _descriptors_in(control: Sequence[tuple[int, int, bytes]]) -> tuple[int, ...]:
    found = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return tuple(found)
