"""Reading order, includes, arguments, and what cannot be read."""

import os
import pickle
from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError, load, parse_lines
from ntpd_fast.config.model import Where
from tests.unit.config.conftest import Write, error_as_nobody, hosts, load_text, parse


def test_include_stands_in_place_of_its_line(write: Write) -> None:
    inner = write("inner.conf", "port 2\n")
    config = load_text(write, f"port 1\ninclude {inner}\n")
    assert config.port == 2
    assert load_text(write, f"include {inner}\nport 1\n").port == 1
    assert [(line.text, line.where.line) for line in config.lines] == [("port 1", 1), ("port 2", 1)]
    assert config.first_uses["port"].line == 1
    assert config.first_uses["include"] == Where(config.lines[0].where.file, 2)


def test_error_names_the_included_file(write: Write) -> None:
    inner = write("inner.conf", "# fine\nfrobnicate\n")
    with pytest.raises(ConfigError) as error:
        load_text(write, f"include {inner}\n")
    assert str(error.value) == f"Invalid directive frobnicate at line 2 in file {inner}"
    assert error.value.where == Where(str(inner), 2)
    assert error.value.text == "Invalid directive frobnicate"


def _chain(write: Write, length: int) -> Path:
    path = write(f"{length}.conf", "port 1\n")
    for number in range(length - 1, 0, -1):
        path = write(f"{number}.conf", f"include {path}\n")
    return path


def test_nesting_at_the_bound(write: Write) -> None:
    assert load(str(_chain(write, 10))).port == 1
    with pytest.raises(ConfigError, match=r"^Maximum include level reached$"):
        load(str(_chain(write, 11)))


def test_arguments_are_no_level(write: Write) -> None:
    assert parse(f"include {_chain(write, 10)}").port == 1
    with pytest.raises(ConfigError, match=r"^Maximum include level reached$"):
        parse(f"include {_chain(write, 11)}")


@pytest.mark.parametrize("line", ["include {0}", "include {1}/*.conf", "confdir {1}"])
def test_loop_of_includes_ends(line: str, write: Write, tmp_path: Path) -> None:
    path = tmp_path / "loop.conf"
    path.write_text(line.format(path, tmp_path) + "\n")
    with pytest.raises(ConfigError, match=r"^Maximum include level reached$"):
        load(str(path))


def test_two_files_that_include_each_other_end(write: Write, tmp_path: Path) -> None:
    write("a.conf", f"include {tmp_path}/b.conf\n" * 3)
    path = write("b.conf", f"include {tmp_path}/a.conf\n" * 3)
    with pytest.raises(ConfigError, match=r"^Maximum include level reached$"):
        load(str(path))


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match=r"^Could not open /no/such\.conf : No such file or directory$"):
        load("/no/such.conf")


def test_directory_in_place_of_a_file(tmp_path: Path, write: Write) -> None:
    text = rf"^Could not open {tmp_path} : Is a directory$"
    with pytest.raises(ConfigError, match=text):
        load(str(tmp_path))
    with pytest.raises(ConfigError, match=text):
        load_text(write, f"include {tmp_path}\n")


def test_directory_among_matches_is_passed_over_and_told(tmp_path: Path, write: Write) -> None:
    (tmp_path / "conf.d" / "old.conf").mkdir(parents=True)
    write("conf.d/new.conf", "port 1\n")
    for line in (f"include {tmp_path}/conf.d/*", f"confdir {tmp_path}/conf.d"):
        config = load_text(write, line + "\n")
        assert config.port == 1
        assert config.warnings == (f"Ignored directory {tmp_path}/conf.d/old.conf",)


@pytest.mark.parametrize("line", ["{0}/closed.conf", "include {0}/closed.conf", "include {0}/*.conf", "confdir {0}"])
def test_unreadable_file(line: str, public_path: Path) -> None:
    closed = public_path / "closed.conf"
    closed.write_text("port 1\n")
    closed.chmod(0)
    main = line.format(public_path)
    if line.startswith(("include", "confdir")):
        (public_path / "main").write_text(main + "\n")
        main = str(public_path / "main")
    assert error_as_nobody(main) == f"Could not open {closed} : Permission denied"


def test_unreadable_directory(public_path: Path) -> None:
    closed = public_path / "closed"
    closed.mkdir(0)
    main = public_path / "main"
    main.write_text(f"include {closed}/*.conf\n")
    assert error_as_nobody(str(main)) == f"Could not search for files matching {closed}/*.conf"
    main.write_text(f"confdir {closed}\n")
    assert error_as_nobody(str(main)) == ""


def test_arguments_are_numbered() -> None:
    config = parse("port 1", "# no line, but counted", "", "cmdport 2")
    assert (config.port, config.cmdport) == (1, 2)
    with pytest.raises(ConfigError) as error:
        parse("port 1", "", "port x")
    assert str(error.value) == "Could not parse port directive at line 3"


def test_argument_with_newlines_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^Too many arguments for port directive at line 1$"):
        parse("port 1\nport 2")


def test_lines_are_told_before_they_are_understood() -> None:
    seen: list[str] = []
    with pytest.raises(ConfigError):
        parse_lines(["PORT  1", "include  /no/such", "port 2"], on_line=seen.append)
    assert seen == ["PORT 1"]
    seen.clear()
    with pytest.raises(ConfigError):
        parse_lines(["port 1", " frobnicate\t1 ", "port 2"], on_line=seen.append)
    assert seen == ["port 1", "frobnicate 1"]


def test_names_are_known_in_any_case_and_told_as_typed() -> None:
    assert parse("PoRt 1").port == 1
    with pytest.raises(ConfigError, match="Too many arguments for PoRt directive"):
        parse("PoRt 1 2")
    assert parse("PoRt 1").uses("port")


def test_alias_counts_for_what_it_stands_for() -> None:
    config = parse("ntscachedir /x")
    assert config.ntsdumpdir == "/x"
    assert config.uses("ntsdumpdir")
    assert not config.uses("ntscachedir")


def test_own_directive_is_refused_for_chrony() -> None:
    assert parse("workers 4").workers == 4
    with pytest.raises(ConfigError, match=r"^Invalid directive workers at line 1$"):
        parse("workers 4", strict=True)


def test_model_and_error_travel_between_processes() -> None:
    config = parse("server a extfield F323", "allow 10/8", "local", "bindaddress ::1")
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ConfigError) as error:
        parse("port x")
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.where) == (str(error.value), error.value.where)


def test_nothing_is_kept_open(write: Write) -> None:
    path = str(write("a.conf", "port 1\n"))
    before = set(os.listdir("/proc/self/fd"))
    load(path, resolver=hosts)
    with pytest.raises(ConfigError):
        load(os.path.dirname(path))
    assert set(os.listdir("/proc/self/fd")) == before
