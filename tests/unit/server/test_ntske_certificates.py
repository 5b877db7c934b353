"""Certificates and configurations that change while sessions go on. Loopback only."""

import asyncio
import socket
import time

import pytest

from ntpd_fast._keadmission import Admission
from ntpd_fast.config.loader import parse_lines
from ntpd_fast.nts.records import MessageReader, encode, read_response, request_records
from ntpd_fast.server.ntske_certificates import CertificateError, CertificateStore
from ntpd_fast.server.ntske_counters import KeCounters
from ntpd_fast.server.ntske_process import NtsKe, NtsKeOptions, NtsKeParts
from tests.pki import Authority
from tests.unit.server.ntske import SIV, exchange, filled_ring, granted, greeting, half_open, is_closed, take_greeting


def test_certificates_are_reloaded_without_dropping_sessions(loop, authority, log, tmp_path):
    paths = authority.issue("ntp.example.test").write(tmp_path)
    store = CertificateStore([paths], log)
    store.load(time.time())
    second = Authority("second authority")

    async def scenario(port, ntske):
        # in the middle of a session
        async with greeting(authority, port) as (sock, client):
            client.feed(await loop.sock_recv(sock, 16384))
            second.issue("ntp.example.test").write(tmp_path)
            ntske.reload_certificates(force=False)
            await take_greeting(sock, client)
            client.write(encode(request_records([SIV])))
            await loop.sock_sendall(sock, client.out())
            client.feed(await loop.sock_recv(sock, 16384))
            assert granted(client.read())
        assert granted(await exchange(second, port))
        # a bad pair changes nothing, and is told once
        (tmp_path / "server.key").write_text("nonsense")
        ntske.reload_certificates(force=False)
        ntske.reload_certificates(force=False)
        assert granted(await exchange(second, port))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = NtsKeParts([listener], store, filled_ring(), AlwaysWelcome(), KeCounters())
        ntske = NtsKe(loop, NtsKeOptions([SIV], 10), parts, log)
        ntske.start()
        loop.run_until_complete(scenario(listener.getsockname()[1], ntske))
        ntske.stop()
    assert parts.counters.read()["certificate_reloads"] == 1
    assert log.having("Reloaded NTS server certificates")
    assert len(log.having("the old ones stay")) == 1
    assert "server.key" in log.having("the old ones stay")[0]


class AlwaysWelcome(Admission):
    limit = None

    def set_limit(self, limit):
        self.limit = limit


def test_another_configuration_is_followed_without_dropping_sessions(loop, authority, log, tmp_path):
    store = CertificateStore([authority.issue("ntp.example.test").write(tmp_path)], log)
    store.load(time.time())
    second = Authority("second authority")
    others = [second.issue("ntp.example.test").write(tmp_path, "other")]
    admission = AlwaysWelcome()
    limit = parse_lines(["ntsratelimit interval 3"]).ntsratelimit

    async def scenario(port, ntske):
        held = [await half_open(port) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert ntske.server.sessions == 3
        bad = [(str(tmp_path / "none.crt"), others[0][1])]
        ntske.follow(NtsKeOptions([SIV], 2, "ntp2.example.test", 1123), bad, limit)
        # sessions that have begun keep their places, which are now too many for anybody else
        assert ntske.server.sessions == 3
        refused = await half_open(port)
        assert await is_closed(refused)
        for sock in [*held, refused]:
            sock.close()
        await asyncio.sleep(0.05)
        answer = read_response(MessageReader().feed(await exchange(authority, port)), [SIV])
        assert (answer.server, answer.port) == ("ntp2.example.test", 1123)
        ntske.follow(NtsKeOptions([SIV], 2), others, None)
        assert granted(await exchange(second, port))
        # those are the files looked at from now on
        third = Authority("third authority")
        third.issue("ntp.example.test").write(tmp_path, "other")
        ntske.reload_certificates(force=False)
        assert granted(await exchange(third, port))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        parts = NtsKeParts([listener], store, filled_ring(), admission, KeCounters())
        ntske = NtsKe(loop, NtsKeOptions([SIV], 10), parts, log)
        ntske.start()
        loop.run_until_complete(scenario(listener.getsockname()[1], ntske))
        ntske.stop()
    assert admission.limit is None
    counters = parts.counters.read()
    assert (counters["certificate_reloads"], counters["refused_full"]) == (2, 1)
    assert log.having("the old ones stay") == [
        f"Could not load NTS server certificates, the old ones stay : {tmp_path}/none.crt : No such file or directory"
    ]
    assert log.having("Loaded other NTS server certificates")


def test_bad_certificates_are_told_with_path_and_reason(authority, pair, log, tmp_path):
    paths = pair.write(tmp_path)
    other = authority.issue("ntp.example.test").write(tmp_path, "other")

    def refusal(certificate, key):
        with pytest.raises(CertificateError) as refused:
            CertificateStore([(str(certificate), str(key))], log).load(time.time())
        return str(refused.value)

    assert refusal(tmp_path / "none.crt", paths[1]) == f"{tmp_path}/none.crt : No such file or directory"
    assert refusal(paths[0], tmp_path) == f"{tmp_path} : Is a directory"
    assert "do not match" in refusal(paths[0], other[1])
    assert refusal(paths[1], paths[1]).startswith(f"{paths[1]} with {paths[1]}")


def test_certificates_that_are_not_valid_now_are_told(authority, log, tmp_path):
    for name, start_day, end_day, text in [
        ("old", -10, -5, "has expired"),
        ("new", 5, 10, "is not valid yet"),
        ("soon", -10, 3, "expires on"),
        ("good", -10, 30, ""),
    ]:
        paths = authority.issue("ntp.example.test", start_days=start_day, end_days=end_day).write(tmp_path, name)
        log.lines.clear()
        CertificateStore([paths], log).load(time.time())
        if text:
            assert f"{name}.crt {text}" in log.lines[0]
        else:
            assert log.lines == []
