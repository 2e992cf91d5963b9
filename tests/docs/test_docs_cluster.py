"""The job scripts of docs/cluster.md: they parse, and the Slurm one makes a data set range by range."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.promised import promised_files

from bokehsynth.errors import RecipeError

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
MANIFEST, RAY_JOB = (YAML(typ="safe").load(text) for kind, text in BLOCKS if kind == "yaml")


@pytest.mark.parametrize(
    "script",
    [*SHELL, MANIFEST["spec"]["template"]["spec"]["containers"][0]["args"][0], RAY_JOB["spec"]["entrypoint"]],
)
def test_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_manifest_asks_for_as_many_ranges_as_it_makes() -> None:
    spec = MANIFEST["spec"]
    assert spec["completions"] == spec["parallelism"] == 64
    container = spec["template"]["spec"]["containers"][0]
    assert f'"$JOB_COMPLETION_INDEX/{spec["completions"]}"' in container["args"][0]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == container["name"]


def _lines_of_ray() -> list[str]:
    """Every line on the page that runs bokehsynth in a Ray cluster, its variables set."""
    text = "\n".join([*SHELL, RAY_JOB["spec"]["entrypoint"].replace("'", "\n")]).replace("\\\n", " ")
    found = re.findall(r"(?:^|do)\s*(bokehsynth [^;\n]*--engine ray[^;\n]*?)\s*(?:#.*|&|;.*)?$", text, re.M)
    return [re.sub(r'"?\$(\w+)(:6379)?"?', r"\1\2", line) for line in found]


@pytest.mark.parametrize("line", _lines_of_ray())
def test_lines_with_ray_are_understood(line: str) -> None:
    """Up to the recipe, which is not there."""
    from click.testing import CliRunner

    from bokehsynth.cli import cli

    done = CliRunner().invoke(cli, shlex.split(line)[1:])
    assert isinstance(done.exception, RecipeError), done.output


def test_all_lines_with_ray_are_found_and_the_cluster_is_one_that_ends() -> None:
    assert len(_lines_of_ray()) == 5
    spec = RAY_JOB["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] == 0
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in (spec["rayClusterSpec"]["headGroupSpec"], group):
        claims = {volume["name"] for volume in pod["template"]["spec"]["volumes"]}
        (container,) = pod["template"]["spec"]["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == claims == {"data", "recipes"}


@pytest.mark.parametrize(
    ("codes", "end", "runs"), [([0], 0, 1), ([3], 0, 1), ([2], 2, 1), ([6], 6, 1), ([4, 1, 0], 0, 3), ([1] * 9, 1, 6)]
)
def test_the_ray_job_tries_again_what_may_go_better(codes: list[int], end: int, runs: int, tmp_path: Path) -> None:
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    fake = '#!/bin/bash\necho x >> runs; exit "$(sed -n "$(wc -l < runs)p" codes)"\n'
    for name, text in (("bokehsynth", fake), ("sleep", "#!/bin/bash\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", RAY_JOB["spec"]["entrypoint"]],
        cwd=tmp_path,
        env={"PATH": path},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (end, b"")
    assert len((tmp_path / "runs").read_text().split()) == runs


def test_the_slurm_script_makes_a_set(tiny_recipe: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """With an srun that runs what it is given, as one of one task does."""
    script = next(text for text in SHELL if "SBATCH --array" in text)
    (tmp_path / "job.sh").write_text(script)
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/bash\nshift\nexec "$@"\n')
    srun.chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    for number in (1, 0):
        done = subprocess.run(
            ["bash", tmp_path / "job.sh"], capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": path, "RECIPE": str(tiny_recipe), "OUT": str(tmp_path / "set"),
                 "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "2"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert promised_files(tmp_path / "set") == promised_files(tiny_dataset)
