"""NTS of an association: against the server's code, and against what an attacker can send."""

import itertools
import os
from ipaddress import ip_address

import pytest

from ntpd_fast._aead import Aead
from ntpd_fast._nts import KeyRing, Responder
from ntpd_fast.client.auth import AuthMode
from ntpd_fast.client.nts_auth import NtsAuthenticator, NtsOptions, NtsState
from ntpd_fast.client.ntske_client import RETRY_LOG2_UNREACHABLE, KeFailure, KeKeys
from ntpd_fast.client.packet import parse
from ntpd_fast.client.stamps import Now
from tests.nts_packets import AUTH, COOKIE, HEADER, PLACEHOLDER, UID, auth_field, field, fields

SIV, GCM_SIV = 15, 30
SIZES = {SIV: 32, GCM_SIV: 16}
NONCES = {SIV: 16, GCM_SIV: 12}
NAME = "ntp.example.test"
SERVER = ip_address("192.0.2.1")
RESPONSE_HEAD = bytes([0x24, 1, 6, 0xE7]) + bytes(44)
KOD_HEAD = bytes([0xE4, 0, 6, 0xE7]) + bytes(8) + b"NTSN" + bytes(32)
NS = 10**9
EPOCH_NS = 1_700_000_000 * NS


class World:
    """Clock, exchanger, source and server around one authenticator."""

    def __init__(self, algorithm=SIV, **options):
        self.seconds = 1000.0
        self.algorithm = algorithm
        self.ring = KeyRing()
        self.rekey()
        self.requests = []
        self.cancelled = 0
        self.can_start = True
        self.moves = []
        self.movable = True
        self.ke_address = SERVER
        self.left = 0
        self.saved = None
        self.asked_for_saved = 0
        self.logged = []
        self.auth = self.authenticator(**options)

    def authenticator(self, **options):
        settings = {"name": NAME, "port": 4460, "certset": 0, "algorithms": (GCM_SIV, SIV), "refresh_s": 2419200}
        auth = NtsAuthenticator(
            NtsOptions(**settings | options),
            self,
            lambda severity, text: self.logged.append(text),
            random_bytes=os.urandom,
            monotonic_ns=lambda: self.now.monotonic_ns,
        )
        auth.attach(self)
        return auth

    @property
    def now(self):
        ns = round(self.seconds * NS)
        return Now(EPOCH_NS + ns, EPOCH_NS + ns, 0.0, ns)

    def rekey(self):
        self.ring.publish([(4, SIV, os.urandom(32))], 4)

    # the exchanger
    def start(self, request, done):
        if not self.can_start:
            return None
        self.requests.append((self.seconds, request))
        self.done = done
        return self

    def cancel(self):
        self.cancelled += 1

    # the source
    def move(self, address, port):
        self.moves.append((address, port))
        self.auth.reset()
        return self.movable

    def moved_away(self):
        self.left += 1

    def take_saved(self):
        self.asked_for_saved += 1
        return self.saved

    def keys(self, cookies=8, **more):
        c2s, s2c = (os.urandom(SIZES[self.algorithm]) for _ in range(2))
        jar = tuple(self.ring.make_cookie(self.algorithm, c2s, s2c) for _ in range(cookies))
        return KeKeys(self.algorithm, c2s, s2c, jar, **more)

    def establish(self, **more):
        assert not self.auth.prepare(self.now)
        keys = self.keys(**more)
        self.done(keys, SERVER)
        return keys

    def request(self):
        assert self.auth.prepare(self.now)
        return self.auth.seal(HEADER)

    def respond(self, request):
        responder = Responder(self.ring)
        outcome = responder.check(request)
        return responder.respond(KOD_HEAD if outcome.startswith("nak") else RESPONSE_HEAD)

    def check(self, data):
        return self.auth.check(parse(data))

    def poll(self):
        """A whole poll; whether the answer was authentic."""
        return self.check(self.respond(self.request()))

    def report(self):
        return self.auth.report(self.now)


@pytest.fixture(params=[SIV, GCM_SIV])
def world(request):
    return World(request.param)


def test_keys_are_established_before_the_first_request(world):
    assert not world.auth.prepare(world.now)
    assert world.auth.seal(HEADER) is None
    [(_, request)] = world.requests
    assert (request.name, request.address, request.port, request.algorithms) == (NAME, SERVER, 4460, (GCM_SIV, SIV))
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 1
    world.done(world.keys(server="198.51.100.7", port=1123), ip_address("198.51.100.7"))
    assert world.moves == [(ip_address("198.51.100.7"), 1123)]
    assert world.poll()


def test_a_request_looks_as_the_rfc_says(world):
    keys = world.establish()
    first, second = world.request(), world.request()
    assert [kind for kind, _, _ in fields(first)] == [UID, COOKIE, AUTH]
    assert [len(body) for _, _, body in fields(first)][:2] == [32, len(keys.cookies[0])]
    assert fields(first)[0][2] != fields(second)[0][2]
    assert fields(first)[1][2] != fields(second)[1][2]
    assert Responder(world.ring).check(first) == "ok"


def test_every_cookie_is_sent_once_and_the_jar_stays_full(world):
    world.establish()
    seen = set()
    for _ in range(50):
        request = world.request()
        seen.add(fields(request)[1][2])
        assert world.check(world.respond(request))
        assert world.report().cookies == 8
    assert len(seen) == 50


def test_lost_answers_are_made_up_for_by_placeholders(world):
    world.establish()
    for lost in range(7):
        assert sum(kind == PLACEHOLDER for kind, _, _ in fields(world.request())) == lost
    request = world.request()
    # all cookies are gone with this one; all eight come back, and the bytes of the request stay bounded
    assert sum(kind == PLACEHOLDER for kind, _, _ in fields(request)) == 7
    assert world.report().cookies == 0
    assert len(request) <= 48 + 36 + 864 + 40
    assert world.check(world.respond(request))
    assert world.report().cookies == 8


def test_long_cookies_limit_the_placeholders():
    world = World()
    assert not world.auth.prepare(world.now)
    world.done(KeKeys(SIV, bytes(32), bytes(32), tuple(bytes([i]) * 256 for i in range(8))), SERVER)
    requests = [world.request() for _ in range(8)]
    assert [sum(kind == PLACEHOLDER for kind, _, _ in fields(r)) for r in requests] == [0, 1, 2, 2, 2, 2, 2, 2]


def test_any_flipped_bit_of_an_answer_is_refused():
    world = World()
    world.establish()
    answer = world.respond(world.request())
    for i in range(len(answer)):
        for bit in range(8):
            packet = parse(answer[:i] + bytes([answer[i] ^ 1 << bit]) + answer[i + 1 :])
            assert packet is None or not world.auth.check(packet), (i, bit)
    assert world.check(answer)


def test_an_answer_counts_once(world):
    world.establish()
    answer = world.respond(world.request())
    assert world.check(answer)
    assert not world.check(answer)
    assert world.report().cookies == 8


def test_answers_to_other_requests_are_refused(world):
    world.establish()
    old = world.respond(world.request())
    world.request()
    assert not world.check(old)


def test_an_unauthenticated_answer_is_refused(world):
    world.establish()
    request = world.request()
    uid = fields(request)[0][2]
    assert not world.check(RESPONSE_HEAD)
    assert not world.check(RESPONSE_HEAD + field(UID, uid))
    assert not world.check(RESPONSE_HEAD + field(UID, uid) + field(COOKIE, bytes(100)))
    assert not world.report().nak


def sealed_answer(keys, request, plain, *, uid=None, after=b"", before=b""):
    uid = fields(request)[0][2] if uid is None else uid
    start = RESPONSE_HEAD + before + field(UID, uid)
    nonce = os.urandom(NONCES[keys.algorithm])
    return start + auth_field(Aead(keys.algorithm, keys.s2c), start, nonce, plain) + after


@pytest.mark.parametrize(
    ("plain", "good"),
    [
        (b"", False),
        (field(COOKIE, bytes(100)), True),
        (field(COOKIE, bytes(256)), True),
        (field(COOKIE, bytes(260)), False),
        (field(COOKIE, bytes(12)), True),
        (field(COOKIE, bytes(8)), False),
        (field(COOKIE, bytes(8)) + field(COOKIE, bytes(100)), True),
        (b"\x77\x77\0\4" + field(COOKIE, bytes(100)), True),
        (b"\x77\x77\0\0" + field(COOKIE, bytes(100)), False),
        (field(0x7777, bytes(100)), False),
        (field(0x7777, bytes(100)) + field(COOKIE, bytes(100)), True),
        (field(COOKIE, bytes(100)) + b"\0", False),
        (field(COOKIE, bytes(100)) + bytes(16), False),
        (field(COOKIE, bytes(100))[:-4], False),
    ],
)
def test_encrypted_fields_of_an_answer(world, plain, good):
    keys = world.establish()
    request = world.request()
    assert world.check(sealed_answer(keys, request, plain)) is good


def test_where_the_fields_of_an_answer_stand(world):
    keys = world.establish()
    request = world.request()
    cookie = field(COOKIE, bytes(100))
    assert not world.check(sealed_answer(keys, request, cookie, uid=bytes(32)))
    assert not world.check(sealed_answer(keys, request, cookie, uid=fields(request)[0][2][:28]))
    assert not world.check(sealed_answer(keys, request, cookie, after=field(0x7777, bytes(24))))
    assert not world.check(sealed_answer(keys, request, cookie, before=field(UID, bytes(32))))
    assert world.check(sealed_answer(keys, request, cookie, before=field(0xF323, bytes(24))))


def test_a_nak_makes_new_keys(world):
    world.establish()
    world.rekey()
    world.seconds += 2000
    assert not world.poll()
    assert world.report().nak
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2
    world.done(world.keys(), SERVER)
    assert world.poll()
    assert world.report().key_id == 2
    assert not world.report().nak


def test_a_forged_nak_beside_a_good_answer_costs_nothing(world):
    world.establish()
    request = world.request()
    forged = KOD_HEAD + field(UID, fields(request)[0][2])
    assert not world.check(forged)
    assert world.report().nak
    assert world.check(world.respond(request))
    assert not world.report().nak
    assert world.auth.prepare(world.now)
    assert not world.check(forged)
    assert len(world.requests) == 1


def test_a_nak_for_another_request_costs_nothing(world):
    world.establish()
    request = world.request()
    world.check(KOD_HEAD + field(UID, bytes(32)))
    world.check(KOD_HEAD[:12] + b"RATE" + KOD_HEAD[16:] + field(UID, fields(request)[0][2]))
    world.check(b"\x24\1" + KOD_HEAD[2:] + field(UID, fields(request)[0][2]))
    assert not world.report().nak


def test_keys_that_get_old_are_made_anew():
    world = World(refresh_s=10000)
    world.establish()
    assert world.poll()
    world.seconds += 9999
    assert world.poll()
    world.seconds += 2
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def test_used_up_cookies_make_new_keys(world):
    world.establish(cookies=2)
    world.request()
    world.request()
    world.seconds += 1024
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def attempts(world, failure, count):
    """Times between the starts of exchanges that all fail at once."""
    starts = []
    while len(starts) < count:
        before = len(world.requests)
        assert not world.auth.prepare(world.now)
        if len(world.requests) > before:
            starts.append(world.seconds)
            world.done(failure, None)
        world.seconds += 1
    return [b - a for a, b in itertools.pairwise(starts)]


def test_waits_of_a_server_that_is_not_there():
    assert attempts(World(), KeFailure("no", RETRY_LOG2_UNREACHABLE), 8) == [16, 32, 64, 128, 256, 512, 1024]


def test_waits_of_a_server_that_answers_nonsense():
    assert attempts(World(), KeFailure("no"), 4) == [1024, 2048, 4096]


def test_the_longest_wait():
    world = World()
    for number in range(40):
        world.auth.prepare(world.now)
        assert len(world.requests) == number + 1
        world.done(KeFailure("no"), None)
        world.seconds += 2**19
    assert world.report().ke_attempts == 40


def test_failures_are_told_once_each():
    world = World()
    world.auth.prepare(world.now)
    world.done(KeFailure("TLS handshake failed"), None)
    world.auth.prepare(world.now)
    assert world.logged == ["TLS handshake failed"]


def test_a_good_response_ends_the_waiting(world):
    world.establish()
    assert world.report().ke_attempts == 1
    world.poll()
    world.auth.good_response()
    assert world.report().ke_attempts == 0


def test_after_a_successful_exchange_the_next_one_waits_too(world):
    world.establish()
    world.rekey()
    world.poll()
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 1
    world.seconds += 1025
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def test_a_local_failure_is_tried_again_soon():
    world = World()
    world.can_start = False
    assert not world.auth.prepare(world.now)
    assert world.report().ke_attempts == 0
    world.can_start = True
    world.seconds += 1
    assert not world.auth.prepare(world.now)
    assert not world.requests
    world.seconds += 1
    assert not world.auth.prepare(world.now)
    assert world.requests


def test_no_exchange_before_the_name_is_resolved():
    world = World()
    world.ke_address = None
    assert not world.auth.prepare(world.now)
    assert not world.requests


def test_a_server_that_another_source_has_gives_no_keys(world):
    world.movable = False
    world.establish()
    assert world.report().cookies == 0
    assert world.logged == [f"NTP server {SERVER} of {NAME} is already in use"]
    world.movable = True
    world.seconds += 1025
    world.establish()
    assert world.poll()


def test_another_server_needs_other_keys(world):
    world.establish()
    world.auth.reset()
    assert world.report().cookies == 0
    world.ke_address = ip_address("192.0.2.9")
    assert not world.auth.prepare(world.now)
    assert world.requests[-1][1].address == world.ke_address
    world.auth.reset()
    assert world.cancelled == 1
    assert world.left == 2


def test_alternate_keys_are_tried_before_new_ones():
    """A chrony server of 4.4 to 4.6 exports AES-128-GCM-SIV keys its own way; which one it is shows in a NAK."""
    world = World(GCM_SIV)
    assert not world.auth.prepare(world.now)
    real = world.keys()
    wrong = bytes(16), bytes(16)
    world.done(KeKeys(GCM_SIV, *wrong, real.cookies, (real.c2s, real.s2c)), SERVER)
    assert not world.poll()
    assert world.poll()
    assert len(world.requests) == 1
    assert world.report().key_id == 1
    # once proven, a NAK means new keys
    world.rekey()
    world.seconds += 2000
    assert not world.poll()
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def test_alternate_keys_are_dropped_by_the_first_good_answer():
    world = World(GCM_SIV)
    assert not world.auth.prepare(world.now)
    real = world.keys()
    world.done(KeKeys(GCM_SIV, real.c2s, real.s2c, real.cookies, (bytes(16), bytes(16))), SERVER)
    assert world.poll()
    world.rekey()
    world.seconds += 2000
    assert not world.poll()
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def test_report(world):
    report = world.report()
    assert (report.mode, report.key_type, report.key_id, report.last_ke_ago_s) == (AuthMode.NTS, 0, 0, None)
    world.establish()
    world.seconds += 60
    report = world.report()
    assert (report.key_type, report.key_id, report.key_length_bits) == (world.algorithm, 1, 8 * SIZES[world.algorithm])
    assert (report.last_ke_ago_s, report.ke_attempts, report.cookies) == (60, 1, 8)
    assert report.cookie_length == {SIV: 100, GCM_SIV: 68}[world.algorithm]


def test_a_restart_goes_on_with_the_keys(world):
    world.establish()
    world.poll()
    world.seconds += 500
    state = world.auth.save(world.now, SERVER, 123)
    assert isinstance(state, NtsState)
    assert state.c2s.hex() not in repr(state)
    world.auth = world.authenticator()
    world.seconds += 100
    assert world.auth.restore(state, world.now)
    assert world.moves[-1] == (SERVER, 123)
    assert world.poll()
    assert world.report().last_ke_ago_s == 600
    assert len(world.requests) == 1


def test_saved_keys_are_looked_for_once_before_an_exchange(world):
    world.establish()
    assert world.asked_for_saved == 1
    world.saved = world.auth.save(world.now, SERVER, 123)
    world.auth = world.authenticator()
    # the source may have turned to another server: the next request is the first
    assert not world.auth.prepare(world.now)
    assert world.poll()
    assert len(world.requests) == 1
    world.rekey()
    world.saved = None
    world.seconds += 2000
    assert not world.poll()
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2
    assert world.asked_for_saved == 2


def test_saved_keys_of_another_name_are_passed_over(world):
    world.establish()
    world.saved = world.auth.save(world.now, SERVER, 123)
    world.auth = world.authenticator(name="other.example.test")
    assert not world.auth.prepare(world.now)
    assert len(world.requests) == 2


def test_what_is_not_worth_keeping_or_not_ours(world):
    assert world.auth.save(world.now, SERVER, 123) is None
    world.establish()
    state = world.auth.save(world.now, SERVER, 123)
    assert not world.authenticator(name="other.example.test").restore(state, world.now)
    assert not world.authenticator(algorithms=(16,)).restore(state, world.now)
    world.movable = False
    other = world.authenticator()
    assert not other.restore(state, world.now)
    assert not other.report(world.now).cookies


def test_keys_from_the_future_are_as_old_as_now(world):
    world.establish()
    state = world.auth.save(world.now, SERVER, 123)
    world.seconds -= 500
    world.auth = world.authenticator()
    assert world.auth.restore(state, world.now)
    assert world.report().last_ke_ago_s == 0
