"""Every report of a daemon, as a monitoring system asks for them: in this process, over one connection."""

from ntpd_fast.cli.ntpc.connection import Connection, Endpoint
from ntpd_fast.monitor.codec import replies as rep
from ntpd_fast.monitor.codec import requests as req
from ntpd_fast.monitor.codec.commands import Number, Status
from ntpd_fast.monitor.codec.layout import Message

PLAIN = (
    Number.TRACKING, Number.ACTIVITY, Number.SERVER_STATS, Number.SMOOTHING, Number.RTCREPORT, Number.MANUAL_LIST,
    Number.FAULTS,
)
OF_SOURCE = (Number.SOURCE_DATA, Number.SOURCESTATS, Number.SELECT_DATA)
OF_ADDRESS = (Number.NTP_DATA, Number.AUTH_DATA, Number.NTP_SOURCE_NAME)


class Scraper:
    """`reports` counts the answers, `unanswered` the questions without one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._connection = Connection([endpoint])
        self.reports = 0
        self.unanswered = 0

    def close(self) -> None:
        self._connection.close()

    def ask(self, number: Number, payload: Message | None = None) -> Message | None:
        """The report; None when there is no answer, or no report in it."""
        answer = self._connection.exchange(number, req.Nothing() if payload is None else payload)
        if answer is None:
            self.unanswered += 1
            return None
        self.reports += 1
        return answer.payload if answer.header.status == Status.SUCCESS else None

    def everything(self) -> None:
        """Each report once, each of a source for each source, and the first page of the clients."""
        for number in PLAIN:
            self.ask(number)
        count = self.ask(Number.N_SOURCES)
        for index in range(count.n_sources if isinstance(count, rep.SourceCount) else 0):
            for number in OF_SOURCE:
                found = self.ask(number, req.Index(index))
                if isinstance(found, rep.SourceData) and found.mode != 2:
                    for of_address in OF_ADDRESS:
                        self.ask(of_address, req.OneAddress(found.ip_addr))
        self.ask(Number.CLIENT_ACCESSES_BY_INDEX3, req.ClientAccesses(0, rep.CLIENTS_PER_REPLY, 0, 0))

    def faults(self) -> rep.Faults:
        """Our own report; AssertionError when there is none."""
        found = self.ask(Number.FAULTS)
        assert isinstance(found, rep.Faults), found
        return found
