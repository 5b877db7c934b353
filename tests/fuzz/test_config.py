"""Whatever the bytes, the configuration language gives a model or a ConfigError, and soon."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ntpd_fast.config import Config, ConfigError, load, parse_lines
from ntpd_fast.config.diff import compare
from ntpd_fast.config.directives import DIRECTIVES
from ntpd_fast.config.keyfile import read_keyfile
from ntpd_fast.config.model import IPAddress
from ntpd_fast.config.options import (
    HWTIMESTAMP_OPTIONS,
    LOCAL_OPTIONS,
    RATELIMIT_OPTIONS,
    REFCLOCK_OPTIONS,
    SOURCE_OPTIONS,
)
from ntpd_fast.config.sources import read_sourcedirs
from ntpd_fast.config.start import check_start
from ntpd_fast.config.support import check_support
from ntpd_fast.config.tempcomp import read_points

CORPUS = Path(__file__).parents[1] / "data" / "conf_corpus"
SEEDS = sorted(path.read_bytes() for path in CORPUS.rglob("*") if path.suffix in {".conf", ".keys", ".sources"})
FILE = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
LINE = settings(deadline=None, max_examples=2000)


def hosts(name: str) -> IPAddress | None:
    return IPv4Address("127.0.0.1") if len(name) % 2 else None


Result = TypeVar("Result")


def _attempt(action: Callable[..., Result], *args: Any, **options: Any) -> tuple[Result | None, ConfigError | None]:
    """What came out; an error has a text, and any other exception ends the test."""
    try:
        return action(*args, **options), None
    except ConfigError as error:
        told = error
    assert str(told)
    return None, told


def _check_values(value: Any) -> None:
    assert not (isinstance(value, float) and math.isnan(value))
    if is_dataclass(value):
        for field in fields(value):
            _check_values(getattr(value, field.name))
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            _check_values(item)


def _check_model(config: Config) -> None:
    _check_values(config)
    for source in config.sources:
        options = source.options
        assert options == options.clamped()
        low, high = config.sample_limits(options)
        assert 1 <= low <= high <= 64
    assert compare(config, config).directives == ()
    _attempt(check_start, config, user_known=lambda name: name == "root")
    _attempt(check_support, config)


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Includes of mutated files may name anything, but relative paths find only what we put here."""
    monkeypatch.chdir(tmp_path)


number = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=True).map(repr),
    st.sampled_from(["0", "1", "-1", "0x1p1", "1e", "inf", "nan", "1e999", "5iburst", "65536", "1.2.3.4/8", "::1/129"]),
)
option = st.sampled_from(
    sorted({*SOURCE_OPTIONS, *REFCLOCK_OPTIONS, *LOCAL_OPTIONS, *RATELIMIT_OPTIONS, *HWTIMESTAMP_OPTIONS})
)
name_like = st.sampled_from(["all", "local", "SHM", "127.0.0.1", "::1", "*", "/"])
word = st.one_of(number, option, name_like, st.text(max_size=8))
directive = st.sampled_from(sorted(name for name in DIRECTIVES if name not in ("include", "confdir")))
line = st.builds(lambda name, words: " ".join([name, *words]), directive, st.lists(word, max_size=8))


@LINE
@given(st.lists(line, max_size=4), st.booleans())
def test_lines_of_the_right_shape(lines: list[str], strict: bool) -> None:
    config, error = _attempt(parse_lines, lines, resolver=hosts, strict=strict)
    if config is not None:
        _check_model(config)
    if error is not None:
        assert error.where is not None
        assert str(error).endswith(f" at line {error.where.line}")


def _load(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    config, _ = _attempt(load, str(path), resolver=hosts)
    if config is not None:
        _check_model(config)


@FILE
@given(st.binary(max_size=4096))
def test_any_bytes_as_a_file(tmp_path: Path, data: bytes) -> None:
    _load(data, tmp_path / "any.conf")


@FILE
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_files_of_the_corpus(tmp_path: Path, seed: bytes, data: st.DataObject) -> None:
    mutated = bytearray(seed.replace(b"include", b"inclute").replace(b"confdir", b"confdyr"))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(mutated)))
        end = place + data.draw(st.integers(0, 4))
        mutated[place:end] = data.draw(st.one_of(st.binary(max_size=4), number.map(str.encode)))
    _load(bytes(mutated), tmp_path / "mutated.conf")
    _read_other_files(bytes(mutated), tmp_path)


@FILE
@given(st.binary(max_size=2048))
def test_any_bytes_as_other_files(tmp_path: Path, data: bytes) -> None:
    _read_other_files(data, tmp_path)


def _read_other_files(data: bytes, directory: Path) -> None:
    path = directory / "x.sources"
    path.write_bytes(data)
    for source in read_sourcedirs([[str(directory)]]).sources:
        assert source.options == source.options.clamped()
    for key_id, key in read_keyfile(str(path)).keys.items():
        assert key_id == key.key_id
        assert key.value
    points, error = _attempt(read_points, str(path))
    assert (error is None) == (points is not None and len(points) >= 2)


pattern_parts = st.sampled_from(["a", "b", "c", "*", "[", "[!", "]", "?", "/", "\\", "..", "-", ".", "\udcff"])


@FILE
@given(st.lists(pattern_parts, max_size=12))
def test_patterns(tmp_path: Path, parts: list[str]) -> None:
    (tmp_path / "ab").touch()
    (tmp_path / "c").mkdir(exist_ok=True)
    (tmp_path / "c" / "b").touch()
    for name in ("include", "confdir"):
        _attempt(parse_lines, [f"{name} ./{''.join(parts)}".replace("..", ".")], resolver=hosts)
