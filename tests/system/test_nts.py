"""The NTS server of a whole daemon: keys, cookies and answers; what happens when processes, files or the daemon go."""

import os
import pwd
import signal
import socket
import sys
import time

import pytest

from ntpd_fast.client.ntske_client import KeExchange, KeKeys
from tests.pki import Authority
from tests.processes import children_of, is_running, status_of, wait_until
from tests.system.harness import open_to_others
from tests.system.nts_daemons import answered, exchange, free_tcp_port, statistics
from tests.tls_peers import trusting

SIV = 15
SERVE = ("local stratum 7", "allow")
SECRET = bytes(range(32)).hex()


def serves_time(daemon):
    """On a busy machine the first request may wait too long while the rest of the daemon is loaded."""
    answer = daemon.ask(timeout_s=1.0)
    return answer is not None and answer[1] == 7


def test_one_process_does_it_all(make_nts_server, authority, tmp_path):
    daemon = make_nts_server(f"ntsdumpdir {tmp_path}/nts").start()
    assert children_of(daemon.pid) == []
    keys = exchange(authority, daemon)
    assert keys.port == daemon.port
    for cookie in keys.cookies:
        assert len(answered(daemon, keys, cookie)) == 1
    counts = statistics(daemon)
    assert counts["NTS-KE connections accepted"] == "1"
    assert counts["Authenticated NTP packets"] == "8"
    assert (tmp_path / "nts" / "ntskeys").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "nts").stat().st_mode & 0o777 == 0o750
    assert daemon.stop() == 0


def test_processes_of_their_own(make_nts_server, authority, tmp_path):
    daemon = make_nts_server("workers 2", "ntsprocesses 2", f"ntsdumpdir {tmp_path}").start()
    assert len(children_of(daemon.pid)) == 5
    keys = exchange(authority, daemon)
    assert len(answered(daemon, keys)) == 1
    for _ in range(10):
        exchange(authority, daemon)
    counts = statistics(daemon)
    assert counts["NTS-KE connections accepted"] == "11"
    [row] = [line for line in daemon.chronyc("-c", "clients", "-k").splitlines() if line.startswith("127.0.0.1")]
    assert row.split(",")[6] == "11"
    assert daemon.stop() == 0


def test_key_exchange_beside_control_without_workers(make_nts_server, authority):
    daemon = make_nts_server("workers 0", "ntsprocesses 1").start()
    assert len(children_of(daemon.pid)) == 2
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    assert daemon.stop() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_keys_are_had_on_all_bound_addresses(make_nts_server, authority, workers):
    """A reload says that key exchange stays on them, while NTP follows."""
    bound = ("bindaddress 127.0.0.1", "bindaddress 127.0.0.2")
    daemon = make_nts_server(f"workers {workers}", f"ntsprocesses {workers}", *bound).start()
    for address in ("127.0.0.1", "127.0.0.2"):
        assert len(answered(daemon, exchange(authority, daemon, address))) == 1
    with pytest.raises(ConnectionRefusedError):
        exchange(authority, daemon, "127.0.0.3")
    with daemon.config.open("a") as file:
        file.write("bindaddress 127.0.0.3\n")
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until(lambda: "Reloaded the configuration" in daemon.log_texts(), "the end of the reload")
    assert "Changed directives that need a restart : bindaddress (of key exchange)" in daemon.log_texts()
    assert daemon.ask("127.0.0.3")[1] == 7
    assert len(answered(daemon, exchange(authority, daemon, "127.0.0.2"))) == 1
    assert daemon.stop() == 0


def test_a_key_exchange_process_that_dies_comes_back(make_nts_server, authority):
    daemon = make_nts_server("workers 1", "ntsprocesses 1").start()
    keys = exchange(authority, daemon)
    [*_, newest] = children_of(daemon.pid)
    os.kill(newest, signal.SIGKILL)
    wait_until(lambda: not is_running(newest), "its end")
    again = exchange(authority, daemon)
    # the keys are control's
    assert len(answered(daemon, keys, again.cookies[0] if again.c2s == keys.c2s else None)) == 1
    assert len(answered(daemon, again)) == 1
    assert statistics(daemon)["NTS-KE connections accepted"] == "2"
    assert daemon.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_clients_keep_their_cookies_over_a_restart(make_nts_server, authority, tmp_path, number):
    daemon = make_nts_server("workers 1", "ntsprocesses 1", f"ntsdumpdir {tmp_path}").start()
    keys = exchange(authority, daemon)
    if number == signal.SIGKILL:
        daemon.close()
    else:
        daemon.stop(number)
    daemon.start()
    assert len(answered(daemon, keys)) == 1
    assert "Loaded server NTS keys" in daemon.log_texts()


def test_without_a_directory_for_keys_the_next_daemon_has_others(make_nts_server, authority):
    daemon = make_nts_server().start()
    assert "No ntsdumpdir to save server keys" in daemon.log_texts()
    keys = exchange(authority, daemon)
    daemon.stop()
    daemon.start()
    assert answered(daemon, keys) is None


@pytest.mark.parametrize("broken", ["missing", "mismatched", "garbage"])
def test_a_server_without_a_good_certificate_serves_time(make_nts_server, authority, tmp_path, broken):
    daemon = make_nts_server()
    if broken == "missing":
        (tmp_path / "server.crt").unlink()
    elif broken == "mismatched":
        authority.issue("127.0.0.1").write(tmp_path, "other")
        (tmp_path / "server.key").write_bytes((tmp_path / "other.key").read_bytes())
    else:
        (tmp_path / "server.key").write_text("no key")
    daemon.start()
    [line] = [line for line in daemon.log_texts() if "NTS" in line and "starting" not in line]
    assert line.startswith(f"NTS server disabled : {tmp_path}/server.crt")
    wait_until(lambda: serves_time(daemon), "an answer")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", daemon.ke_port))
    assert daemon.stop() == 0


def test_a_system_that_refuses_tls_loses_key_exchange_and_nothing_else(make_nts_server, tmp_path):
    """As under FIPS restrictions: one line says so."""
    policy = tmp_path / "policy"
    policy.write_text("[overrides]\ndisabled-version = tls1.3\n")
    daemon = make_nts_server(
        environment={"GNUTLS_SYSTEM_PRIORITY_FILE": str(policy)},
        launcher=[sys.executable, "-m", "ntpd_fast.cli.start"],
    ).start()
    [line] = [line for line in daemon.log_texts() if "NTS" in line and "starting" not in line]
    assert line.startswith("NTS server disabled : GnuTLS has no TLS 1.3 under the system's policy")
    wait_until(lambda: serves_time(daemon), "an answer")
    assert daemon.stop() == 0


def test_fips_restrictions_do_not_touch_key_exchange(make_nts_server, authority):
    """GnuTLS, where it has such a mode, lets TLS 1.3 through."""
    daemon = make_nts_server(
        environment={"GNUTLS_FORCE_FIPS_MODE": "1"}, launcher=[sys.executable, "-m", "ntpd_fast.cli.start"]
    ).start()
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    assert daemon.stop() == 0


REFUSING = """
import sys
from ntpd_fast import _tls
from ntpd_fast.cli.daemon import main

def refuse(secret, info, length):
    raise _tls.TlsError("not in this mode")

_tls.hkdf_sha256 = refuse
sys.exit(main())
"""


def test_derived_keys_that_the_library_refuses_cost_nts_and_nothing_else(make_nts_server, authority, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o640)
    daemon = make_nts_server(f"ntssharedkey {secret}", launcher=[sys.executable, "-c", REFUSING]).start()
    [line] = [line for line in daemon.log_texts() if "NTS" in line and "starting" not in line]
    assert line == "NTS server keys disabled : the crypto library refuses HKDF with SHA-256"
    wait_until(lambda: serves_time(daemon), "an answer")
    client = KeExchange(trusting(authority), "127.0.0.1", [SIV], "daemon", check_times=True)
    with socket.create_connection(("127.0.0.1", daemon.ke_port), 10) as sock:
        out = client.start()
        while client.result is None:
            sock.sendall(out)
            out = client.receive(sock.recv(16384))
    assert "server reports error 2" in client.result.text
    assert daemon.stop() == 0


def test_a_port_in_use_is_told(make_nts_server, authority):
    daemon = make_nts_server()
    with socket.create_server(("0.0.0.0", daemon.ke_port)):
        daemon.start()
        assert (
            f"Could not open NTS-KE socket on 0.0.0.0:{daemon.ke_port} : Address already in use" in daemon.log_texts()
        )
        wait_until(lambda: serves_time(daemon), "an answer")
        assert daemon.stop() == 0


def test_members_of_a_group_accept_each_others_cookies(make_nts_server, authority, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o640)
    daemons = [make_nts_server(f"ntssharedkey {secret}").start() for _ in range(2)]
    for mine, other in (daemons, daemons[::-1]):
        assert len(answered(other, exchange(authority, mine))) == 1


def test_a_group_without_its_secret_does_not_start(make_nts_server, tmp_path):
    done = make_nts_server(f"ntssharedkey {tmp_path}/secret").run()
    assert done.returncode == 1
    assert f"Could not read {tmp_path}/secret : No such file or directory" in done.texts[-1]


def test_keys_managed_outside_are_read_again_on_command(make_nts_server, authority, tmp_path):
    source = make_nts_server(f"ntsdumpdir {tmp_path}/source").start()
    keys = exchange(authority, source)
    daemon = make_nts_server(f"ntsdumpdir {tmp_path}/target", "ntsrotate 0").start()
    assert answered(daemon, keys) is None
    (tmp_path / "target" / "ntskeys").write_bytes((tmp_path / "source" / "ntskeys").read_bytes())
    assert "200 OK" in daemon.chronyc("rekey")
    assert len(answered(daemon, keys)) == 1


@pytest.mark.parametrize("processes", [0, 2])
def test_certificates_are_read_again_on_command(make_nts_server, authority, tmp_path, processes):
    daemon = make_nts_server("workers 1", f"ntsprocesses {processes}").start()
    keys = exchange(authority, daemon)
    second = Authority("second")
    second.issue("127.0.0.1").write(tmp_path)
    assert "200 OK" in daemon.chronyc("rekey")
    wait_until(lambda: daemon.errors().count("Reloaded NTS server certificates") == max(processes, 1), "the reload")
    for _ in range(4):
        assert len(answered(daemon, exchange(second, daemon))) == 1
    # a bad pair changes nothing
    (tmp_path / "server.key").write_text("no key")
    assert "200 OK" in daemon.chronyc("rekey")
    wait_until(lambda: daemon.errors().count("the old ones stay") == max(processes, 1), "the refusal")
    assert len(answered(daemon, exchange(second, daemon))) == 1
    assert len(answered(daemon, keys)) == 1
    assert daemon.stop() == 0


def test_several_certificates_are_chosen_by_name(make_nts_server, authority, tmp_path):
    certificate, key = authority.issue("second.example.test").write(tmp_path, "second")
    daemon = make_nts_server(
        f"ntsservercert {certificate}", f"ntsserverkey {key}", pair=authority.issue("first.example.test")
    ).start()
    for name in ("first.example.test", "second.example.test"):
        assert len(answered(daemon, exchange(authority, daemon, name=name))) == 1
    assert daemon.stop() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="there are no rights to drop")
def test_a_key_that_only_root_can_read(make_nts_server, authority, tmp_path):
    open_to_others(tmp_path)
    daemon = make_nts_server("workers 1", "ntsprocesses 1", f"ntsdumpdir {tmp_path}/nts", user="nobody")
    (tmp_path / "server.key").chmod(0o600)
    open_to_others(daemon.directory)
    open_to_others(daemon.run_directory)
    daemon.start()
    assert len(answered(daemon, exchange(authority, daemon))) == 1
    nobody = pwd.getpwnam("nobody").pw_uid
    assert {status_of(pid, "Uid")[0].split()[0] for pid in children_of(daemon.pid)} == {str(nobody)}
    assert (tmp_path / "nts" / "ntskeys").stat().st_uid == nobody
    assert daemon.stop() == 0


def test_clients_that_are_allowed_later(make_nts_server, authority):
    daemon = make_nts_server("deny all", "workers 1", "ntsprocesses 1").start()
    with socket.create_connection(("127.0.0.1", daemon.ke_port), 5) as sock:
        sock.settimeout(5)
        assert sock.recv(1) == b""
    assert "200 OK" in daemon.chronyc("allow", "127.0.0.1")
    assert isinstance(exchange(authority, daemon), KeKeys)
    assert daemon.stop() == 0


def test_access_and_rate_limits(make_nts_server, authority):
    daemon = make_nts_server("deny 127.0.1.0/24", "ntsratelimit interval 10 burst 2 leak 4", "ntsprocesses 1").start()
    with socket.create_connection(("127.0.0.1", daemon.ke_port), 5, ("127.0.1.1", 0)) as sock:
        sock.settimeout(5)
        assert sock.recv(1) == b""
    exchange(authority, daemon)
    exchange(authority, daemon)
    for _ in range(20):
        socket.create_connection(("127.0.0.1", daemon.ke_port), 5).close()
    time.sleep(0.2)
    counts = statistics(daemon)
    assert counts["NTS-KE connections accepted"] == "22"
    assert int(counts["NTS-KE connections dropped"]) >= 12
    # rules that change while running hold for key exchange too
    assert "200 OK" in daemon.chronyc("deny all")
    with socket.create_connection(("127.0.0.1", daemon.ke_port), 5) as sock:
        sock.settimeout(5)
        assert sock.recv(1) == b""


def test_no_certificates_no_key_exchange(make_daemon):
    daemon = make_daemon(*SERVE, f"ntsport {free_tcp_port()}").start()
    assert not [line for line in daemon.log_texts() if "NTS" in line and "starting" not in line]
    assert daemon.stop() == 0


def client_of(make_daemon, tmp_path, authority, server, *directives, **more):
    """A daemon whose only source is another daemon of ours, authenticated."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.pem)
    return make_daemon(
        f"server 127.0.0.1 nts ntsport {server.ke_port} iburst minpoll -2 maxpoll -2",
        f"ntstrustedcerts {trusted}",
        "nosystemcert",
        *directives,
        **more,
    )


def authdata(daemon):
    """Mode, key id, type, length, age of keys, attempts, NAK, cookies, cookie length."""
    [line] = daemon.chronyc("-c", "authdata").splitlines()
    return line.split(",")[1:]


def synchronised(daemon):
    return daemon.chronyc("-c", "tracking").split(",")[0] not in ("", "00000000")


def test_a_source_is_authenticated(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server("ntsprocesses 1", "workers 1").start()
    client = client_of(make_daemon, tmp_path, authority, server).start()
    wait_until(lambda: synchronised(client), client.errors())
    mode, key_id, key_type, length, age, attempts, nak, jar, cookie_length = authdata(client)
    assert (mode, key_id, key_type, length) == ("NTS", "1", "30", "128")
    assert (attempts, nak, jar, cookie_length) == ("0", "0", "8", "68")
    assert int(age) < 20
    assert int(statistics(server)["Authenticated NTP packets"]) >= 3
    assert client.stop() == 0


def test_a_client_goes_on_with_its_cookies_after_a_restart(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server("ntsprocesses 1", "workers 1").start()
    client = client_of(make_daemon, tmp_path, authority, server, f"ntsdumpdir {tmp_path}/client").start()
    wait_until(lambda: synchronised(client), client.errors())
    saved = tmp_path / "client" / "127.0.0.1.nts"
    assert not saved.exists()
    assert "200 OK" in client.chronyc("dump")
    assert saved.stat().st_mode & 0o777 == 0o600
    assert client.stop() == 0
    client.start()
    wait_until(lambda: synchronised(client), client.errors())
    assert not saved.exists()
    assert "Loaded NTS keys of 127.0.0.1" in client.log_texts()
    assert statistics(server)["NTS-KE connections accepted"] == "1"


def test_a_certificate_that_is_refused_is_told_once(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server().start()
    client = client_of(make_daemon, tmp_path, Authority("another"), server).start()
    wait_until(lambda: "TLS handshake" in client.errors(), client.errors())
    time.sleep(2.5)
    [line] = [line for line in client.log_texts() if "TLS" in line]
    assert line.startswith(f"TLS handshake with 127.0.0.1:{server.ke_port} (127.0.0.1) failed : ")
    assert "issuer is unknown" in line
    assert authdata(client)[5] == "1"
    assert not synchronised(client)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("name", "The name in the certificate does not match the expected"),
        ("algorithm", "no common AEAD algorithm"),
        ("refused", "Connection refused"),
    ],
)
def test_what_keeps_a_client_from_keys_is_told_once_with_its_reason(
    make_nts_server, make_daemon, authority, tmp_path, failure, reason
):
    """And it is tried again only after 16 s or more."""
    server = make_nts_server(
        *(["ntsaeads 15"] if failure == "algorithm" else []),
        pair=authority.issue("ntp.example.test") if failure == "name" else None,
    )
    if failure != "refused":
        server.start()
    client = client_of(
        make_daemon, tmp_path, authority, server, *(["ntsaeads 30"] if failure == "algorithm" else [])
    ).start()
    wait_until(lambda: reason in client.errors(), client.errors())
    time.sleep(2.5)
    [line] = [line for line in client.log_texts() if f"127.0.0.1:{server.ke_port}" in line]
    assert reason in line
    assert authdata(client)[5] == "1"
    assert not synchronised(client)


def test_expired_certificates_pass_until_the_clock_is_set(make_nts_server, make_daemon, authority, tmp_path):
    expired = authority.issue("127.0.0.1", start_days=-10, end_days=-5)
    server = make_nts_server(pair=expired).start()
    assert any("has expired" in line for line in server.log_texts())
    strict = client_of(make_daemon, tmp_path, authority, server).start()
    wait_until(lambda: "expired certificate" in strict.errors(), strict.errors())
    lenient = client_of(make_daemon, tmp_path, authority, server, "nocerttimecheck 1").start()
    wait_until(lambda: synchronised(lenient), lenient.errors())


def test_nothing_trusted_is_told_at_the_start(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server().start()
    client = make_daemon(f"server 127.0.0.1 nts ntsport {server.ke_port} certset 5", "nosystemcert").start()
    told = "No NTS-KE with certset 5 : no certificates are trusted in set 5"
    wait_until(lambda: told in client.log_texts(), "the line")
    assert client.stop() == 0


def test_the_one_line_check(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server().start()
    client = client_of(make_daemon, tmp_path, authority, server, options=("-Q", "-t", "8"))
    done = client.run()
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("System clock wrong by ") for line in done.texts)


def test_a_server_that_lost_its_keys(make_nts_server, make_daemon, authority, tmp_path):
    """The NAK shows, cookies are of no more use, and keys are not made anew sooner than 2^10 s after the last."""
    server = make_nts_server().start()
    client = client_of(make_daemon, tmp_path, authority, server).start()
    wait_until(lambda: synchronised(client), client.errors())
    server.stop()
    server.start()
    wait_until(lambda: authdata(client)[7] == "0", client.errors())
    assert statistics(server)["NTS-KE connections accepted"] == "0"


def test_a_source_added_while_running(make_nts_server, make_daemon, authority, tmp_path):
    server = make_nts_server().start()
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.pem)
    client = make_daemon(f"ntstrustedcerts {trusted}", "nosystemcert").start()
    added = client.chronyc("add", "server", "127.0.0.1", "nts", "ntsport", str(server.ke_port), "iburst")
    assert "200 OK" in added
    wait_until(lambda: synchronised(client), client.errors())
    assert authdata(client)[0] == "NTS"
