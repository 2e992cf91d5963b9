"""The import graph, read from the source with the standard library: boxes, arrows, levels.

    python tests/support/import_graph.py          # the figures of both packages together and of every package

A box is a module, or a folder taken as one. Everything follows from the tree; no list of levels is kept by hand.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("bokehsynth", "magicbokeh")


@cache
def sources() -> dict[str, Path]:
    """Every module of both packages and its file; a package goes by its folder's name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def syntax_tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Every module that a piece of source imports, wherever in it: absolute names, submodules where they exist."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in sources() else str(node.module) for name in names}
    return found


@cache
def imports() -> dict[str, set[str]]:
    """For every module the modules of these packages that it imports, itself left out."""
    return {
        module: {name for name in imported(syntax_tree(module)) if name in sources()} - {module} for module in sources()
    }


def box_of(module: str, opened: str) -> str:
    """The box of package `opened` in which a module lies: a child's name, `__init__` for its own, `` outside."""
    if module == opened:
        return "__init__"
    return module.removeprefix(f"{opened}.").partition(".")[0] if module.startswith(f"{opened}.") else ""


def boxes(opened: str) -> dict[str, set[str]]:
    """For every box of package `opened` the other boxes that it imports from."""
    graph: dict[str, set[str]] = {}
    for module, names in imports().items():
        if here := box_of(module, opened):
            graph.setdefault(here, set()).update({box_of(name, opened) for name in names} - {here, ""})
    return graph


def whole_project() -> dict[str, set[str]]:
    """The boxes of `bokehsynth`, and `magicbokeh` as one more, which imports the public API."""
    return boxes("bokehsynth") | {"magicbokeh": {"__init__"}}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports if there is one, as the names along it."""
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                yield from walk(other, (*path, name))
            done.add(name)

    return next((found for name in graph for found in walk(name, ())), [])


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """How high each box stands: 0 for one that imports nothing, else one more than the highest that it imports."""

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in graph[name]), default=-1)

    assert not circle(graph)
    return {name: height(name) for name in graph}


def figures(graph: dict[str, set[str]]) -> tuple[int, int, int]:
    """Boxes, arrows and levels."""
    return len(graph), sum(map(len, graph.values())), 1 + max(levels(graph).values())


if __name__ == "__main__":
    print("project", figures(whole_project()))
    for package in (name for name, path in sources().items() if path.name == "__init__.py"):
        print(package, figures(boxes(package)))
