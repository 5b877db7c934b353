"""NTS of all sources: who gets it, where their KE servers are, what is kept over a restart."""

from ipaddress import ip_address

from ntpd_fast._nts import KeyRing
from ntpd_fast.client import ntsdump
from ntpd_fast.client.auth import AuthMode, NoAuthentication
from ntpd_fast.client.nts_sources import NtsSources
from ntpd_fast.client.ntske_client import KeFailure, KeKeys
from ntpd_fast.client.sources import AlreadyInUseError
from ntpd_fast.client.stamps import Now
from ntpd_fast.config.loader import parse_lines

SIV = 15
FIRST, SECOND = ip_address("192.0.2.1"), ip_address("192.0.2.2")
NOW = Now(10**18, 10**18, 0.0, 10**12)


class Association:
    def __init__(self, auth):
        self.auth = auth


class Source:
    """The part of a source that its NTS uses."""

    def __init__(self, number, config, auth, address):
        self.number = number
        self.config = config
        self.association = Association(auth)
        self.address = address
        self.port = config.options.port
        self.closed = False


class Exchanger:
    def __init__(self):
        self.requests = []
        self.done = []

    def start(self, request, done):
        self.requests.append(request)
        self.done.append(done)
        return self

    def cancel(self):
        pass


class World:
    def __init__(self, *lines, directory=None):
        lines = [*lines, *([f"ntsdumpdir {directory}"] if directory else [])]
        self.config = parse_lines(lines)
        self.logged = []
        self.exchanger = Exchanger()
        self.nts = NtsSources(
            self.config,
            self.exchanger,
            lambda config: NoAuthentication(),
            lambda severity, text: self.logged.append(text),
            monotonic_ns=lambda: NOW.monotonic_ns,
        )
        self.nts.bind(self)
        self.taken = set()
        self.sources = []
        for number, config in enumerate(self.config.sources):
            source = Source(number, config, self.nts.authenticator(config), FIRST)
            self.sources.append(source)
            self.nts.adopt(source)

    def set_address(self, source, address, port):
        if address in self.taken:
            raise AlreadyInUseError
        source.address, source.port = address, port
        source.association.auth.reset()

    def establish(self, source, ntp_address, **more):
        ring = KeyRing()
        ring.publish([(4, SIV, bytes(32))], 4)
        cookies = tuple(ring.make_cookie(SIV, bytes(32), bytes(32)) for _ in range(8))
        assert not source.association.auth.prepare(NOW)
        self.exchanger.done[-1](KeKeys(SIV, bytes(32), bytes(32), cookies, **more), ntp_address)


def test_who_gets_nts():
    world = World("server a nts key 3", "server b", "peer c nts")
    assert [s.association.auth.mode for s in world.sources] == [AuthMode.NTS, AuthMode.NONE, AuthMode.NONE]
    assert world.logged == ["NTS not supported with peers"]


def test_options_reach_the_exchange():
    world = World("server a nts ntsport 4461 certset 7", "ntsaeads 15")
    assert not world.sources[0].association.auth.prepare(NOW)
    [request] = world.exchanger.requests
    assert (request.name, request.address, request.port, request.certset) == ("a", FIRST, 4461, 7)
    assert request.algorithms == (15,)


def test_a_source_that_moved_still_asks_its_ke_server():
    world = World("server a nts port 1123")
    [source] = world.sources
    world.establish(source, SECOND)
    assert (source.address, source.port) == (SECOND, 1123)
    auth = source.association.auth
    assert auth.prepare(NOW)
    while auth.seal(bytes(48)):
        pass
    later = Now(0, 0, 0.0, NOW.monotonic_ns + 2000 * 10**9)
    assert not auth.prepare(later)
    assert world.exchanger.requests[-1].address == FIRST
    # another address of the name is another KE server
    world.exchanger.done[-1](KeFailure("no"), None)
    world.set_address(source, ip_address("192.0.2.3"), 123)
    assert not auth.prepare(later)
    assert world.exchanger.requests[-1].address == ip_address("192.0.2.3")


def test_an_address_in_use_is_refused():
    world = World("server a nts")
    world.taken.add(SECOND)
    world.establish(world.sources[0], SECOND)
    assert world.logged == [f"NTP server {SECOND} of a is already in use"]
    assert world.sources[0].address == FIRST


def test_keys_are_kept_under_the_address_of_the_ke_server(tmp_path):
    world = World("server a nts", "server b nts", directory=tmp_path)
    world.establish(world.sources[0], SECOND, port=1123)
    world.nts.save(NOW)
    assert [p.name for p in tmp_path.iterdir()] == [f"{FIRST}.nts"]
    state = ntsdump.parse_dump((tmp_path / f"{FIRST}.nts").read_bytes())
    assert (state.name, state.ntp_address, state.ntp_port, len(state.cookies)) == ("a", SECOND, 1123, 8)
    again = World("server a nts", directory=tmp_path)
    [source] = again.sources
    assert not source.association.auth.prepare(NOW)
    assert source.association.auth.prepare(NOW)
    assert (source.address, source.port) == (SECOND, 1123)
    assert not again.exchanger.requests
    assert again.logged == [f"Loaded NTS keys of {FIRST}", f"Source {FIRST} changed to {SECOND} (a)"]
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_gone_is_not_kept(tmp_path):
    world = World("server a nts", directory=tmp_path)
    world.establish(world.sources[0], FIRST)
    world.sources[0].closed = True
    world.nts.save(NOW)
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_without_a_directory():
    world = World("server a nts")
    world.establish(world.sources[0], FIRST)
    world.nts.save(NOW)
    assert world.nts.load(FIRST) is None
    assert not world.logged


def test_bad_files_and_directories_are_told(tmp_path):
    (tmp_path / f"{FIRST}.nts").write_text("nonsense")
    world = World("server a nts", directory=tmp_path)
    assert not world.sources[0].association.auth.prepare(NOW)
    assert world.logged == [f"Could not load NTS keys from {tmp_path}/{FIRST}.nts : does not start with NNC0"]
    world = World("server a nts", directory=tmp_path / "none")
    world.establish(world.sources[0], FIRST)
    world.nts.save(NOW)
    assert world.logged == [f"Could not save NTS keys to {tmp_path}/none/{FIRST}.nts : No such file or directory"]


def test_changes_are_told():
    world = World("server a nts", f"server {FIRST} nts")
    world.establish(world.sources[0], SECOND)
    world.establish(world.sources[1], FIRST, port=1123)
    assert world.logged == [f"Source {FIRST} changed to {SECOND} (a)", f"Source {FIRST} changed port to 1123"]


def test_another_configuration_is_followed_with_the_keys_there_are(tmp_path):
    world = World("server a nts", "server b nts")
    world.establish(world.sources[0], SECOND)
    world.nts.follow(parse_lines(["ntsaeads 15", "ntsrefresh 100", f"ntsdumpdir {tmp_path}"]))
    auth = world.sources[0].association.auth
    assert auth.prepare(NOW)
    assert auth.seal(bytes(48))
    assert not auth.prepare(Now(0, 0, 0.0, NOW.monotonic_ns + 2000 * 10**9))
    assert not world.sources[1].association.auth.prepare(NOW)
    assert [request.algorithms for request in world.exchanger.requests[-2:]] == [(15,), (15,)]
    world.exchanger.done[-1](KeKeys(SIV, bytes(32), bytes(32), (bytes(100),)), FIRST)
    world.nts.save(NOW)
    assert list(tmp_path.iterdir())
