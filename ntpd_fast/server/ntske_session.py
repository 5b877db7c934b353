"""One key exchange as the server sees it, without I/O: TLS, the request, keys, cookies, the answer.

Bytes of the client go in, bytes for it come out; time limits, sockets and the number of sessions are the glue's
(`ntske_server`). Every way a session can end is a `KeOutcome`, counted by the glue. A connection costs no TLS state
before its first byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from ntpd_fast._nts import KeyRing
from ntpd_fast._record import dataclass
from ntpd_fast._tls import Credentials, Session, TlsError
from ntpd_fast.nts.keys import export_keys
from ntpd_fast.nts.records import (
    ALPN,
    COOKIES,
    DEFAULT_NTP_PORT,
    Agreement,
    BrokenMessage,
    ErrorCode,
    MessageReader,
    Record,
    agreement_records,
    answer_request,
    encode,
    error_records,
)
from ntpd_fast.server.ntske_counters import KeOutcome


@dataclass
class KeService:
    """What all sessions share; a session takes it as it is when its first byte comes."""

    credentials: Credentials
    ring: KeyRing
    algorithms: Sequence[int]
    """`ntsaeads`: what clients may have."""
    ntp_server: str | None = None
    """`ntsntpserver`."""
    ntp_port: int = DEFAULT_NTP_PORT


class KeSession:
    """One connection. After `outcome` is set nothing is read any more: send what `receive` gave, then close."""

    __slots__ = ("_reader", "_service", "_tls", "outcome", "reason")

    def __init__(self, service: KeService) -> None:
        self._service = service
        self._tls: Session | None = None
        self._reader: MessageReader | None = None
        self.outcome: KeOutcome | None = None
        self.reason = ""
        """Why there are no keys, for a debug log."""

    def receive(self, data: bytes) -> bytes:
        """Bytes from the client (empty: it hung up); bytes for the client."""
        if self.outcome is not None:
            return b""
        if self._tls is None and not data:
            self._end(KeOutcome.TLS_FAILED, "closed before the handshake")
            return b""
        tls = self._tls
        try:
            if tls is None:
                tls = self._tls = Session(self._service.credentials, ALPN, server_side=True)
            tls.feed(data)
            if self._reader is None and tls.handshake():
                self._reader = MessageReader()
            if self._reader is not None:
                self._read(tls, self._reader)
            elif not data:
                self._end(KeOutcome.TLS_FAILED, "closed in the handshake")
        except TlsError as error:
            self._end(KeOutcome.TLS_FAILED, str(error))
        except BrokenMessage as error:
            self._end(KeOutcome.BROKEN, str(error))
            if tls is not None:
                tls.close()
        out = tls.out() if tls is not None else b""
        if self.outcome is not None:
            # the TLS state is the bulk of a connection's memory, and its keys are of no more use
            self._tls = self._reader = None
        return out

    def _end(self, outcome: KeOutcome, reason: str = "") -> None:
        self.outcome = outcome
        self.reason = reason

    def _read(self, tls: Session, reader: MessageReader) -> None:
        while (data := tls.read()) is not None:
            if not data:
                self._end(KeOutcome.BROKEN, "closed before the End of Message record")
                return
            records = reader.feed(data)
            if records is not None:
                # what follows the End of Message in a record of its own is as wrong as in the same one
                if tls.read():
                    raise BrokenMessage("data after the End of Message record")
                tls.write(encode(self._answer(tls, records)))
                tls.close()
                return

    def _answer(self, tls: Session, records: list[Record]) -> tuple[Record, ...]:
        service = self._service
        decision = answer_request(records, service.algorithms)
        if not isinstance(decision, Agreement):
            self._end(KeOutcome.REFUSED, decision.reason)
            return decision.records
        if not service.ring.sequence:
            self._end(KeOutcome.REFUSED, "no server keys")
            return error_records(ErrorCode.INTERNAL)
        algorithm = decision.algorithm
        c2s, s2c = export_keys(tls, algorithm, compliant=decision.compliant_export)
        cookies = [service.ring.make_cookie(algorithm, c2s, s2c) for _ in range(COOKIES)]
        self._end(KeOutcome.SERVED)
        return agreement_records(decision, cookies, server=service.ntp_server, port=service.ntp_port)
