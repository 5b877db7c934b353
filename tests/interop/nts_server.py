"""Our NTS server for interop tests: key exchange and the data plane's engine in one event loop, on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.engine import Engine
from ntpd_fast.server.keyring import KeyManager
from ntpd_fast.server.ntske_server import NtsKeServer
from ntpd_fast.server.ntske_session import KeService
from ntpd_fast.server.shared import ReferencePage, Shared, SharedPlan
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import AsyncioScheduler
from tests.pki import Pair
from tests.tls_peers import server_credentials


class NtsServer:
    """A running server; `ntp_port` and `ke_port` are on 127.0.0.1."""

    def __init__(self, shared: Shared, engine: Engine, ke: NtsKeServer, ntp_port: int, ke_port: int) -> None:
        self.shared = shared
        self.engine = engine
        self.ke = ke
        self.ntp_port = ntp_port
        self.ke_port = ke_port
        self.logged: list[str] = []

    def counter(self, name: str) -> int:
        return self.shared.counters()[name]


@asynccontextmanager
async def running_server(
    pair: Pair,
    directory: Path | None = None,
    *,
    ntp_port: int = 0,
    ke_port: int = 0,
    algorithms: Sequence[int] = (30, 15),
    rotate_s: int = 604_800,
) -> AsyncIterator[NtsServer]:
    """Serve until the block ends. `directory`: with the `ntskeys` file."""
    loop = asyncio.get_running_loop()
    shared = Shared.create(SharedPlan(1, log_blocks=16, map_pairs=256, nts=True))
    rules = AccessTable()
    rules.set(ip_network("127.0.0.0/8"), True)
    shared.write_table("access", rules.compile())
    now = time.time_ns()
    shared.publish_reference(
        ReferencePage(
            local=True, local_activated=True, precision=-25, local_ref_time_ns=now, map_raw_ns=now, unsync_since_ns=now
        )
    )
    ring = shared.nts_ring
    assert ring is not None
    scheduler = AsyncioScheduler(loop, random.Random(1))
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with (
        mine,
        theirs,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", ke_port)) as tcp,
    ):
        udp.bind(("127.0.0.1", ntp_port))
        udp.setblocking(False)
        service = KeService(server_credentials(pair), ring, algorithms, None, udp.getsockname()[1])
        log: list[str] = []
        ke = NtsKeServer(loop, [tcp], service, lambda severity, text: log.append(text), connections_max=10)
        engine = Engine([udp], shared, 0, channel=theirs.fileno())
        server = NtsServer(shared, engine, ke, udp.getsockname()[1], tcp.getsockname()[1])

        def tell(severity: Severity, text: str) -> None:
            server.logged.append(text)

        keys = KeyManager(
            ring, scheduler, tell, time.time, directory=None if directory is None else str(directory), rotate_s=rotate_s
        )
        keys.start()
        ke.start()
        engine.start()
        engine.attach(loop)
        try:
            yield server
        finally:
            engine.detach()
            ke.stop()
            keys.stop()
            scheduler.close()
