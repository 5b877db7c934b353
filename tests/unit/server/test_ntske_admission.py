"""Who may exchange keys: access rules, rate limit, places shared out by networks."""

import asyncio
import mmap
import os
from ipaddress import ip_address, ip_network

from ntpd_fast._access import AccessView
from ntpd_fast._clientlog import ClientLogWriter, init_shard, shard_size
from ntpd_fast._keadmission import SharedAdmission
from ntpd_fast._kepoll import prefix_of
from ntpd_fast._region import ControlRegion, Mapping
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.server.access import AccessTable
from tests.unit.server.ntske import exchange, granted, half_open, is_closed


class Tables:
    """A control region with the access table."""

    def __init__(self):
        rooms = {"access": 65536}
        fd = os.memfd_create("control")
        os.ftruncate(fd, ControlRegion.plan(rooms))
        self.region = ControlRegion(Mapping(fd, ControlRegion.plan(rooms), True))
        os.close(fd)
        self.region.create(1, rooms)

    def set(self, *allowed):
        rules = AccessTable()
        for network in allowed:
            rules.set(network, True)
        self.table = rules.compile()
        self.region.write_table("access", self.table)


def test_access_rules_and_rate_limit(loop, start, authority):
    tables = Tables()
    shard = memoryview(mmap.mmap(-1, shard_size(16)))
    init_shard(shard, 16, bytes(20))
    clients = ClientLogWriter(shard)
    clients.set_limit(1, 6, 2, 4)
    server, port = start(admission=SharedAdmission(tables.region, clients, ntp_time=lambda: 1 << 60))

    async def refused():
        sock = await half_open(port)
        closed = await is_closed(sock)
        sock.close()
        return closed

    async def scenario():
        assert await refused()
        tables.set(ip_network("192.0.2.0/24"))
        assert await refused()
        tables.set(ip_network("127.0.0.0/8"))
        assert granted(await exchange(authority, port))
        assert granted(await exchange(authority, port))
        for _ in range(20):
            sock = await half_open(port)
            await asyncio.sleep(0.005)
            sock.close()

    loop.run_until_complete(scenario())
    counters = server.counters.read()
    assert counters["refused_access"] == 2
    assert counters["refused_rate"] >= 10
    assert counters["served"] == 2


def packed_prefix_of(address):
    return prefix_of(ip_address(address).packed)


def test_prefixes():
    assert packed_prefix_of("192.0.2.1") == packed_prefix_of("192.0.2.200")
    assert packed_prefix_of("192.0.2.1") != packed_prefix_of("192.0.3.1")
    assert packed_prefix_of("2001:db8:1::1") == packed_prefix_of("2001:db8:1:2::1")
    assert packed_prefix_of("2001:db8:1::1") != packed_prefix_of("2001:db8:2::1")


def test_another_rate_limit():
    shard = memoryview(mmap.mmap(-1, shard_size(16)))
    init_shard(shard, 16, bytes(20))
    tables = Tables()
    tables.set(ip_network("127.0.0.0/8"))
    admission = SharedAdmission(tables.region, ClientLogWriter(shard), ntp_time=lambda: 1 << 60)
    address = ip_address("127.0.0.1").packed

    def refused():
        return sum(admission.admit(address) == "refused_rate" for _ in range(100))

    assert refused() == 0
    admission.set_limit(parse_lines(["ntsratelimit interval 10 burst 2 leak 4"]).ntsratelimit)
    assert refused() > 60
    admission.set_limit(None)
    assert refused() == 0
    SharedAdmission(tables.region, None).set_limit(None)


def test_access_view_is_the_compiled_table():
    tables = Tables()
    tables.set(ip_network("10.0.0.0/8"))
    assert AccessView(tables.table).check(bytes([10, 1, 1, 1]))
