"""The rules between rooms of the package, checked on the source."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

import bokehsynth as bs

PACKAGE = Path(bs.__file__).parent
SOURCES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

MAGIC = PACKAGE.parent / "magicbokeh"
MAGIC_SOURCES = {
    ".".join(path.relative_to(MAGIC.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(MAGIC.rglob("*.py"))
}
"""The second package, which is a user of the first."""
ALL_SOURCES = SOURCES | MAGIC_SOURCES

# (floor, room). Imports go down only: to a lower floor, or within the room. Rooms on one floor do not know each other.
COMMON, MAKING, STORING, RUNNING = "common", "making", "storing", "running"
ROOMS = {
    "errors": (COMMON, 0),
    "rng": (COMMON, 1),
    "color": (COMMON, 1),
    "files": (COMMON, 1),
    "schema": (COMMON, 1),
    "icc": (COMMON, 2),
    "likeness": (MAKING, 2),
    "spec": (MAKING, 2),
    "strict_yaml": (MAKING, 2),
    "kernel_cache": (MAKING, 2),
    "optics": (MAKING, 2),
    "layers": (MAKING, 3),
    "lenses": (MAKING, 3),
    "render": (MAKING, 4),
    "assets": (MAKING, 4),
    "degrade": (MAKING, 4),
    "scene": (MAKING, 5),
    "lens_contract": (MAKING, 6),
    "recipe": (MAKING, 6),
    "soundness": (MAKING, 6),
    "pipeline": (MAKING, 7),
    "together": (MAKING, 8),
    "shards": (STORING, 2),
    "lock": (RUNNING, 8),
    "machine": (RUNNING, 8),
    "engines": (RUNNING, 8),
    "sheet": (RUNNING, 8),
    "save_picture": (RUNNING, 8),
    "replay": (RUNNING, 11),
    "report": (RUNNING, 9),
    "estimate": (RUNNING, 9),
    "export": (RUNNING, 9),
    "production": (RUNNING, 9),
    "root_files": (RUNNING, 10),
    "generate": (RUNNING, 11),
    "extend": (RUNNING, 12),
    "repair": (RUNNING, 12),
    "cli": (RUNNING, 13),
}

HEAVY = ("torch", "numba", "cupy", "pydantic", "llvmlite", "scipy", "basicsr", "ray", "torchvision")


def tree_of(module: str) -> ast.Module:
    return ast.parse(ALL_SOURCES[module].read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> set[str]:
    """Every module that a piece of source imports, wherever in it: absolute names, submodules where they exist."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ALL_SOURCES else node.module for name in names}
    return found


def room_of(module: str) -> str:
    """`bokehsynth.render.cpu` -> `render`; `` for the package itself."""
    return module.partition(".")[2].partition(".")[0]


MODULES = [module for module in SOURCES if module != "bokehsynth"]
IMPORTS = {module: imported(tree_of(module)) for module in SOURCES}


def own(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name.partition(".")[0] == "bokehsynth"}


def foreign(module: str) -> set[str]:
    names = {name.partition(".")[0] for name in IMPORTS[module]} - {"bokehsynth"}
    return {name for name in names if name not in sys.stdlib_module_names}


def in_room(*rooms: str) -> list[str]:
    return [module for module in MODULES if room_of(module) in rooms]


# --- who may import whom


def test_the_walk_sees_imports_everywhere():
    source = (
        "import a.b\ndef f():\n    from bokehsynth.render import cpu\n    from bokehsynth.errors import UsageError\n"
    )
    assert imported(ast.parse(source)) == {"a.b", "bokehsynth.render.cpu", "bokehsynth.errors"}


def test_every_module_has_a_room():
    assert {room_of(module) for module in MODULES} <= set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    here, (wing, floor) = room_of(module), ROOMS[room_of(module)]
    for name in own(module):
        room = room_of(name)
        if room == here:
            continue
        if name == "bokehsynth":  # the door is for users: from inside it gives the version and nothing else
            used = {use for use in map(dotted, ast.walk(tree_of(module))) if use.startswith("bokehsynth.")}
            assert used == {"bokehsynth.__version__"}
            continue
        other, below = ROOMS[room]
        assert below < floor, f"{module} imports {name}, which is not below it"
        assert (wing, other) not in {(MAKING, STORING), (STORING, MAKING)}, f"{module} imports {name}"


def test_common_knows_nobody_above():
    for module in in_room(*(room for room, (wing, _) in ROOMS.items() if wing == COMMON)):
        assert {ROOMS[room_of(name)][0] for name in own(module)} <= {COMMON}


def test_modules_do_not_import_each_other_in_circles():
    """Also not by imports inside functions, which only hide a circle."""
    graph = {module: {name for name in own(module) if name != module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        # A package's door may import its rooms' modules and hand out their names; they never import the door.
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in sorted(graph.get(module, ())):
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_render_knows_numbers_only():
    for module in in_room("render"):
        assert foreign(module) <= {"numpy", "numba", "llvmlite", "cupy"}, module  # llvmlite is half of numba
        rooms = {room_of(name) for name in own(module)}
        assert rooms <= {"render", "errors", "optics", "layers", "kernel_cache"}, module


def test_optics_and_layers_know_numpy_only():
    for module in in_room("optics", "layers"):
        assert foreign(module) <= {"numpy"}, module


def test_degrade_knows_no_depth():
    for module in in_room("degrade"):
        assert not {room_of(name) for name in own(module)} & {"render", "optics", "layers", "scene", "assets"}, module


def test_shards_know_no_lens_and_need_little():
    for module in in_room("shards"):
        assert foreign(module) <= {"numpy", "cv2", "PIL", "imageio"}, module
        assert {room_of(name) for name in own(module)} <= {"shards", "errors", "rng", "files", "schema", "color"}, (
            module
        )


def test_common_needs_numpy_at_most():
    for module in in_room("errors", "rng", "color", "files", "icc", "schema"):
        assert foreign(module) <= {"numpy"}, module


def test_engines_know_neither_shards_nor_pixels():
    for module in in_room("engines"):
        assert {room_of(name) for name in own(module)} <= {"engines", "errors"}, module
        assert foreign(module) <= {"ray", "tqdm", "cv2"}, module
        # OpenCV only to keep each worker to one thread.
        assert set(re.findall(r"cv2\.(\w+)", SOURCES[module].read_text())) <= {"setNumThreads"}, module


def test_torch_is_asked_for_by_the_basicsr_backend_only():
    users = {module for module in MODULES if {"torch", "basicsr", "torchvision"} & foreign(module)}
    assert users <= {"bokehsynth.degrade.basicsr_backend"}


def test_pipeline_is_one_page():
    assert len(SOURCES["bokehsynth.pipeline"].read_text().splitlines()) <= 120


def test_no_path_surgery():
    for module in ALL_SOURCES:
        assert "sys.path" not in {dotted(node) for node in ast.walk(tree_of(module))}, module


# --- magicbokeh

# Imports go down only here too: each room may use those of the lines above its own.
MAGIC_ROOMS = [
    {"config", "adapters", "attention", "tiling", "conditioning", "detail", "depth", "pickles", "weights"},
    {"blocks", "photo", "tiled", "recipe", "checkpoint", "sheet"},
    {"model", "augment", "sources", "losses", "run_folder"},
    {"networks", "fresh", "data"},
    {"pipeline", "distill"},
    {"convert_depth", "phases"},
    {"convert", "infer", "optimizers", "validation"},
    {"start", "curves"},
    {"trainer"},
    {"train"},
    {"cli"},
    {"__main__"},
]
MAGIC_FLOOR = {room: floor for floor, rooms in enumerate(MAGIC_ROOMS) for room in rooms}


@pytest.mark.parametrize("module", [module for module in MAGIC_SOURCES if module != "magicbokeh"])
def test_magicbokeh_imports_go_down_only(module):
    here = MAGIC_FLOOR[room_of(module)]
    for name in imported(tree_of(module)):
        if name.startswith("magicbokeh."):
            assert MAGIC_FLOOR[room_of(name)] < here, f"{module} imports {name}"


@pytest.mark.parametrize("module", MAGIC_SOURCES)
def test_magicbokeh_uses_the_public_door_only(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("bokehsynth.")]
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "bokehsynth":
            assert node.module == "bokehsynth"
            assert {alias.name for alias in node.names} <= set(bs.__all__)


def test_bokehsynth_does_not_know_magicbokeh():
    assert not [module for module in SOURCES for name in IMPORTS[module] if name.startswith("magicbokeh")]


def test_magicbokeh_needs_no_torchvision():
    assert not {module for module in MAGIC_SOURCES if "torchvision" in foreign_of(module)}
    # LPIPS brings torchvision along: only whoever asks for it by name loads it.
    assert {module for module in MAGIC_SOURCES if "lpips" in foreign_of(module)} == {"magicbokeh.losses"}
    top = ast.Module([node for node in tree_of("magicbokeh.losses").body if isinstance(node, ast.Import)], [])
    assert "lpips" not in imported(top)


@pytest.mark.parametrize("module", MAGIC_SOURCES)
def test_only_phases_decide_what_trains(module):
    uses = [
        node.lineno
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and node.attr in {"requires_grad_", "requires_grad"}
    ]
    # The losses freeze the teachers they hold, which belong to no run.
    assert not uses or module in {"magicbokeh.phases", "magicbokeh.losses", "magicbokeh.distill"}


def foreign_of(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(tree_of(module))}


def test_importing_magicbokeh_imports_nothing(fresh_python):
    heavy = (*HEAVY, "numpy", "cv2", "PIL", "click", "diffusers", "transformers", "peft")
    assert heavy_after(fresh_python, "import magicbokeh", heavy) == set()
    assert heavy_after(fresh_python, "import magicbokeh.cli", ("torch", "diffusers", "cv2")) == set()


# --- what importing costs


def heavy_after(fresh_python, code: str, names=HEAVY) -> set[str]:
    printed = fresh_python(f"{code}\nimport sys\nprint(*(name for name in {names!r} if name in sys.modules))")
    return set(printed.split())


def test_importing_the_package_imports_nothing(fresh_python):
    assert heavy_after(fresh_python, "import bokehsynth", (*HEAVY, "numpy", "cv2", "PIL", "click")) == set()


def test_opening_a_data_set_imports_little(fresh_python, tmp_path):
    from shard_samples import make_dataset

    make_dataset(tmp_path / "set")
    code = f"import bokehsynth as bs\nassert next(iter(bs.open_dataset({str(tmp_path / 'set')!r}))).hq.size"
    assert heavy_after(fresh_python, code) == set()


@pytest.mark.parametrize(
    ("door", "allowed"),
    [
        ("render", set()),  # Numba is loaded when the first picture is computed
        ("Lens", set()),
        ("degrade", {"pydantic"}),
        ("contact_sheet", set()),
        ("srgb_to_linear", set()),
        ("load_recipe", {"pydantic"}),
        ("generate", {"pydantic"}),
    ],
)
def test_doors_import_no_more_than_they_need(fresh_python, door, allowed):
    assert heavy_after(fresh_python, f"import bokehsynth as bs\nbs.{door}") <= allowed


def test_reading_a_recipe_and_drawing_compiles_nothing(fresh_python):
    code = "import bokehsynth as bs\nbs.draw_sample(bs.load_recipe('quickstart'), 3)"
    assert heavy_after(fresh_python, code) <= {"pydantic"}


# --- randomness and time


GENERATORS = {
    "default_rng",
    "Generator",
    "RandomState",
    "SeedSequence",
    "PCG64",
    "PCG64DXSM",
    "Philox",
    "MT19937",
    "SFC64",
}
BANNED = r"(np|numpy)\.random\.(?!Generator$)\w+|os\.(urandom|getrandom)|cv2\.(randn|randu|theRNG|setRNGSeed)"
CLOCKS_AND_CHANCE = {"random", "time", "uuid", "secrets", "datetime"}


def dotted(node: ast.AST) -> str:
    """`np.random.rand` of a chain of attributes; `` for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else ""
    return ""


def unaddressed(tree: ast.AST, imports_too: bool = True) -> list[str]:
    """Uses of randomness that no address leads to (and of clocks, which are no better), as `line: what`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and imports_too:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            taken = {(module, alias.name) for module in names for alias in node.names}
            found += [f"{node.lineno}: {name}" for name in names if name.partition(".")[0] in CLOCKS_AND_CHANCE]
            found += [f"{node.lineno}: {name}" for name in names if name.startswith("numpy.random")]
            if taken & {("os", "urandom"), ("numpy", "random")}:
                found.append(f"{node.lineno}: {names[0]}")
        elif isinstance(node, ast.Attribute):
            name = dotted(node)
            if re.fullmatch(BANNED, name):
                found.append(f"{node.lineno}: {name}")
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.rpartition(".")[2] or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
            if last in GENERATORS or last == "spawn":
                found.append(f"{node.lineno}: {name or last}()")
            elif name in {"hash", "id"}:  # differ from process to process
                found.append(f"{node.lineno}: {name}()")
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "import random",
        "from random import choice",
        "import time",
        "from time import perf_counter",
        "import uuid",
        "import secrets",
        "import datetime",
        "def f():\n    import random",
        "np.random.rand(3)",
        "np.random.seed(0)",
        "numpy.random.normal()",
        "rng = np.random.default_rng()",
        "rng = np.random.default_rng(0)",
        "from numpy.random import default_rng",
        "from numpy import random",
        "import numpy.random",
        "Generator(PCG64(3))",
        "np.random.Generator(bits)",
        "np.random.SeedSequence(3)",
        "children = rng.spawn(3)",
        "streams(0).rng.spawn(3)",
        "os.urandom(8)",
        "from os import urandom",
        "cv2.randn(noise, 0, 1)",
        "hash(name)",
    ],
)
def test_the_ban_finds(bad):
    assert unaddressed(ast.parse(bad))


@pytest.mark.parametrize(
    "good",
    [
        "def f(rng: np.random.Generator) -> float:\n    return rng.random()",
        "from bokehsynth.rng import stream, from_seed",
        "from_seed(3).normal()",
        "value = draw.random",
        "timeout = 3",
        "hashlib.sha256(b'')",
        "generator(3)",
    ],
)
def test_the_ban_leaves_alone(good):
    assert not unaddressed(ast.parse(good))


@pytest.mark.parametrize(
    "module", [m for m in MODULES if ROOMS[room_of(m)][0] == MAKING or room_of(m) in {"color", "schema"}]
)
def test_making_rooms_use_addressed_randomness_only(module):
    assert not unaddressed(tree_of(module))


@pytest.mark.parametrize("module", [module for module in SOURCES if module != "bokehsynth.rng"])
def test_generators_are_constructed_in_rng_only(module):
    """Also outside the making rooms, where clocks are allowed."""
    found = [use for use in unaddressed(tree_of(module), imports_too=False) if re.search("rng|random|PCG|Gener", use)]
    assert not found


# --- the shape of the code


def test_modules_are_short():
    long = {module: len(path.read_text().splitlines()) for module, path in ALL_SOURCES.items()}
    assert not {module: lines for module, lines in long.items() if lines > 400}


def test_functions_are_short():
    long = {
        f"{module}.{node.name}": node.end_lineno - node.lineno + 1
        for module in ALL_SOURCES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 80
    }
    assert not long


def test_no_drawer_for_odds_and_ends():
    drawers = {"util", "utils", "helper", "helpers", "misc", "common", "tools"}
    assert not {module for module in ALL_SOURCES if module.rpartition(".")[2] in drawers}


def test_every_module_says_what_it_is():
    silent = [
        module
        for module in ALL_SOURCES
        if ALL_SOURCES[module].read_text().strip() and not ast.get_docstring(tree_of(module))
    ]
    assert not silent


@pytest.mark.parametrize("name", bs.__all__)
def test_public_callables_are_documented(name):
    value = getattr(bs, name)
    assert inspect.getdoc(value), name
    if inspect.isclass(value):
        members = {
            key: member
            for key, member in vars(value).items()
            if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod))
        }
        assert not [key for key in members if not inspect.getdoc(getattr(value, key))]


def test_recipes_are_linked_into_the_package():
    assert (PACKAGE / "recipes").resolve() == (PACKAGE.parent / "recipes").resolve()
    assert (PACKAGE / "py.typed").is_file()
