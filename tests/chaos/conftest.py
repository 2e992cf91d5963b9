"""What the chaos tests share: a recipe with a step that can go wrong, and the data set of a run where nothing did."""

import subprocess
from pathlib import Path

import pytest
from harness import HERE, RECIPE, namespace, run


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chaos-recipe") / "chaos.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def clean(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of an undisturbed run: 12 samples in 5 shards. Tests must not change it."""
    out = tmp_path_factory.mktemp("chaos-clean") / "set"
    done = run("generate", recipe, "--out", out, "--workers", 2)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def dice(recipe: Path) -> dict[tuple[str, int, int], float]:
    """The number that each draw of each sample gave the user's class, by (split, index, attempt)."""
    import bokehsynth as bs

    loaded = bs.load_recipe(recipe)
    return {
        (split, index, attempt): bs.draw_sample(loaded, index, split, attempt).degradation["steps"][0]["params"]["dice"]
        for split in ("train", "val")
        for index in range(loaded.count(split))
        for attempt in range(3)
    }


@pytest.fixture(scope="session")
def victim(dice: dict[tuple[str, int, int], float]) -> tuple[str, int, float]:
    """The sample with the lowest number, and a threshold that hits its first draw and no other."""
    first = {key: value for key, value in dice.items() if key[2] == 0}
    split, index, _ = min(first, key=lambda key: first[key])
    threshold = first[split, index, 0]
    assert sum(value <= threshold for value in dice.values()) == 1, "choose another seed for the recipe"
    return split, index, threshold


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls of the system fail."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "shim.c", "-ldl"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


@pytest.fixture
def mounts() -> None:
    if namespace() is None:
        pytest.skip("mounting is not allowed here")
