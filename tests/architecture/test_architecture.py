"""The import rules between the subpackages, checked on the source."""

import ast
import inspect
import re
import sys

import pytest
from support.import_graph import ROOT, boxes, circle, figures, imported, imports, sources, syntax_tree, whole_project

import bokehsynth as bs

# Groups of modules that do not import each other; `generation` and what stands above it bring them together.
BASE = {"errors", "rng", "color", "files", "schema", "version", "numba_cache", "config", "untrusted_files", "stores"}
MAKING = {
    "imaging", "procedural", "assets", "optics", "lenses", "scene", "rendering", "degradation", "recipe",
    "pipeline", "sample_checks", "sample_draw", "aperture_check", "calibration",
}  # fmt: skip
STORING = {"shards"}
SUPERVISING = {"workers"}  # imports the base only: `assets` decodes unknown files in its child processes

MODULES = [module for module in sources() if module.startswith("bokehsynth.")]
MAGIC_MODULES = [module for module in sources() if module.partition(".")[0] == "magicbokeh"]
HEAVY = ("torch", "numba", "cupy", "pydantic", "llvmlite", "scipy", "basicsr", "ray", "torchvision")


def child_of(module: str) -> str:
    """`bokehsynth.rendering.cpu.renderer` -> `rendering`."""
    return module.split(".")[1]


def children_imported_by(module: str) -> set[str]:
    """The children of bokehsynth, its own included, from which a module imports."""
    return {child_of(name) for name in imports()[module] if name.startswith("bokehsynth.")}


def foreign(module: str) -> set[str]:
    """Top-level packages from elsewhere that a module imports, the standard library left out."""
    names = {name.partition(".")[0] for name in imported(syntax_tree(module))} - {"bokehsynth"}
    return {name for name in names if name not in sys.stdlib_module_names}


def modules_in(*children: str) -> list[str]:
    """The modules of some children of bokehsynth; a rule for one that is not there would hold of anything."""
    assert set(children) <= {child_of(module) for module in MODULES}
    return [module for module in MODULES if child_of(module) in children]


# --- import rules


def test_the_walk_sees_imports_everywhere():
    source = "import a.b\ndef f():\n    from bokehsynth import rng\n    from bokehsynth.errors import UsageError\n"
    assert imported(ast.parse(source)) == {"a.b", "bokehsynth.rng", "bokehsynth.errors"}


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


PACKAGES = [name for name, path in sources().items() if path.name == "__init__.py"]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_down_only(package):
    """Boxes that never import each other in a circle stand on levels; also imports inside functions count."""
    graph = boxes(package)
    graph.pop("__init__", None)  # it hands out names of its modules; they never import it, see below
    assert not circle(graph)


def test_modules_do_not_import_each_other_in_circles():
    assert not circle(imports())


def test_the_public_api_is_for_users():
    assert not [module for module in MODULES if "bokehsynth" in imports()[module]]
    assert not [module for module in MAGIC_MODULES if "magicbokeh" in imports()[module]]


@pytest.mark.parametrize(
    ("graph", "most_boxes", "most_arrows"),
    [
        # stores: one room under all that reads or writes a data set, asked by six
        # color, by recipe: the table of codes by which a device encodes, if all pictures are stored in 8 bits
        # calibration: a lens from a photograph: reads pictures, fits openings, asked by cli; reads untrusted JSON
        (whole_project(), 30, 147),
        (boxes("bokehsynth.rendering"), 10, 26),
        # given_files and one_exit: files of strangers are read in one way by five rooms, errors leave by one door
        # demo: pages over inference, opened by cli
        # evaluation: sets, models and pictures of others compared
        (boxes("magicbokeh"), 13, 34),
    ],
    ids=["project", "rendering", "magicbokeh"],
)
def test_the_import_graph_stays_small(graph, most_boxes, most_arrows):
    """A new box or arrow is a decision: raise the figure in the commit that needs it, and say why."""
    count, arrows, _ = figures(graph)
    assert count <= most_boxes
    assert arrows <= most_arrows


def test_the_base_imports_nothing_above():
    for module in modules_in(*BASE):
        assert children_imported_by(module) <= BASE, module


def test_making_and_storing_do_not_know_each_other():
    for module in modules_in(*MAKING):
        assert children_imported_by(module) <= BASE | MAKING | SUPERVISING, module
    for module in modules_in(*STORING):
        assert children_imported_by(module) <= BASE | STORING, module


def test_rendering_knows_numbers_only():
    for module in modules_in("rendering"):
        assert foreign(module) <= {"numpy", "numba", "llvmlite", "cupy"}, module  # llvmlite is half of numba
        assert children_imported_by(module) <= {"rendering", "errors", "optics", "numba_cache"}, module


def test_optics_knows_numpy_only():
    for module in modules_in("optics"):
        converter = module == "bokehsynth.optics.prescription.converted"
        assert foreign(module) <= ({"numpy", "optiland"} if converter else {"numpy"}), module


def test_degradation_knows_no_depth():
    for module in modules_in("degradation"):
        assert not children_imported_by(module) & {"rendering", "optics", "scene", "assets"}, module


def test_shards_know_no_lens_and_need_little():
    for module in modules_in("shards"):
        more = {"bokehsynth.shards.torch_samples": {"torch"}, "bokehsynth.shards.png": {"isal"}}.get(module, set())
        assert foreign(module) <= {"numpy", "cv2", "PIL", "imageio", *more}, module


def test_the_base_needs_numpy_at_most():
    for module in modules_in(*BASE - {"config"}):
        assert foreign(module) <= {"numpy", "numba", *({"obstore"} if child_of(module) == "stores" else ())}, module


def test_workers_know_neither_shards_nor_pixels():
    for module in modules_in("workers"):
        assert children_imported_by(module) <= {"workers", "errors"}, module
        assert foreign(module) <= {"ray", "tqdm", "cv2"}, module
        # OpenCV only to keep each worker to one thread.
        assert set(re.findall(r"cv2\.(\w+)", sources()[module].read_text())) <= {"setNumThreads"}, module


def test_torch_is_asked_for_by_the_basicsr_backend_and_the_readers_data_set_only():
    users = {module for module in MODULES if {"torch", "basicsr", "torchvision"} & foreign(module)}
    assert users <= {"bokehsynth.degradation.basicsr_backend", "bokehsynth.shards.torch_samples"}


def test_only_stores_know_what_a_bucket_answers():
    """Messages of obstore hold parts of what servers answer, key ids among them."""
    assert {module for module in MODULES if "obstore" in foreign(module)} == {"bokehsynth.stores.bucket"}


def test_pipeline_is_one_page():
    assert len(sources()["bokehsynth.pipeline"].read_text().splitlines()) <= 120


def test_no_path_surgery():
    for module in sources():
        assert "sys.path" not in {dotted(node) for node in ast.walk(syntax_tree(module))}, module


# --- magicbokeh


@pytest.mark.parametrize("module", MAGIC_MODULES)
def test_magicbokeh_uses_the_public_api_only(module):
    for node in ast.walk(syntax_tree(module)):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("bokehsynth.")]
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "bokehsynth":
            assert node.module == "bokehsynth"
            assert {alias.name for alias in node.names} <= set(bs.__all__)


def test_bokehsynth_does_not_know_magicbokeh():
    assert not [module for module in MODULES for name in imports()[module] if name.startswith("magicbokeh")]


def test_magicbokeh_needs_no_torchvision():
    assert not {module for module in MAGIC_MODULES if "torchvision" in foreign(module)}
    # LPIPS brings torchvision along: only a recipe that asks for it by name loads it.
    assert {module for module in MAGIC_MODULES if "lpips" in foreign(module)} == {"magicbokeh.training.losses"}
    tree = syntax_tree("magicbokeh.training.losses")
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import)], [])
    assert "lpips" not in imported(top)


@pytest.mark.parametrize("module", MAGIC_MODULES)
def test_only_phases_decide_what_trains(module):
    uses = [
        node.lineno
        for node in ast.walk(syntax_tree(module))
        if isinstance(node, ast.Attribute) and node.attr in {"requires_grad_", "requires_grad"}
    ]
    # The losses freeze the teachers they hold, which belong to no run.
    allowed = {f"magicbokeh.training.{name}" for name in ("phases", "losses", "depth_distillation")}
    assert not uses or module in allowed


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
    from support.shard_samples import make_dataset

    make_dataset(tmp_path / "set")
    code = f"import bokehsynth as bs\nassert next(iter(bs.open_dataset({str(tmp_path / 'set')!r}))).hq.size"
    assert heavy_after(fresh_python, code) == set()


@pytest.mark.parametrize(
    ("name", "allowed"),
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
def test_public_names_import_no_more_than_they_need(fresh_python, name, allowed):
    assert heavy_after(fresh_python, f"import bokehsynth as bs\nbs.{name}") <= allowed


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


@pytest.mark.parametrize("module", modules_in(*MAKING, "color", "schema", "config"))
def test_making_modules_use_addressed_randomness_only(module):
    assert not unaddressed(syntax_tree(module))


@pytest.mark.parametrize("module", [module for module in MODULES if module != "bokehsynth.rng"])
def test_generators_are_constructed_in_rng_only(module):
    """Also outside the making modules, where clocks are allowed."""
    found = [
        use for use in unaddressed(syntax_tree(module), imports_too=False) if re.search("rng|random|PCG|Gener", use)
    ]
    assert not found


# --- the shape of the code


def test_modules_are_short():
    long = {module: len(path.read_text().splitlines()) for module, path in sources().items()}
    assert not {module: lines for module, lines in long.items() if lines > 400}


MANY_PARAMETERS = {
    # diffusers saves the parameters of these constructors as the configuration, and calls the constructors with it.
    "magicbokeh.model.networks.BokehUNet.__init__",
    "magicbokeh.model.networks.DefocusControlNet.__init__",
    # The call of a diffusers pipeline: its options are keywords of the one public method.
    "magicbokeh.inference.pipeline.MagicBokehPipeline.__call__",
}


def functions(node: ast.AST, name: str):
    """Every function below a node, kernels included, with its full name."""
    for child in ast.iter_child_nodes(node):
        inner = f"{name}.{child.name}" if hasattr(child, "name") else name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner, child
        yield from functions(child, inner)


def parameter_count(function: ast.FunctionDef) -> int:
    """Named parameters, `self` and `cls` left out."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


ALL_FUNCTIONS = [found for module in sources() for found in functions(syntax_tree(module), module)]


def test_functions_are_short():
    long = {name: node.end_lineno - node.lineno + 1 for name, node in ALL_FUNCTIONS}
    assert not {name: lines for name, lines in long.items() if lines > 60}


def test_parameter_lists_are_short():
    """More than eight values travel together as a dataclass or, into a kernel, as a NamedTuple of arrays."""
    assert {name for name, node in ALL_FUNCTIONS if parameter_count(node) > 8} == MANY_PARAMETERS


def test_parameters_are_counted():
    source = "class A:\n def f(self, a, /, b, *c, d=1, **e):\n  def g(x): pass\n"
    found = {name: parameter_count(node) for name, node in functions(ast.parse(source), "m")}
    assert found == {"m.A.f": 3, "m.A.f.g": 1}


def test_no_drawer_for_odds_and_ends():
    drawers = {"util", "utils", "helper", "helpers", "misc", "common", "tools"}
    assert not {module for module in sources() if module.rpartition(".")[2] in drawers}


def test_every_module_says_what_it_is():
    silent = [
        module
        for module in sources()
        if sources()[module].read_text().strip() and not ast.get_docstring(syntax_tree(module))
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
    assert (ROOT / "bokehsynth" / "recipes").resolve() == ROOT / "recipes"
    assert (ROOT / "bokehsynth" / "py.typed").is_file()
