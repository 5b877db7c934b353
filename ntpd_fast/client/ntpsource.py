"""One NTP source of the daemon: an association with its timers, its socket and its place in the selection.

Carries out what the association asks for; what concerns more than the source goes to its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ntpd_fast.client.actions import (
    Action,
    CancelTimer,
    CloseSocket,
    Confirmed,
    KissRate,
    MeasurementRecord,
    Select,
    SetTimer,
    StaleSample,
    Timer,
    Transmit,
    Unreachable,
    WentOffline,
)
from ntpd_fast.client.association import Association
from ntpd_fast.client.packet import IPAddress
from ntpd_fast.client.source import SelectableSource
from ntpd_fast.client.stamps import Now, Stamp
from ntpd_fast.client.transport import Channel, Encoder, Transport
from ntpd_fast.config.model import SourceConfig, SourceKind
from ntpd_fast.system.messages import Severity
from ntpd_fast.system.timers import Scheduler, TimerClass, TimerHandle

TRANSMIT_RANDOMNESS = 0.02
"""Requests come later than planned by up to this part of the delay, so that clients don't synchronise."""


class Owner(Protocol):
    """What a source asks of the set it belongs to."""

    def now(self) -> Now:
        """The time of the event that is being handled."""

    def select(self, source: SelectableSource, now: Now, *, updated: bool) -> None:
        """Run the selection because of a source."""

    def log_measurement(self, record: MeasurementRecord) -> None:
        """Write the measurements log."""

    def source_confirmed(self, source: NtpSource) -> None:
        """The source has given a good response."""

    def source_unreachable(self, source: NtpSource) -> None:
        """The source has not answered its last 8 requests."""

    def say(self, severity: Severity, text: str) -> None:
        """Log something."""


class NtpSource:
    """A server or peer."""

    def __init__(
        self,
        number: int,
        config: SourceConfig,
        association: Association,
        owner: Owner,
        scheduler: Scheduler,
        transport: Transport,
        *,
        address: IPAddress | None,
    ) -> None:
        """`number` identifies a source whose address is not known at first; 0 for others."""
        self.number = number
        self.config = config
        self.association = association
        self.selectable = association.source
        self.address = address
        self.port = config.options.port
        self._owner = owner
        self._scheduler = scheduler
        self._transport = transport
        self._channel: Channel | None = None
        self._timers: dict[Timer, TimerHandle] = {}
        self.closed = False

    @property
    def is_peer(self) -> bool:
        """Whether it is a symmetric association."""
        return self.config.kind is SourceKind.PEER

    @property
    def text(self) -> str:
        """The address, or the placeholder of a source without one."""
        return str(self.address) if self.address is not None else f"ID#{self.number:010d}"

    def start(self, now: Now) -> None:
        """Begin to send requests."""
        if self.address is not None:
            self._perform(self.association.start(now), now)

    def set_address(self, address: IPAddress, port: int, now: Now) -> None:
        """Talk to another server from now on; the statistics have been reset by the owner."""
        self.address = address
        self.port = port
        self.selectable.address = address
        self._perform(self.association.change_address(now), now)

    def switch_online(self, now: Now) -> None:
        """See `Association.switch_online`."""
        self._perform(self.association.switch_online(now), now)

    def switch_offline(self, now: Now) -> None:
        """See `Association.switch_offline`."""
        self._perform(self.association.switch_offline(), now)

    def start_burst(self, now: Now, good: int, total: int) -> None:
        """See `Association.start_burst`."""
        self._perform(self.association.start_burst(now, good, total), now)

    def follow_route(self, now: Now) -> None:
        """Go online if there is a route to the server, else offline."""
        if self.address is None:
            return
        if self._transport.can_reach(self.address, self.port):
            self.switch_online(now)
        else:
            self.switch_offline(now)

    def close(self) -> None:
        """Stop for good."""
        self.closed = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._close_channel()

    def receive(self, data: bytes, rx: Stamp, local_address: IPAddress | None) -> None:
        """A datagram from the server has come."""
        now = self._owner.now()
        self._perform(self.association.on_packet(data, rx, now, local_address), now)

    def improve_tx_stamp(self, data: bytes, stamp: Stamp) -> None:
        """A datagram that was sent before really left at this time."""
        now = self._owner.now()
        self._perform(self.association.on_tx_stamp(data, stamp, now), now)

    def perform(self, actions: Iterable[Action], now: Now) -> None:
        """Carry out what the association answered to a call from outside."""
        self._perform(actions, now)

    def _perform(self, actions: Iterable[Action], now: Now) -> None:
        for action in actions:
            if self.closed:
                return
            match action:
                case SetTimer():
                    self._set_timer(action)
                case CancelTimer():
                    self._cancel_timer(action.timer)
                case Transmit():
                    self._perform(self.association.on_sent(now, self._send(action.encode)), now)
                case CloseSocket():
                    self._close_channel()
                case Select():
                    self._owner.select(self.selectable, now, updated=action.updated)
                case WentOffline():
                    self.selectable.reset_reachability()
                    self._owner.select(self.selectable, now, updated=False)
                case MeasurementRecord():
                    self._owner.log_measurement(action)
                case Confirmed():
                    self._owner.source_confirmed(self)
                case Unreachable():
                    self._owner.source_unreachable(self)
                case KissRate():
                    self._owner.say(Severity.WARNING, f"Received KoD RATE from {self.text}")
                case StaleSample():
                    self._owner.say(
                        Severity.WARNING, f"Out of order sample detected, discarding history for {self.text}"
                    )

    def _set_timer(self, action: SetTimer) -> None:
        self._cancel_timer(action.timer)
        timer = action.timer
        callback = self._timer_callback(timer)
        if timer is Timer.TRANSMIT:
            handle = self._scheduler.call_later(
                action.delay_s,
                callback,
                timer_class=TimerClass.NTP_PEER if self.is_peer else TimerClass.NTP_CLIENT,
                separation_s=action.separation_s,
                randomness=TRANSMIT_RANDOMNESS,
            )
        else:
            handle = self._scheduler.call_later(action.delay_s, callback)
        self._timers[timer] = handle

    def _timer_callback(self, timer: Timer) -> Callable[[], None]:
        def fire() -> None:
            self._timers.pop(timer, None)
            now = self._owner.now()
            self._perform(self.association.on_timer(timer, now), now)

        return fire

    def _cancel_timer(self, timer: Timer) -> None:
        handle = self._timers.pop(timer, None)
        if handle is not None:
            handle.cancel()

    def _send(self, encode: Encoder) -> Stamp | None:
        """Send a packet; every request of a client leaves from a socket of its own."""
        assert self.address is not None
        if self._channel is None or not self.is_peer:
            self._close_channel()
            self._channel = self._transport.open(self.address, self.port, self, symmetric=self.is_peer)
        return self._channel.send(encode) if self._channel is not None else None

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
