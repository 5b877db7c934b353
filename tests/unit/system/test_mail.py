from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from ntpd_fast.system.mail import Mailer, compose
from ntpd_fast.system.messages import Severity

RECIPIENT = "root@example.com"
SAVE = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]


class Fixture:
    def __init__(self, *command: str, timeout_s: float = 10.0) -> None:
        self.command = command
        self.timeout_s = timeout_s
        self.logged: list[tuple[Severity, str]] = []

    def mailer(self) -> Mailer:
        return Mailer(
            asyncio.get_running_loop(),
            RECIPIENT,
            0.5,
            program="chronyd",
            log=lambda severity, text: self.logged.append((severity, text)),
            command=self.command,
            timeout_s=self.timeout_s,
            now_s=lambda: 1_700_000_000.0,
        )

    def run(
        self,
        scenario: Callable[[Mailer], Awaitable[None]],
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    ) -> None:
        async def main() -> None:
            async with asyncio.timeout(20.0):
                await scenario(self.mailer())

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())


async def idle(mailer: Mailer) -> None:
    while mailer.busy:
        await asyncio.sleep(0.01)


def test_what_the_mail_says() -> None:
    text = compose(RECIPIENT, "chronyd", -5.25, 0.5, 1_700_000_000.0, "host1").decode()
    headers, _, body = text.partition("\n\n")
    assert headers.split("\n") == [
        "To: root@example.com",
        "Subject: chronyd reports change to system clock on node [host1]",
    ]
    assert "Tuesday, 14 November 2023, when the system clock read 22:13:20 (UTC)" in body
    assert "adjust it by 5.250 seconds" in body
    assert "0.500 seconds" in body


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_mail_goes_to_the_command(loop_factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    kept = Fixture(sys.executable, "-c", SAVE, str(tmp_path / "mail"))

    async def scenario(mailer: Mailer) -> None:
        mailer.tell(1.0)
        assert mailer.busy
        await idle(mailer)
        mailer.tell(2.0)
        await idle(mailer)

    kept.run(scenario, loop_factory)
    assert b"adjust it by -2.000 seconds" in (tmp_path / "mail").read_bytes()
    assert kept.logged == []


def failure(reason: str) -> tuple[Severity, str]:
    return Severity.ERROR, f"Could not send mail notification to user {RECIPIENT} : {reason}"


def test_missing_command_is_told(tmp_path: Path) -> None:
    kept = Fixture(str(tmp_path / "none"))

    async def scenario(mailer: Mailer) -> None:
        mailer.tell(1.0)
        assert not mailer.busy

    kept.run(scenario)
    assert kept.logged == [failure(f"{tmp_path / 'none'} : No such file or directory")]


def test_command_that_fails_or_reads_nothing_is_told() -> None:
    kept = Fixture(sys.executable, "-c", "raise SystemExit(7)")

    async def scenario(mailer: Mailer) -> None:
        mailer.tell(1.0)
        await idle(mailer)

    kept.run(scenario)
    assert kept.logged == [failure(f"{sys.executable} ended with status 7")]


def test_command_that_hangs_is_ended_and_nothing_waits_for_it() -> None:
    kept = Fixture(sys.executable, "-c", "import time; time.sleep(60)", timeout_s=0.5)

    async def scenario(mailer: Mailer) -> None:
        started = time.monotonic()
        mailer.tell(1.0)
        mailer.tell(2.0)
        assert time.monotonic() - started < 0.4
        await idle(mailer)

    kept.run(scenario)
    assert kept.logged == [
        failure("the last one is still being sent"),
        failure(f"{sys.executable} ended with signal 9"),
    ]


def test_mail_about_the_end_outlives_the_daemon(tmp_path: Path) -> None:
    kept = Fixture(sys.executable, "-c", f"import time; time.sleep(0.3); {SAVE}", str(tmp_path / "mail"))

    async def scenario(mailer: Mailer) -> None:
        mailer.tell(1.0)
        mailer.close()
        assert not mailer.busy

    kept.run(scenario)
    deadline = time.monotonic() + 10.0
    while not (tmp_path / "mail").exists() or not (tmp_path / "mail").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert kept.logged == []
