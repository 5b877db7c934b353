"""What the records of key exchange mean to the server: the codec behind the sessions of `_ntske`.

A session asks here for what it cannot do in one pass over the client's bytes: requests that are not the usual one, and
the records of an answer that are the same for every client. Time limits, sockets and the number of sessions are the
glue's (`ntske_server`). Every way a session can end is a `KeOutcome`, counted by the glue.
"""

from __future__ import annotations

from collections.abc import Sequence

from ntpd_fast import _ntske
from ntpd_fast._nts import KeyRing
from ntpd_fast._tls import Credentials
from ntpd_fast.nts.records import (
    DEFAULT_NTP_PORT,
    Agreement,
    BrokenMessage,
    ErrorCode,
    MessageReader,
    agreement_records,
    answer_request,
    encode,
    encode_open,
    error_records,
)
from ntpd_fast.server.ntske_counters import KeOutcome

KeSession = _ntske.Session
"""One connection. After `outcome` is set nothing is read any more: send what `receive` gave, then close."""


class KeService(_ntske.Service):
    """What all sessions share; a session takes it as it is when its first byte comes.

    algorithms: `ntsaeads`, what clients may have. ntp_server: `ntsntpserver`. All of it may be set anew at any time.
    """

    outcomes = tuple(KeOutcome)

    def __init__(
        self,
        credentials: Credentials,
        ring: KeyRing,
        algorithms: Sequence[int],
        ntp_server: str | None = None,
        ntp_port: int = DEFAULT_NTP_PORT,
    ) -> None:
        super().__init__(credentials, ring, algorithms, ntp_server, ntp_port)

    def compose(self, algorithm: int, compliant: bool) -> bytes:
        return encode_open(
            agreement_records(Agreement(algorithm, compliant), (), server=self.ntp_server, port=self.ntp_port)
        )

    def reader(self) -> MessageReader:
        return MessageReader()

    def decide(self, reader: MessageReader, data: bytes) -> tuple[int, bool, bytes, str] | None:
        try:
            records = reader.feed(data)
        except BrokenMessage as error:
            return 0, False, b"", str(error)
        if records is None:
            return None
        decision = answer_request(records, self.algorithms)
        if isinstance(decision, Agreement):
            return decision.algorithm, decision.compliant_export, b"", ""
        return 0, False, encode(decision.records), decision.reason

    def no_keys(self) -> bytes:
        return encode(error_records(ErrorCode.INTERNAL))
