"""docs/architecture.md names files, modules and functions that exist, and every child of both packages."""

import ast
import re
from pathlib import Path

import pytest
from support.import_graph import ROOT, sources, syntax_tree

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = TEXT.split("```\n")[1]
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT.replace(f"```\n{TREE}```", ""))))
PLAIN_WORDS = {"bokehsynth", "magicbokeh", "draw", "apply", "place", "dataset.json"}
"""Packages, methods that a reader writes, and files of a data set."""


def tree_paths(tree: str = TREE) -> list[str]:
    """The paths in the block of the tree: names up to the first gap of a line, under the package above them."""
    package, found = "", []
    for line in tree.splitlines():
        if not line.startswith(" "):
            package = line.split()[0]
        names = re.split(r" {4,}| (?=[^ ]+ [^ ])", line[2:], maxsplit=1)[0] if line.startswith(" ") else ""
        found += [package + name for name in re.findall(r"[\w/]+(?:\.py|/)", names.replace(package, ""))]
    return found


def defined(module: str, names: list[str]) -> bool:
    """Whether `names` (a name, or a class and its member) are defined at the top of a module."""
    body = syntax_tree(module).body
    for name in names:
        found = [node for node in body if name in names_of(node)]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True


def names_of(node: ast.stmt) -> set[str]:
    """What a statement defines or imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def exists(name: str) -> bool:
    """Whether a path (of the repository or of bokehsynth) or a dotted name (full, or below bokehsynth) is there."""
    if "/" in name or name.endswith((".py", ".md")):
        return (ROOT / name).exists() or (ROOT / "bokehsynth" / name).exists()
    for full in (name, f"bokehsynth.{name}"):
        parts = full.split(".")
        for cut in range(len(parts), 0, -1):
            module = ".".join(parts[:cut])
            if module in sources():
                if cut == len(parts) or defined(module, parts[cut:]):
                    return True
                break
    return False


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name: str) -> None:
    assert name in PLAIN_WORDS or exists(name)


def test_the_tree_exists() -> None:
    assert len(tree_paths()) > 25
    assert not [path for path in tree_paths() if not (ROOT / path).exists()]


@pytest.mark.parametrize("package", ["bokehsynth", "magicbokeh"])
def test_every_module_is_in_the_tree(package: str) -> None:
    ignored = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    children = {path.name + "/" * path.is_dir() for path in (ROOT / package).iterdir() if path.name not in ignored}
    assert children == {Path(path).name + "/" * path.endswith("/") for path in tree_paths() if path.startswith(package)}


@pytest.mark.parametrize("name", ["pipeline.nothing", "nothing", "scene/nothing.py", "pipeline.SampleDraw.nothing"])
def test_what_is_not_there_would_be_found(name: str) -> None:
    assert not exists(name)


def test_links_lead_somewhere_and_the_page_is_linked() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / page).read_text(encoding="utf-8"), page


def test_it_is_one_page() -> None:
    assert len(TEXT.splitlines()) <= 130
