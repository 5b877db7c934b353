"""What is compared: one row a scenario, and the measures it asks for.

Rates are chosen so that both servers keep up (cost, timestamps) or so that neither does (peak, overload).
"""

import datetime
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loadtest import measure, nts
from loadtest.client import Client, Load, Result
from loadtest.cpu import MeasurementError
from loadtest.measure import Metrics
from loadtest.network import IPV6_PREFIX
from loadtest.requests import Key, mac_holds, signed_bank
from loadtest.servers import Running

BANK = 65536
NTS_BANK = 16384
NTS_TEMPLATES = 1024
STEADY_RATE = 100_000.0
STEADY_S = 0.3  # at least, and long enough for
STEADY_ANSWERS = 10_000
BUSY_S = 0.25
OVERLOAD_S = 0.6
WINDOW = 128  # outstanding requests that keep a server busy yet fit the smallest receive buffer
HANDSHAKES = 200
MILLION = 1_000_000
PROBE_TIMEOUT_S = 0.1
# Before a probe for the peak: SCHED_FIFO gets 0.95 s of a second, and who used that up is stopped in the next probe.
REST_S = 0.15
PASS_S = 30.0  # longest time for a pass over all clients

KEYS = {
    kind: Key(number, kind, secrets.token_bytes(size))
    for number, (kind, size) in enumerate({"MD5": 16, "SHA1": 20, "SHA256": 32, "AES128": 16}.items(), start=1)
}


@dataclass(frozen=True)
class Bench:
    """One server under one scenario."""

    server: Running
    scenario: "Scenario"
    client: Client
    verify: "Verify | None"

    def run(self, **how: float) -> measure.Cost:
        """A measured run whose answers are checked. WrongAnswerError when one of them is wrong."""
        cost = measure.run(self.server, lambda: self.client.run(**how))  # type: ignore[arg-type]
        self.check(cost.result)
        return cost

    def check(self, result: Result) -> None:
        if result.wrong:
            raise WrongAnswerError(f"{self.server.name}, {self.scenario.key}: {result.wrong}")
        if self.verify is None:
            return
        for sequence, datagram in result.samples:
            if not self.verify(self.client.request(sequence), datagram):
                raise WrongAnswerError(f"{self.server.name}, {self.scenario.key}: authentication of {datagram.hex()}")


class WrongAnswerError(MeasurementError):
    """A server's answer fails the generator's checks; there is no point in measuring on."""


# (request, answer) → is the answer authentic?
Verify = Callable[[bytes, bytes], bool]
Measure = Callable[[Bench], Metrics]
LoadMaker = Callable[[Running], tuple[Load, Verify | None]]


def steady(bench: Bench) -> Metrics:
    """Cost, latency and timestamps at the scenario's rate, arrivals at random."""
    rate = bench.scenario.rate
    duration_s = max(STEADY_S, STEADY_ANSWERS / rate)
    cost = measure.quietest(lambda: bench.run(duration_s=duration_s, rate=rate, poisson=True))
    return {
        "cpu_us": cost.cpu_us,
        "waiting": cost.waiting,
        **measure.distribution_metrics(cost.result),
    }


def busy(bench: Bench) -> Metrics:
    """Cost and rate of a server that always has requests waiting, and loses none."""
    cost = measure.quietest(lambda: bench.run(duration_s=BUSY_S, window=WINDOW))
    return {"busy_cpu_us": cost.cpu_us, "busy_per_s": cost.result.answered_per_s}


def highest_rate(bench: Bench) -> measure.Peak:
    def probe(rate: float) -> measure.Cost:
        time.sleep(REST_S)
        return bench.run(duration_s=measure.PROBE_S, rate=rate, poisson=True, timeout_s=PROBE_TIMEOUT_S)

    return measure.peak(probe)


def peak(bench: Bench) -> Metrics:
    """The highest rate with hardly any loss."""
    highest = highest_rate(bench)
    return {"peak_per_s": highest.rate, "generator_bound": float(highest.generator_bound)}


def overload(bench: Bench) -> Metrics:
    """What is left of the peak when twice as much is offered, and how old the answers are.

    The peak is a rate of which one of PROBE_TRIES runs passed, so the best of as many counts here, too.
    """
    found = peak(bench)
    highest = found["peak_per_s"]
    costs = [bench.run(duration_s=OVERLOAD_S, rate=2 * highest) for _ in range(measure.PROBE_TRIES)]
    cost = max(costs, key=lambda cost: cost.result.answered_per_s)
    return {
        **found,
        "overload_offered": cost.result.offered_per_s / highest,
        "overload_share": cost.result.answered_per_s / highest,
        "overload_p50_us": cost.result.latency.percentile(50) / 1e3,
        "overload_p99_us": cost.result.latency.percentile(99) / 1e3,
        "overload_cpu_us": cost.cpu_us,
        "waiting": cost.waiting,
    }


def passes(bench: Bench) -> Metrics:
    """All clients ask in turn, pass after pass: what the last pass got, what an answer cost, memory taken.

    A server can give the third answer of a client interleaved, not earlier.
    """
    clients = bench.scenario.clients
    before = 2 if bench.client.load.interleaved else 1
    bench.run(duration_s=PASS_S * before, rate=bench.scenario.rate, limit=before * clients)
    cost = bench.run(duration_s=PASS_S, rate=bench.scenario.rate, limit=clients)
    memory, shared = bench.server.memory_bytes()
    return {
        "cpu_us": cost.cpu_us,
        "memory_mib": memory / 2**20,
        "shared_mib": shared / 2**20,
        **measure.distribution_metrics(cost.result),
    }


def answered(bench: Bench) -> Metrics:
    """Share of the requests that got an answer. All come from one address: whoever really has it is one of them."""
    cost = measure.quietest(lambda: bench.run(duration_s=STEADY_S, rate=bench.scenario.rate, poisson=True))
    return {"cpu_us": cost.cpu_us, "answered_share": 1 - cost.result.loss}


def handshakes(bench: Bench) -> Metrics:
    """CPU time of a key exchange."""
    where = bench.server.key_exchange
    nts.exchange_keys(where)
    before = bench.server.cpu()
    for _ in range(HANDSHAKES):
        nts.exchange_keys(where)
    busy_ns, _ = bench.server.cpu().since(before)
    return {"handshake_us": busy_ns / 1e3 / HANDSHAKES}


@dataclass(frozen=True)
class Scenario:
    """One row of the comparison.

    lines: configuration for every server, `{directory}` standing for its private one; files: written there first.
    rounds: starts of the servers; turns: how often each is measured in one.
    receive_on_server: received packets are processed on the server's core (needs a private network).
    workers: processes of a server that can have several; its cores are then all there are.
    """

    key: str
    title: str
    measures: tuple[Measure, ...]
    load: LoadMaker
    rate: float = STEADY_RATE
    clients: int = 1
    rounds: int = 5
    turns: int = 4
    address: str = "127.0.0.1"
    lines: tuple[str, ...] = ()
    files: Callable[[], dict[str, bytes]] = dict
    receive_on_server: bool = False
    workers: int = 1

    @property
    def needs_private_network(self) -> bool:
        return self.receive_on_server or (":" in self.address and self.clients > 1)


def plain(load: Load) -> LoadMaker:
    return lambda _: (load, None)


def signed(kind: str) -> LoadMaker:
    """Requests with a key's MAC."""
    key = KEYS[kind]
    load = Load(bank=lambda seed: signed_bank(BANK, seed, key))
    return lambda _: (load, lambda _, datagram: mac_holds(key, datagram))


def sealed_load(load: Load, session: nts.Session) -> Load:
    """The same load with NTS requests of one session: prebuilt, or in interleaved mode sealed as they are sent."""
    if load.interleaved:
        return replace(load, bank=lambda _: nts.templates(NTS_TEMPLATES, session), seal_key=session.c2s)
    return replace(load, bank=lambda seed: nts.sealed_bank(NTS_BANK, seed, session))


def sealed(load: Load) -> LoadMaker:
    """NTS requests of one session with the server."""

    def make(server: Running) -> tuple[Load, Verify]:
        session = nts.exchange_keys(server.key_exchange)
        return sealed_load(load, session), lambda request, datagram: nts.answer_holds(session, request, datagram)

    return make


def key_file() -> dict[str, bytes]:
    return {"keys": "".join(key.line() + "\n" for key in KEYS.values()).encode()}


def certificate_files() -> dict[str, bytes]:
    """A self-signed certificate, as good as any for what a handshake costs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loadtest")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .sign(key, hashes.SHA256())
    )
    return {
        "cert.pem": certificate.public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }


IPV4_CLIENTS = ipaddress.ip_address("127.1.0.0")
IPV6_SERVER = str(IPV6_PREFIX[1])
IPV6_CLIENTS = IPV6_PREFIX[1 << 64]
LARGE_LOG = ("clientloglimit 100000000",)
NTS_LINES = (
    "ntsservercert {directory}/cert.pem",
    "ntsserverkey {directory}/key.pem",
    "ntsport {nts_port}",
)

ONE = Load()
MANY = Load(clients=16384, first=IPV4_CLIENTS)
INTERLEAVED = Load(clients=1000, first=IPV4_CLIENTS, interleaved=True)
# a generator that makes one message of four requests can outrun any server on one core
FAST = Load(stamps=False, segments=4)

SCENARIOS = (
    Scenario("basic", "basic mode, one client", (steady, busy), plain(ONE)),
    Scenario("basic-16k", "basic mode, 16,384 clients", (steady, busy), plain(MANY), clients=16384, lines=LARGE_LOG),
    Scenario("basic-10k/s", "basic mode at a low rate", (steady,), plain(ONE), rate=10_000.0),
    Scenario(
        "basic-ipv6",
        "basic mode, IPv6, 16,384 clients in 256 networks",
        (steady, busy),
        plain(replace(MANY, first=IPV6_CLIENTS, shift=58)),
        clients=16384,
        address=IPV6_SERVER,
        lines=LARGE_LOG,
    ),
    Scenario(
        "interleaved",
        "interleaved mode, 1,000 clients",
        (steady, busy),
        plain(INTERLEAVED),
        clients=1000,
    ),
    Scenario(
        "interleaved-10k/s",
        "interleaved mode at a low rate",
        (steady,),
        plain(INTERLEAVED),
        rate=10_000.0,
        clients=1000,
    ),
    *(
        Scenario(
            f"key-{kind}",
            f"symmetric key, {kind}",
            (steady, busy),
            signed(kind),
            lines=("keyfile {directory}/keys",),
            files=key_file,
        )
        for kind in KEYS
    ),
    Scenario(
        "nts",
        "NTS, AES-SIV-CMAC-256",
        (steady, busy, handshakes),
        sealed(ONE),
        lines=NTS_LINES,
        files=certificate_files,
    ),
    Scenario(
        "nts-interleaved",
        "NTS in interleaved mode, 1,000 clients",
        (steady, busy),
        sealed(INTERLEAVED),
        rate=80_000.0,
        clients=1000,
        lines=NTS_LINES,
        files=certificate_files,
    ),
    Scenario(
        "peak",
        "basic mode, highest rate with < 0.1 % loss, and twice that offered",
        (overload,),
        plain(FAST),
        rounds=3,
        turns=1,
    ),
    Scenario(
        "peak-16k",
        "as before, 16,384 clients",
        (overload,),
        plain(replace(FAST, clients=16384, first=IPV4_CLIENTS)),
        rounds=3,
        turns=1,
        clients=16384,
        lines=LARGE_LOG,
    ),
    Scenario(
        "peak-interleaved",
        "interleaved mode, highest rate with < 0.1 % loss",
        (peak,),
        plain(replace(INTERLEAVED, stamps=False)),
        rounds=3,
        turns=1,
        clients=1000,
    ),
    Scenario(
        "peak-shared",
        "basic mode, received packets processed on the server's core",
        (overload,),
        plain(FAST),
        rounds=3,
        turns=1,
        receive_on_server=True,
    ),
    Scenario(
        "spoofed",
        "one address asking 100,000 times a second, with ratelimit",
        (answered,),
        plain(ONE),
        lines=("ratelimit interval 3 burst 8 leak 2",),
    ),
    Scenario(
        "million",
        "basic mode, 1,000,000 clients in turn",
        (passes,),
        plain(replace(MANY, clients=MILLION)),
        clients=MILLION,
        rounds=1,
        turns=1,
        lines=LARGE_LOG,
    ),
    Scenario(
        "million-interleaved",
        "interleaved mode, 1,000,000 clients in turn",
        (passes,),
        plain(replace(INTERLEAVED, clients=MILLION)),
        rate=80_000.0,
        clients=MILLION,
        rounds=1,
        turns=1,
        lines=LARGE_LOG,
    ),
    Scenario(
        "workers-2",
        "basic mode, two workers on two cores, the generator in one of them",
        (busy,),
        plain(replace(MANY, segments=4)),
        clients=16384,
        lines=LARGE_LOG,
        workers=2,
    ),
)
QUICK = ("basic", "interleaved", "key-SHA256")
