"""The commands of docs/training.md and of the heads of the training recipes: each is taken by its program's parser."""

import re
import shlex
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bokehsynth as bs
from bokehsynth import RecipeError, UsageError
from bokehsynth.cli import cli as data_cli
from magicbokeh.cli import cli as magic_cli
from magicbokeh.recipe import AlternateStage, load_train_recipe
from magicbokeh.training import run_folder

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/training.md", *sorted((ROOT / "recipes/train").glob("*.yaml"))]
PROGRAMS = ("pip", "bokehsynth", "magicbokeh", "accelerate", "tensorboard", "python")


def commands() -> list[str]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".md":
            lines = [
                line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.split("\n")
            ]
            lines += [code for code in re.findall(r"`([^`\n]+)`", text) if " " in code]
        else:
            lines = [line[1:].strip() for line in text.splitlines() if line.startswith("#  ")]
        found += [line for line in lines if line.split(" ")[0] in PROGRAMS]
    return list(dict.fromkeys(found))


def parsed(program: object, words: list[str]) -> dict[str, object]:
    """The options as click understands them; nothing is run."""
    command = program.commands[words[0]]  # type: ignore[attr-defined]
    return dict(command.make_context(words[0], words[1:]).params)


def check(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "bokehsynth":
        options = parsed(data_cli, words)
        bs.load_recipe(str(options["recipe"]), list(options["overrides"]))  # type: ignore[call-overload]
    elif program == "magicbokeh":
        options = parsed(magic_cli, words)
        if words[0] == "train":
            load_train_recipe(str(options["recipe"]), list(options["changes"]))  # type: ignore[call-overload]
    elif program == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert words[0] == "launch"
        launch = launch_command_parser().parse_args(words[1:])
        assert launch.module
        assert launch.training_script == "magicbokeh"
        check(shlex.join(["magicbokeh", *launch.training_script_args]))
    elif program == "python":
        assert words[0] == "-m"
        assert (ROOT / words[1].replace(".", "/")).with_suffix(".py").is_file()
    elif program == "pip":
        assert words[0] == "install"
        for requirement in map(Requirement, words[1:]):
            assert requirement.extras <= set(metadata(requirement.name).get_all("Provides-Extra")), line
    elif program == "tensorboard":
        assert words[0] == "--logdir"
        assert f"{Path(words[1]).name}/" in str(run_folder.__doc__), "the run folder has no such part"
    else:
        raise AssertionError(f"no check for {line!r}")


@pytest.mark.parametrize("line", commands())
def test_commands_are_taken(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(line)


def test_the_page_has_all_stages_on_four_gpus() -> None:
    launched = [line for line in commands() if line.startswith("accelerate launch --num_processes 4")]
    assert {re.search(r" train (\w+) ", line)[1] for line in launched} == {"sr", "alternate", "depth"}  # type: ignore[index]


@pytest.mark.parametrize(
    "line", ["magicbokeh train sr --out r --set data.source.shards=x", "bokehsynth generate nosuch --out d"]
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((UsageError, RecipeError)):
        check(line)


@pytest.mark.parametrize(
    "line",
    ["pip install 'bokehsynth[nosuch]'", "pip uninstall bokehsynth", "tensorboard --logdir run/curves", "rm -r run"],
)
def test_a_wrong_command_of_another_program_would_be_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check(line)


def test_a_source_given_whole_has_its_paths_from_the_working_directory(tmp_path, monkeypatch) -> None:
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_train_recipe("alternate", ["data.source={shards: set}", "data.sr_source={shards: set}"])
    assert isinstance(recipe.stages[0], AlternateStage)
    assert recipe.data.sr_source is not None
    assert recipe.data.source.shards == recipe.data.sr_source.shards == str(tmp_path / "set")
