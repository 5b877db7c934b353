"""A key exchange process of its own: forked, told to read its certificates again, ended."""

import contextlib
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from ntpd_fast._keadmission import Admission
from ntpd_fast._nts import KeyRing
from ntpd_fast._region import Mapping
from ntpd_fast.client.ntske_client import KeExchange, KeKeys
from ntpd_fast.server.keyring import CURRENT, random_keys
from ntpd_fast.server.ntske_certificates import CertificateStore
from ntpd_fast.server.ntske_counters import COUNTER_BYTES, KeCounters
from ntpd_fast.server.ntske_process import NtsKeOptions, NtsKeParts, run_ntske
from tests.pki import Authority
from tests.tls_peers import trusting

SIV = 15
NAME = "ntp.example.test"


def exchange(authority, port):
    """The result of a whole exchange over a blocking socket."""
    client = KeExchange(trusting(authority), NAME, [SIV], "server", check_times=True)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        out = client.start()
        while client.result is None:
            sock.sendall(out)
            out = client.receive(sock.recv(16384))
    return client.result


@contextlib.contextmanager
def forked(tmp_path, authority, **options):
    """A process with shared counters and keys: (pid, port, counters, ring)."""
    log = []
    store = CertificateStore([authority.issue(NAME).write(tmp_path)], lambda severity, text: log.append(text))
    store.load(time.time())
    memory = [os.memfd_create(name) for name in ("keys", "counters")]
    for descriptor in memory:
        os.ftruncate(descriptor, 65536)
    ring = KeyRing(Mapping(memory[0], 65536, True))
    counters = KeCounters(memoryview(mmap.mmap(memory[1], COUNTER_BYTES)))
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        pid = os.fork()
        if pid == 0:
            status = 9
            try:
                parts = NtsKeParts([listener], store, ring, Admission(), counters)
                settings = {"algorithms": [SIV], "connections_max": 100} | options
                status = run_ntske(NtsKeOptions(**settings), parts, lambda severity, text: log.append(text))
            finally:
                os._exit(status)
        try:
            yield pid, listener.getsockname()[1], counters, ring
            os.kill(pid, signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
            assert status == 0
        except BaseException:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            raise
        finally:
            for descriptor in memory:
                os.close(descriptor)


def publish(ring):
    keys = random_keys()
    ring.publish([(k.identifier, k.algorithm, k.key) for k in keys], keys[CURRENT].identifier)


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_keys_counters_and_certificates_of_a_running_process(tmp_path):
    first, second = Authority(), Authority("second")
    with forked(tmp_path, first) as (pid, port, counters, ring):
        assert "server reports error 2" in exchange(first, port).text
        # control publishes: the process needs not be told
        publish(ring)
        keys = exchange(first, port)
        assert isinstance(keys, KeKeys)
        assert ring.open_cookie(keys.cookies[0]) == (SIV, keys.c2s, keys.s2c)
        publish(ring)
        assert ring.open_cookie(keys.cookies[0]) is None
        assert ring.open_cookie(exchange(first, port).cookies[0]) is not None
        second.issue(NAME).write(tmp_path)
        os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: counters.read()["certificate_reloads"] == 1)
        assert isinstance(exchange(second, port), KeKeys)
        assert counters.read()["served"] == 3
        assert counters.read()["refused"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_half_open_connections(tmp_path):
    """New clients are served meanwhile; a connection that waits in its handshake costs at most 26 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, max(hard, 20000)))
    authority = Authority()

    def anonymous_kib(pid):
        with open(f"/proc/{pid}/status") as status:
            [line] = [line for line in status if line.startswith("RssAnon")]
        return int(line.split()[1])

    def half_open(port, count):
        hello = KeExchange(trusting(authority), NAME, [SIV], "server", check_times=True).start()
        held = []
        for i in range(count):
            sock = socket.create_connection(("127.0.0.1", port), 30)
            # nothing, the beginning of a handshake, half a handshake
            sock.sendall((b"", hello[:10], hello)[i % 3])
            held.append(sock)
        return held

    try:
        with forked(tmp_path, authority, connections_max=12000, timeout_s=120.0) as (pid, port, counters, ring):
            publish(ring)
            for _ in range(20):
                exchange(authority, port)
            before = anonymous_kib(pid)
            held = half_open(port, 10000)
            wait_for(lambda: counters.read()["sessions"] == 10000)
            start = time.monotonic()
            assert isinstance(exchange(authority, port), KeKeys)
            assert time.monotonic() - start < 5
            assert (anonymous_kib(pid) - before) / 10000 < 26
            for sock in held:
                sock.close()
            wait_for(lambda: counters.read()["sessions"] == 0)
        # with the ordinary deadline they only last so long
        with forked(tmp_path, authority, connections_max=12000) as (pid, port, counters, ring):
            publish(ring)
            held = half_open(port, 3000)
            assert isinstance(exchange(authority, port), KeKeys)
            wait_for(lambda: counters.read()["sessions"] == 0)
            assert counters.read()["timed_out"] > 2900
            for sock in held:
                sock.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_library_that_refuses_is_an_error_not_the_end(tmp_path):
    """Without TLS (here: no policy that allows it, as under FIPS restrictions) the process is told and goes on."""
    policy = tmp_path / "policy"
    policy.write_text("[overrides]\ndisabled-version = tls1.3\n")
    script = (
        "from ntpd_fast._tls import Credentials, TlsError\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        Credentials()\n"
        "    except TlsError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"GNUTLS_SYSTEM_PRIORITY_FILE": str(policy)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("GnuTLS has no TLS 1.3 under the system's policy : ") for line in lines)
