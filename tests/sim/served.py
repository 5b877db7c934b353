"""The serving half of a node: the data plane's packet core over real shared memory.

It answers from the page that control has published last, and goes on when control is dead, as workers do.
"""

from __future__ import annotations

import dataclasses
from ipaddress import ip_network

from ntpd_fast._packet import PacketServer
from ntpd_fast.clock.served import ServedReference
from ntpd_fast.control.dataplane import PeerRow, peer_table
from ntpd_fast.server.access import AccessTable
from ntpd_fast.server.shared import ReferencePage, Shared, SharedPlan
from tests.sim.kernel import ModelKernel
from tests.sim.network import Datagram, Endpoint, IPAddress, Network

NTP_PORT = 123
LOG_BLOCKS = 64
MAP_PAIRS = 1024
TABLES = {"access": 65536, "keys": 65536, "peers": 65536, "serving": 4096}


class Worker:
    """Answers requests to one address."""

    def __init__(
        self,
        network: Network,
        address: IPAddress,
        kernel: ModelKernel,
        *,
        peers: tuple[PeerRow, ...] = (),
    ) -> None:
        self._network = network
        self._address = address
        self._kernel = kernel
        self._shared = Shared.create(
            SharedPlan(1, table_bytes=TABLES, log_blocks=LOG_BLOCKS, map_pairs=MAP_PAIRS)
        )
        rules = AccessTable()
        for everything in ("0.0.0.0/0", "::/0"):
            rules.set(ip_network(everything), True)
        region = self._shared.worker(0)
        self._server = PacketServer(
            self._shared.control,
            rules.compile(),
            log=region.log_memory(),
            stamps=region.map_memory(),
            peers=peer_table(peers),
        )
        self._rng = network.world.random(f"{address}/worker")
        self._page: ServedReference | None = None
        self.answers = 0
        self.held_back = 0
        """Requests that came while the clock was being stepped."""

    def publish(self, page: ServedReference) -> None:
        """Take over what control says."""
        self._page = page
        values = {field.name: getattr(page, field.name) for field in dataclasses.fields(page)}
        self._shared.publish_reference(ReferencePage(**values))

    def served_ns(self) -> int:
        """The time that an answer would carry now, smoothing included."""
        assert self._page is not None
        cooked_ns = self._page.mapping.cooked_ns(self._kernel.read())
        return cooked_ns + round(self._page.smoothed_s(cooked_ns) * 1e9)

    def receive(self, datagram: Datagram) -> str:
        """Answer a request; the outcome `control` means that it is for an association."""
        if self._page is None:
            return "drop_stepping"
        cooked_ns = self._page.mapping.cooked_ns(self._kernel.read())
        self._server.seed(self._rng.randbytes(64))
        outcome, _, answer = self._server.answer(
            datagram.data, datagram.source.address.packed, datagram.source.port, cooked_ns, cooked_ns, False
        )
        self.held_back += outcome == "drop_stepping"
        if answer is not None:
            self.answers += 1
            self._network.send(Datagram(Endpoint(self._address, NTP_PORT), datagram.source, answer))
        return outcome
