"""What control does besides letting the time be served: asking sources, answering people, telling the time unasked.

Loaded and started when READY was said (`main.begin`), so that none of it delays the service. Nothing here can refuse to
start any more: what cannot be had is told in the log by the part that wants it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ntpd_fast.client.oneshot import InitStepSlew, OneShot
from ntpd_fast.clock.reference import ReferenceMode
from ntpd_fast.control.associations import AssociationReader
from ntpd_fast.control.broadcast import Broadcaster
from ntpd_fast.control.commanding import start_commanding
from ntpd_fast.control.context import Context, Running, Serviceable
from ntpd_fast.control.dumping import Dumping
from ntpd_fast.control.ntsclient import NtsClient
from ntpd_fast.control.serving import Serving
from ntpd_fast.control.signing import make_signer
from ntpd_fast.control.upstream import Upstream
from ntpd_fast.system.log import log_function
from ntpd_fast.system.syscalls import Kind

log = logging.getLogger(__name__)
tell = log_function(log)


def start_rest(context: Context, served: Serviceable) -> None:
    """Make the other parts, have commands answered, close ourselves in, and ask the sources."""
    nts = NtsClient(context.loop, context.setup.config, served.keys, family=context.setup.run.family)
    upstream = start_upstream(context, served, nts)
    running = Running(
        plane=served.plane,
        keys=served.keys,
        files=served.files,
        mailing=served.mailing,
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
        serving=bool(setup.plan.binds),
        family=setup.run.family,
        log=tell,
        sign=make_signer(config, setup.ntp_sockets.for_control, tell),
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
