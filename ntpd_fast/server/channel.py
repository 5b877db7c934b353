"""Words between the supervisor and its children: one SOCK_SEQPACKET pair a child.

A message is `VERB` or `VERB TEXT`, UTF-8, one datagram, at most `MESSAGE_BYTES` long. The whole vocabulary is `Verb`.
Neither side ever waits for the other: a message the pair has no room for is dropped and counted, since the only reader
that slow is one that is about to be killed for standing still.
"""

import enum
import socket

from ntpd_fast._record import dataclass

MESSAGE_BYTES = 512


class Verb(enum.Enum):
    """Every message there is: word, who says it, and what it means."""

    READY = ("ready", "child", "everything is set up; a worker's successor now waits for `go`")
    FAILED = ("failed", "control", "TEXT is why it cannot start; it exits with EXIT_FAILED")
    STOPPED = ("stopped", "worker", "its last batch is answered and its sockets are let go")
    ALIVE = ("alive", "control", "a sign of life, for the service manager's watchdog")
    STATUS = ("status", "control", "TEXT is the line for the service manager")
    REPLACE = ("replace", "control", "replace all workers, one after the other, on the same sockets")
    OPEN = ("open", "control", "TEXT is 4 or 6: serve that family from now on, too")
    CERTIFICATES = ("certificates", "control", "have the NTS-KE processes load their certificates again")
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


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a pair."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)
        self.dropped = 0

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, verb: Verb, text: str = "") -> None:
        """Say it; text beyond the limit is cut. Lost, and counted, when the other side does not read or is gone."""
        message = f"{verb.word} {text}".rstrip().encode()[:MESSAGE_BYTES]
        try:
            self._socket.send(message)
        except OSError:
            self.dropped += 1

    def receive(self) -> Message | None:
        """The next message, None when there is none yet.

        Raises ChannelClosed; ValueError for a word that is not in the table (a bug of ours).
        """
        try:
            data = self._socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionError:
            raise ChannelClosed from None
        if not data:
            raise ChannelClosed
        word, _, text = data.decode(errors="replace").partition(" ")
        verb = _VERBS.get(word)
        if verb is None:
            raise ValueError(f"unknown message {data!r}")
        return Message(verb, text)

    def close(self) -> None:
        self._socket.close()
