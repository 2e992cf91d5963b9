"""docs/assets.md says what the code does."""

from pathlib import Path

from bokehsynth.assets.decode.rejection import REASONS
from bokehsynth.assets.index.split import BITS_APART, SAME_THUMBS
from bokehsynth.assets.spec import SHARPNESS_FLOOR, AssetsSpec
from bokehsynth.config.strict_yaml import load_yaml

TEXT = (Path(__file__).parents[2] / "docs" / "assets.md").read_text(encoding="utf-8")


def test_every_reason_is_explained():
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in TEXT


def test_numbers_are_those_of_the_code():
    assert f"within {BITS_APART} bits" in TEXT
    assert f"above {SAME_THUMBS:g}" in TEXT
    assert f"`sharpness_floor: {SHARPNESS_FLOOR:g}`" in TEXT


def test_the_example_is_a_recipe(tmp_path):
    example = TEXT.split("```yaml\nassets:\n")[1].split("```")[0]
    path = tmp_path / "assets.yaml"
    path.write_text("\n".join(line[2:] for line in example.splitlines()))
    spec = load_yaml(path, AssetsSpec)
    assert len(spec.foregrounds) == 7
    assert spec.backgrounds[0].path == "landscapes"
