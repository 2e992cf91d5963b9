"""What the package declares about itself: one version, bounds that what was tested satisfies, its Pythons."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import bokehsynth

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTED = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8").lower(), re.MULTILINE)
)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("extra", ["", "train", "test"])
def test_every_requirement_admits_the_version_that_was_tested(extra: str) -> None:
    tested = {_normal(name): version for name, version in TESTED.items()}
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for requirement in map(Requirement, lines):
        assert ">=" in str(requirement.specifier), f"{requirement}: no lower bound"
        assert requirement.specifier.contains(tested[_normal(requirement.name)]), requirement


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    assert Version(bokehsynth.__version__)
    for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]:
        stale = re.findall(r"bokehsynth[:=]=?\d+\.\d+\S*", path.read_text(encoding="utf-8"))
        assert not stale, f"{path.name}: {stale}: the next release would not raise it"


def test_the_classifiers_name_the_oldest_python() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert named[0] == oldest
    assert named == sorted(named, key=Version)
