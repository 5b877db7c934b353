"""Who may connect to the NTS-KE server: the access table of `allow` and `deny`, then `ntsratelimit`.

Both are read where the data plane reads them, in shared memory; the client log shard is this process's own.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from ntpd_fast._access cimport access_attach, access_check
from ntpd_fast._addr cimport addr_from_packed, ntp_addr
from ntpd_fast._clientlog cimport LIMIT_PASS, SERVICE_NTSKE, ClientLogWriter
from ntpd_fast._packet cimport ns_to_ntp
from ntpd_fast._region cimport (
    TABLE_ACCESS,
    TABLE_VERSIONS,
    ControlRegion,
    nf_fence_acquire,
    nf_load_acquire,
    table_current,
)

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int CLOCK_REALTIME
    int clock_gettime(int clock, timespec *now)

_COUNTERS = {ADMITTED: "", REFUSED_ACCESS: "refused_access", REFUSED_RATE: "refused_rate"}


cdef class Admission:
    """Decides about accepted connections. This one lets everybody in."""

    cdef int decide(self, const ntp_addr *address) except -1:
        return ADMITTED

    def admit(self, bytes address not None) -> str:
        """Empty: welcome. Otherwise the counter of the refusal, `refused_access` or `refused_rate`.

        `address` is packed.
        """
        cdef ntp_addr addr
        addr_from_packed(&addr, address)
        return _COUNTERS[self.decide(&addr)]

    def set_limit(self, limit) -> None:
        """Another `ntsratelimit`, None: no limit."""


cdef class SharedAdmission(Admission):
    """The rules of the running daemon.

    region: holds the access table and control's reset state of client logs. clients: the log shard of key exchange;
    None with `noclientlog`. log_base: the number of records in the shards before ours. ntp_time gives NTP64 time for
    the client log in place of the system clock. No limit is set before `set_limit`.
    """

    def __init__(self, ControlRegion region not None, ClientLogWriter clients, log_base=0, ntp_time=None):
        self._region = region
        self._clients = clients
        self._base = log_base
        self._ntp_time = ntp_time

    def set_limit(self, limit) -> None:
        """`ntsratelimit`, None: no limit. Nothing is limited with `noclientlog`."""
        if self._clients is None:
            return
        if limit is None:
            self._clients.clear_limit(SERVICE_NTSKE)
        else:
            self._clients.set_limit(SERVICE_NTSKE, limit.interval, limit.burst, limit.leak)

    cdef int decide(self, const ntp_addr *address) except -1:
        cdef timespec now
        cdef uint64_t ntp_time
        self.follow()
        if self._table is None or not access_check(<const uint8_t *><const char *>self._table, address):
            # as for NTP requests: who is denied is not recorded
            return REFUSED_ACCESS
        if self._clients is None:
            return ADMITTED
        if self._ntp_time is not None:
            ntp_time = self._ntp_time()
        else:
            clock_gettime(CLOCK_REALTIME, &now)
            ntp_time = ns_to_ntp(now.tv_sec * 1000000000 + now.tv_nsec)
        self._clients.reset(nf_load_acquire(&self._region.region.log_reset), self._base)
        return ADMITTED if self._clients.count(address, SERVICE_NTSKE, ntp_time) == LIMIT_PASS else REFUSED_RATE

    cdef bint follow(self) except False:
        """Take over the access table when there is another."""
        cdef uint64_t version
        cdef const uint8_t *current
        cdef bytes table
        cdef uint64_t size
        while self._version != nf_load_acquire(&self._region.region.tables[TABLE_ACCESS].current):
            current = table_current(self._region.region, TABLE_ACCESS, &version)
            table = None
            if current != NULL:
                size = min(self._region.region.tables[TABLE_ACCESS].sizes[version % TABLE_VERSIONS],
                           self._region.region.tables[TABLE_ACCESS].capacity)
                table = (<const char *>current)[:size]
            nf_fence_acquire()
            # a writer may have gone twice round the copies meanwhile: then what was read may be two halves
            if version == nf_load_acquire(&self._region.region.tables[TABLE_ACCESS].current):
                if table is not None and not access_attach(<const uint8_t *><const char *>table, len(table)):
                    raise ValueError("not an access table of this version")
                self._table = table
                self._version = version
        return True
