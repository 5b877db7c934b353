"""Every command of the guides is run, and every configuration read, on machines in which the packages are installed."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.guides import blocks, form, mismatch
from tests.system.site import Site

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = {
    "from-chrony.md", "hardware-timestamping.md", "isolated-network.md", "monitoring.md", "nts.md", "public-server.md",
}
AT_A_TIME = 3


@pytest.fixture(scope="module")
def complaints(tmp_path_factory, packages) -> dict[str, str]:
    """What was wrong with each guide, empty where nothing was. They mostly wait for measurements: side by side."""

    def follow(name: str, directory: Path) -> str:
        site = Site(directory, packages)
        try:
            return "" if site.follow(DOCS / name) else "no command"
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            return f"{error}"
        finally:
            site.close()

    names = sorted(GUIDES)
    directories = [tmp_path_factory.mktemp(f"guide-{name.removesuffix('.md')}") for name in names]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(names, pool.map(follow, names, directories), strict=True))


@pytest.mark.parametrize("name", sorted(GUIDES))
def test_what_a_guide_says_works(complaints, name):
    assert complaints[name] == ""


def test_every_guide_with_commands_is_followed():
    with_commands = {
        path.name for path in DOCS.glob("*.md") if any(block.language == "console" for block in blocks(path))
    }
    assert with_commands == GUIDES


def test_the_threat_model_names_tests_that_there_are():
    text = (DOCS / "threat-model.md").read_text()
    named = re.findall(r"`((?:unit|interop|system|sim|fuzz)/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 30
    for file, function in named:
        text = (ROOT / "tests" / file).read_text()
        assert not function or re.search(rf"def {function}\(", text), f"{file}::{function}"


def test_links_between_the_guides_lead_somewhere():
    for path in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_blocks_of_a_guide(tmp_path):
    path = tmp_path / "guide.md"
    path.write_text(
        "<!-- test: install x -->\n```console client\n# one \\\n    two\nout\n$ three\n```\n\n"
        "```conf /etc/x\nport 1\n```\n"
    )
    console, conf = blocks(path)
    assert (console.words, console.preparations) == (("client",), ["install x"])
    one, three = console.commands
    assert (one.text, one.as_root, one.expected, three.as_root) == ("one two", True, ["out"], False)
    assert (conf.language, conf.words, conf.lines) == ("conf", ("/etc/x",), ["port 1"])
    path.write_text("```\nx\n```\n")
    with pytest.raises(AssertionError, match="no known language"):
        list(blocks(path))


@pytest.mark.parametrize(
    ("expected", "actual", "like"),
    [
        ("Offset : -1.5 seconds", "Offset  : 20.25 seconds", True),
        ("Offset : 1 seconds", "Delay : 1 seconds", False),
        ("^* a.b 3 6 377 45 +355us[ +375us] +/- 11ms", "^+ a.b 3 6 17 4 -3ns[-1023ns] +/- 1s", True),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("a\n…\nc", "a\nb\nc\nd", False),
        ("starts …", "starts here", True),
        ("a\nb", "a", False),
        ("Yes", "No", False),
    ],
)
def test_output_is_compared_by_its_form(expected, actual, like):
    assert (mismatch(expected.splitlines(), actual) == "") == like
    assert form("Sun Nov 22 00:10:21 2026") == form("Mon Dec 01 11:00:01 2025")
