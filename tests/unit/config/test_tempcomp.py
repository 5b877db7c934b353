"""The file of temperature points."""

from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError
from ntpd_fast.config.tempcomp import FILE_SIZE_MAX, POINTS_MAX, read_points
from tests.unit.config.conftest import Write


@pytest.mark.parametrize(
    "text", ["20000 0.5\n30000 -1.5\n", "20000 0.5\n30000 -1.5", "2e4 .5 words\n 30000\t-1.5x\r\n"]
)
def test_points(text: str, write: Write) -> None:
    assert read_points(str(write("points", text))) == ((20000.0, 0.5), (30000.0, -1.5))


@pytest.mark.parametrize(
    "text", ["1 2\n\n3 4\n", "# c\n1 2\n3 4\n", "1 2\n3\n", "1 2\nx y\n", "1,2\n3,4\n", "nan 2\n3 4\n", "1 inf\n3 4\n",
             "1 2\n1 4\n", "3 2\n1 4\n", "1 2\n3 \xff\n", "\0"]
)  # fmt: skip
def test_bad_points(text: str, write: Write) -> None:
    path = write("points", text.encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        read_points(str(path))
    assert str(error.value) == f"Could not read tempcomp point from {path}"


@pytest.mark.parametrize("text", ["", "1 2\n"])
def test_too_few_points(text: str, write: Write) -> None:
    path = write("points", text)
    with pytest.raises(ConfigError, match=f"^Not enough points in {path}$"):
        read_points(str(path))


def test_bounds(write: Write, tmp_path: Path) -> None:
    lines = "".join(f"{number} 1\n" for number in range(POINTS_MAX))
    assert len(read_points(str(write("points", lines)))) == POINTS_MAX
    for text in (lines + "20000 1\n", "1 2\n" + "3 4".ljust(FILE_SIZE_MAX)):
        with pytest.raises(ConfigError, match="Could not read tempcomp point"):
            read_points(str(write("points", text)))
    with pytest.raises(ConfigError, match=f"^Could not open {tmp_path} : Is a directory$"):
        read_points(str(tmp_path))
