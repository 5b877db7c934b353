from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
import uvloop

from ntpd_fast.client.resolver import MAX_ADDRESSES, Resolution, SystemResolver, look_up

LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
ONE = Resolution((IPv4Address("10.0.0.1"),))


def test_literal_addresses_and_local_names() -> None:
    assert look_up("127.0.0.1") == Resolution((IPv4Address("127.0.0.1"),))
    assert IPv4Address("127.0.0.1") in look_up("localhost", 4).addresses
    assert look_up("127.0.0.1", 6).addresses == ()


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "a" * 300, "\udcff.example"])
def test_impossible_names(name: str) -> None:
    assert look_up(name) == Resolution(reason="Invalid name", impossible=True)


def test_unknown_name_may_come_to_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object) -> None:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    assert look_up("a.example") == Resolution(reason="Temporary failure in name resolution")


def test_answers_are_bounded_and_without_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*(f"10.0.{i // 200}.{i % 200}" for i in range(1000)), "10.0.0.0", "fe80::1%eth0"]

    def getaddrinfo(*_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, 2, 17, "", (text, 0)) for text in ("fe80::1%eth0", *texts[:1], *texts)]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    found = look_up("a.example").addresses
    assert [str(address) for address in found] == texts[:MAX_ADDRESSES]


def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], scenario: Callable[[], object]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(), 10.0)  # type: ignore[arg-type]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_answer_comes_through_the_loop_and_later(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        resolver = SystemResolver(asyncio.get_running_loop(), lookup=lambda name, family: ONE)
        answers: list[tuple[Resolution, threading.Thread]] = []
        got = asyncio.Event()

        def done(resolution: Resolution) -> None:
            answers.append((resolution, threading.current_thread()))
            got.set()

        resolver.resolve("a.example", done)
        assert answers == []
        await got.wait()
        assert answers == [(ONE, threading.current_thread())]
        resolver.close()

    run(loop_factory, scenario)


def test_lookups_at_a_time_are_bounded() -> None:
    running = most = 0
    lock = threading.Lock()

    def lookup(name: str, family: int | None) -> Resolution:
        nonlocal running, most
        assert family == 6
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return ONE

    async def scenario() -> None:
        resolver = SystemResolver(asyncio.get_running_loop(), family=6, threads=3, lookup=lookup)
        left = 20
        got = asyncio.Event()

        def done(resolution: Resolution) -> None:
            nonlocal left
            left -= 1
            if not left:
                got.set()

        for i in range(20):
            resolver.resolve(f"n{i}.example", done)
        await got.wait()
        assert most == 3
        resolver.close()

    run(uvloop.new_event_loop, scenario)


def test_slow_name_does_not_stop_the_loop_and_closing_drops_its_answer() -> None:
    release = threading.Event()

    def lookup(name: str, family: int | None) -> Resolution:
        release.wait(10.0)
        return ONE

    async def scenario() -> None:
        resolver = SystemResolver(asyncio.get_running_loop(), lookup=lookup)
        answers: list[Resolution] = []
        resolver.resolve("slow.example", answers.append)
        resolver.resolve("slower.example", answers.append)
        await asyncio.sleep(0.05)
        resolver.close()
        release.set()
        await asyncio.sleep(0.05)
        assert answers == []

    run(uvloop.new_event_loop, scenario)


def test_hanging_lookup_does_not_keep_the_process() -> None:
    program = textwrap.dedent(
        """
        import asyncio, time
        from ntpd_fast.client.resolver import Resolution, SystemResolver

        def lookup(name, family):
            time.sleep(60)
            return Resolution()

        async def main():
            SystemResolver(asyncio.get_running_loop(), lookup=lookup).resolve("a.example", print)
            await asyncio.sleep(0.1)

        asyncio.run(main())
        """
    )
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
    assert time.monotonic() - started < 10
