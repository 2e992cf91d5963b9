"""What `import bokehsynth` promises: the names, that they load lazily, and the errors."""

import inspect
from pathlib import Path

import pytest

import bokehsynth as bs

ERRORS = {  # name: (parent, exit code at the command line)
    "BokehsynthError": ("Exception", 1),
    "UsageError": ("BokehsynthError", 2),
    "RecipeError": ("UsageError", 2),
    "DeviceError": ("UsageError", 2),
    "ChangedError": ("UsageError", 2),
    "DataError": ("BokehsynthError", 1),
    "AssetError": ("DataError", 3),
    "NoDatasetError": ("DataError", 2),
    "UnsoundError": ("DataError", 1),
    "StorageError": ("BokehsynthError", 4),
    "LockedError": ("BokehsynthError", 5),
    "FailureBudgetError": ("BokehsynthError", 6),
}
NAMES = {
    *("Plane", "Layer", "Lens", "Aperture", "Disc", "Polygon", "CatEye", "Ring", "render", "Frames"),
    *("render_batch", "resolve_device", "ComposedSample", "compose_sample", "render_samples"),  # for GPUs (docs/gpu.md)
    "make_samples",  # of 0.4, with a parameter of another name than that of `render_samples`
    *("Apodized", "OnionRings", "Anamorphic", "ImageAperture", "CalibratedAperture"),  # more openings (docs/lenses.md)
    *("render_views", "part_of", "halves_of", "Band"),  # several pictures of one scene (docs/optics.md)
    *("Prescription", "load_prescription"),  # real lenses (docs/lenses.md)
    *("check_aperture", "LensReport"),  # the contract of an aperture of one's own (docs/lenses.md)
    *("RgbProfile", "read_profile"),  # colours of photographs, which both packages read
    *("Recipe", "load_recipe", "find_recipe", "load_yaml", "SampleDraw", "draw_sample", "make_sample", "Sample"),
    *("degrade", "generate", "open_dataset", "contact_sheet", "srgb_to_linear", "linear_to_srgb", "atomic_write"),
    "layers_of",  # layers of a stored sample (docs/reading.md)
    *ERRORS,
}
ALIASES = {"SetUp": "ComposedSample", "set_up_sample": "compose_sample"}
FUNCTIONS = ("render", "degrade", "generate")


def test_all_is_exactly_the_design():
    assert sorted(bs.__all__) == sorted(NAMES | ALIASES.keys())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_loads_is_itself_and_has_a_docstring(name):
    value = getattr(bs, name)
    assert value is getattr(bs, name)
    assert value.__name__ == name
    assert value.__module__.startswith("bokehsynth")
    doc = inspect.getdoc(value)
    assert doc
    # A dataclass without a docstring gets its signature for one, which says nothing.
    assert not doc.startswith(f"{name}(")


@pytest.mark.parametrize(("old", "new"), ALIASES.items())
def test_names_of_older_versions_still_work(old, new):
    assert getattr(bs, old) is getattr(bs, new)


def test_star_import(fresh_python):
    printed = fresh_python("from bokehsynth import *; import bokehsynth; print(set(bokehsynth.__all__) <= set(dir()))")
    assert printed == "True"


def test_dir_lists_every_name_before_it_is_loaded(fresh_python):
    code = "import bokehsynth as bs, sys; print(set(bs.__all__) <= set(dir(bs)), 'bokehsynth.optics' in sys.modules)"
    assert fresh_python(code) == "True False"
    assert "__version__" in dir(bs)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'rendr'"):
        _ = bs.rendr
    assert not hasattr(bs, "utils")


def test_a_loaded_name_is_kept():
    _ = bs.Plane
    assert vars(bs)["Plane"] is bs.Plane


def test_no_module_bears_the_name_of_a_public_function():
    """Importing such a module would put it in the function's place."""
    names = {path.stem for path in Path(bs.__file__).parent.iterdir() if path.suffix in {"", ".py"}}
    assert not names & set(bs.__all__)


def test_functions_are_functions_whatever_is_imported_first(fresh_python):
    code = "import bokehsynth.generation.generate, bokehsynth.rendering, bokehsynth.degradation\n"
    code += f"import bokehsynth as bs\nprint(*(type(getattr(bs, name)).__name__ for name in {FUNCTIONS}))"
    assert fresh_python(code) == "function function function"


@pytest.mark.parametrize("name", ERRORS)
def test_errors_tree_and_exit_codes(name):
    parent, exit_code = ERRORS[name]
    error = getattr(bs, name)
    assert error.__base__.__name__ == parent or parent in {base.__name__ for base in error.__bases__}
    assert error.exit_code == exit_code
    assert error("said").exit_code == exit_code
    assert str(error("said")) == "said"


def test_usage_errors_are_value_errors_and_no_other():
    for name in ERRORS:
        assert issubclass(getattr(bs, name), ValueError) == issubclass(getattr(bs, name), bs.UsageError)


def test_no_error_is_missing_from_the_tree():
    from bokehsynth import errors

    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(ERRORS)


def test_errors_survive_pickling():
    """Workers are other processes: an error must arrive as what it was, its reason included."""
    import pickle

    for name in ERRORS:
        back = pickle.loads(pickle.dumps(getattr(bs, name)("said")))
        assert (type(back), str(back)) == (getattr(bs, name), "said")
    assert pickle.loads(pickle.dumps(bs.AssetError("said", "truncated"))).reason == "truncated"
