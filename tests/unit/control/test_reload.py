"""What of a changed configuration runs at once, and what waits for a restart; what a file out of reach means."""

import os
import socket

import pytest

from ntpd_fast.config import ConfigError, parse_lines
from ntpd_fast.control.plan import make_plan
from ntpd_fast.control.reload import Change, Reader, Reading, Running, load, split, store
from ntpd_fast.control.runoptions import RunOptions
from ntpd_fast.server.sockets import BindAddress

RUN = RunOptions()


def anywhere(directory: str) -> bool:
    return True


def changed(old: list[str], new: list[str], running: Running | None = None) -> Change:
    running = running or Running(1, 4, False, None, anywhere)
    config = parse_lines(new)
    return split(parse_lines(old), Reading(config, make_plan(config, RUN, cpus=2), {}), running, RUN)


def test_what_needs_a_restart_keeps_its_value_and_is_named_every_time() -> None:
    change = changed(["allow", "workers 1", "user a"], ["allow", "workers 1", "user b", "makestep 1 3"])
    assert change.needs_restart == ("user",)
    assert change.config.user == "a"
    assert change.config.makestep.limit == 3
    again = changed(["allow", "workers 1", "user a"], ["allow", "workers 1", "user b"])
    assert again.needs_restart == ("user",)


@pytest.mark.parametrize(
    ("running", "wanted", "workers", "named"),
    [
        (Running(1, 4, False, None, anywhere), 3, 3, ()),
        (Running(3, 4, False, None, anywhere), 1, 1, ()),
        (Running(1, 4, False, None, anywhere), 9, 4, ("workers (beyond 4)",)),
        (Running(1, 4, False, None, anywhere), 0, 1, ("workers",)),
        (Running(0, 0, False, None, anywhere), 2, 0, ("workers",)),
        (Running(2, 4, True, None, anywhere), 3, 2, ("workers",)),
    ],
)
def test_number_of_workers(running: Running, wanted: int, workers: int, named: tuple[str, ...]) -> None:
    change = changed(["allow", f"workers {running.workers}"], ["allow", f"workers {wanted}"], running)
    assert (change.workers, change.needs_restart) == (workers, named)


def test_a_client_that_begins_to_serve_is_not_told_of_workers_it_never_asked_for() -> None:
    change = changed([], ["allow"], Running(0, 0, False, None, anywhere))
    assert (change.workers, change.needs_restart) == (0, ())


def test_key_exchange_begins_and_ends_with_a_restart_only() -> None:
    pair = ["allow", "workers 1", "ntsservercert /c", "ntsserverkey /k"]
    change = changed(["allow", "workers 1"], pair)
    assert change.config.ntsservercerts == ()
    assert any("key exchange" in name for name in change.needs_restart)
    anywhere_asked = tuple(BindAddress.any(family, 4460) for family in (socket.AF_INET, socket.AF_INET6))
    serving = Running(1, 4, False, anywhere_asked, anywhere)
    assert changed(pair, ["allow", "workers 1"], serving).config.ntsservercerts == ("/c",)
    other = changed(pair, ["allow", "workers 1", "ntsservercert /d", "ntsserverkey /k"], serving)
    assert (other.config.ntsservercerts, other.needs_restart) == (("/d",), ())


def test_key_exchange_stays_on_its_addresses() -> None:
    bound = ["allow", "workers 1", "ntsservercert /c", "ntsserverkey /k", "bindaddress 192.0.2.1", "bindaddress ::1"]
    listening = (BindAddress(socket.AF_INET, "192.0.2.1", 4460), BindAddress(socket.AF_INET6, "::1", 4460))
    serving = Running(1, 4, False, listening, anywhere)
    assert changed(bound, [*bound, "makestep 1 3"], serving).needs_restart == ()
    for _ in range(2):
        change = changed(bound, [*bound, "bindaddress 192.0.2.2"], serving)
        assert change.needs_restart == ("bindaddress (of key exchange)",)
        assert [str(address) for address in change.config.bindaddress_ipv4] == ["192.0.2.1", "192.0.2.2"]


def test_files_where_a_closed_in_daemon_may_not_write_need_a_restart() -> None:
    running = Running(1, 4, False, None, lambda directory: directory == "/good")
    change = changed(["allow", "workers 1"], ["allow", "workers 1", "logdir /good", "dumpdir /bad"], running)
    assert (change.config.logdir, change.config.dumpdir) == ("/good", None)
    assert change.needs_restart == ("dumpdir (outside of what -F leaves)",)


def test_mails_need_the_right_to_run_a_mailer_from_the_start() -> None:
    change = changed(["allow", "workers 1"], ["allow", "workers 1", "mailonchange root 1"])
    assert (change.config.mailonchange, change.needs_restart) == (None, ("mailonchange",))
    again = changed(["allow", "workers 1", "mailonchange root 1"], ["allow", "workers 1", "mailonchange root 2"])
    assert again.needs_restart == ()


def test_reading_crosses_between_processes() -> None:
    descriptor = os.memfd_create("test")
    try:
        config = parse_lines(["server a.example iburst", "allow 10/8"])
        reading = Reading(config, make_plan(config, RUN, cpus=1), {})
        store(reading, descriptor)
        found = load(descriptor)
        assert isinstance(found, Reading)
        assert found.config == config
    finally:
        os.close(descriptor)


def test_mistakes_are_the_text_of_a_refusal() -> None:
    def broken() -> None:
        raise ConfigError("Invalid directive x")

    reader = Reader(broken, RUN)  # type: ignore[arg-type]
    assert reader(parse_lines([]), lambda severity, text: None) == "Invalid directive x"
