"""What control does besides letting the time be served: asking sources, answering people, telling the time unasked.

Loaded and started when READY was said (`main.begin`), so that none of it delays the service. Nothing here can refuse to
start any more: what cannot be had is told in the log by the part that wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

import uvloop

from ntpd_fast._record import replace
from ntpd_fast.client.oneshot import InitStepSlew, OneShot
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.control.associations import AssociationReader
from ntpd_fast.control.broadcast import Broadcaster
from ntpd_fast.control.commanding import start_commanding
from ntpd_fast.control.context import Context, Running, Serviceable
from ntpd_fast.control.dumping import Dumping
from ntpd_fast.control.mailing import Mailing
from ntpd_fast.control.ntsclient import NtsClient
from ntpd_fast.control.serving import Serving
from ntpd_fast.control.signing import Signer
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.server.supervisor import END_SIGNALS, EXIT_END
from ntpd_fast.system.log import log_function
from ntpd_fast.system.syscalls import Kind
from ntpd_fast.system.timers import repeat

log = logging.getLogger(__name__)
tell = log_function(log)


def make_loop() -> contextlib.closing[asyncio.AbstractEventLoop]:
    """The event loop of control."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return contextlib.closing(loop)


def start_rest(context: Context, served: Serviceable) -> None:
    """Make the other parts, have commands answered, close ourselves in, and ask the sources."""
    for number in END_SIGNALS:
        context.loop.add_signal_handler(number, context.end, EXIT_END)
    served.clockwork.scheduler.run_in(context.loop)
    context.parts.callback(context.overseer.watch(context.loop, lambda: context.end(EXIT_END), context.listen))
    start_signs_of_life(context, served)
    mailing = start_mailing(context, served)
    start_exchange(context, served)
    nts = NtsClient(context.loop, context.setup.config, served.keys, family=context.setup.run.family)
    upstream = start_upstream(context, served, nts)
    running = Running(
        plane=served.plane,
        keys=served.keys,
        files=served.files,
        mailing=mailing,
        clockwork=served.clockwork,
        server_keys=served.server_keys,
        nts=nts,
        upstream=upstream,
        dumping=start_dumps(context, upstream),
        serving=start_serving(context, served, upstream),
        broadcaster=start_broadcasts(context, served),
    )
    commanding = start_commanding(context, running)
    context.heed = commanding.heed
    context.setup.sandbox.close_in(Kind.CONTROL)
    obey_in_sources = commanding.obey()

    def begin_normally() -> None:
        upstream.start()
        obey_in_sources()

    clockwork = served.clockwork
    mode = clockwork.reference.mode
    if mode is ReferenceMode.INITSTEPSLEW:
        start_with_step(context, running, begin_normally)
        return
    begin_normally()
    if mode is not ReferenceMode.NORMAL:
        watch = OneShot(upstream.sources, clockwork.reference, clockwork.scheduler)
        context.parts.callback(watch.close)
        watch.start()


def start_signs_of_life(context: Context, served: Serviceable) -> None:
    """Tell the overseer that we live, as often as it wants."""
    if context.overseer.alive_interval_s is not None:
        repeat(served.clockwork.scheduler, context.overseer.alive_interval_s, context.overseer.alive)


def start_mailing(context: Context, served: Serviceable) -> Mailing:
    """Mails about what the reference does from now on."""
    setup, reference = context.setup, served.clockwork.reference
    mailing = Mailing(context.loop, setup.config, setup.run.program, tell)
    context.parts.callback(mailing.close)
    reference.set_outlets(replace(reference.outlets, mail=mailing.tell))
    return mailing


def start_exchange(context: Context, served: Serviceable) -> None:
    """With `ntsprocesses 0`: establish keys with clients in this process."""
    setup, keys = context.setup, served.server_keys
    if setup.nts is None or keys is None or setup.ke_processes:
        return
    from ntpd_fast.control.nts import exchange_follows, exchange_here

    ntske = exchange_here(context.loop, setup.config, setup.nts, setup.shared)
    context.parts.callback(ntske.stop)
    keys.reload_certificates = ntske.reload_certificates
    keys.exchange_follow = partial(exchange_follows, ntske, setup.nts)


def start_upstream(context: Context, served: Serviceable, nts: NtsClient) -> Upstream:
    """Names and sources, and the packets of associations that come by the server sockets."""
    setup = context.setup
    config = setup.config
    upstream = Upstream(
        context.loop,
        config,
        served.clockwork,
        served.plane,
        nts,
        serving=bool(setup.ntp_sockets.groups),
        family=setup.run.family,
        log=tell,
        signer=Signer(config.ntpsigndsocket, setup.ntp_sockets.for_control, tell),
    )
    context.parts.callback(upstream.close)
    # it saves what sources have: before they are closed
    context.parts.callback(nts.close)
    served.files.attach(upstream.sources.hooks)
    for opened in setup.ntp_sockets.for_control():
        upstream.poller.attach_server_socket(opened, own=setup.workers > 0)
    for opened in setup.ntp_sockets.for_control_ptp():
        upstream.poller.attach_server_socket(opened, own=setup.workers > 0, ptp=True)
    reader = AssociationReader(context.loop, [ours for ours, _ in setup.associations], upstream.receive)
    context.parts.callback(reader.close)
    return upstream


def start_dumps(context: Context, upstream: Upstream) -> Dumping:
    """Measurements that outlive the daemon, with `dumpdir`."""
    setup = context.setup
    dumping = Dumping(setup.config.dumpdir, upstream.sources, tell)
    dumping.load(upstream.names, wanted=setup.run.reload_dumps)
    context.parts.callback(dumping.save)
    return dumping


def start_serving(context: Context, served: Serviceable, upstream: Upstream) -> Serving:
    """With `workers 0`: answer NTP in this process."""
    setup = context.setup
    serving = Serving(context.loop, served.clockwork, setup, context.overseer, upstream)
    context.parts.callback(serving.close)
    if setup.workers == 0:
        for opened in [*setup.ntp_sockets.for_control(), *setup.ntp_sockets.for_control_ptp()]:
            serving.serve(opened)
    return serving


def start_broadcasts(context: Context, served: Serviceable) -> Broadcaster:
    """Tell the time unasked, where that is configured."""
    setup, clockwork = context.setup, served.clockwork
    return Broadcaster(
        setup.config.broadcasts, setup.ntp_sockets.for_control, clockwork.clock, clockwork.reference, tell
    )


def start_with_step(context: Context, running: Running, begin_normally: Callable[[], None]) -> None:
    """`initstepslew`: correct the clock by its servers first; only then is the daemon ready."""
    clockwork = running.clockwork

    def begin() -> None:
        begin_normally()
        context.overseer.ready()

    directive = context.setup.config.initstepslew
    assert directive is not None
    initial = InitStepSlew(
        running.upstream.sources, clockwork.reference, clockwork.scheduler, directive.servers, begin
    )
    context.parts.callback(initial.close)
    context.mode_ended = initial.finish
    initial.start()
