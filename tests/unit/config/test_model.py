"""What the model promises by itself."""

import dataclasses
import math

import pytest

from ntpd_fast.config import Config, model
from ntpd_fast.config.model import RefclockConfig, SourceConfig, SourceKind, SourceOptions, Where
from tests.unit.config.conftest import parse


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        (["server a"], (6, 64)),
        (["server a maxsamples 3"], (3, 3)),
        (["server a maxsamples 0"], (6, 64)),
        (["server a maxsamples 100 minsamples 100"], (64, 64)),
        (["server a minsamples 0"], (1, 64)),
        (["server a", "maxsamples 20", "minsamples 5"], (5, 20)),
        (["server a minsamples 8 maxsamples 9", "maxsamples 20", "minsamples 5"], (8, 9)),
    ],
)
def test_sample_limits(lines: list[str], limits: tuple[int, int]) -> None:
    config = parse(*lines)
    assert config.sample_limits(config.sources[0].options) == limits


def test_sample_limits_of_a_refclock() -> None:
    assert Config(maxsamples=10).sample_limits(RefclockConfig("SHM", "0", minsamples=20)) == (10, 10)


def test_defaults_are_effective() -> None:
    assert SourceOptions().clamped() == SourceOptions()


def test_position_is_no_difference() -> None:
    options = SourceOptions()
    one = SourceConfig(SourceKind.SERVER, "a", options, Where("f", 1))
    other = SourceConfig(SourceKind.SERVER, "a", options, Where(None, 2))
    assert one == other
    assert hash(one) == hash(other)
    assert parse("port 1", "server a") == parse("", "server a", "port 1")


def test_where() -> None:
    assert str(Where("/etc/x.conf", 3)) == "at line 3 in file /etc/x.conf"
    assert str(Where(None, 3)) == "at line 3"


def test_everything_is_frozen() -> None:
    classes = [cls for cls in vars(model).values() if dataclasses.is_dataclass(cls)]
    assert len(classes) > 20
    for cls in classes:
        assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert hasattr(cls, "__slots__")


def test_default_slew_rate_is_the_documented_one() -> None:
    assert math.isclose(Config().maxslewrate_ppm, 83333.333, rel_tol=1e-8)
