"""The job scripts of docs/cluster.md: they parse, and the Slurm one makes a data set range by range."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.promised import promised_files

PAGE = (Path(__file__).parents[2] / "docs/cluster.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
MANIFEST = YAML(typ="safe").load(next(text for kind, text in BLOCKS if kind == "yaml"))


@pytest.mark.parametrize("script", [*SHELL, MANIFEST["spec"]["template"]["spec"]["containers"][0]["args"][0]])
def test_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_manifest_asks_for_as_many_ranges_as_it_makes() -> None:
    spec = MANIFEST["spec"]
    assert spec["completions"] == spec["parallelism"] == 64
    container = spec["template"]["spec"]["containers"][0]
    assert f'"$JOB_COMPLETION_INDEX/{spec["completions"]}"' in container["args"][0]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == container["name"]


def test_the_slurm_script_makes_a_set(tiny_recipe: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    """With an srun that runs what it is given, as one of one task does."""
    script = next(text for text in SHELL if "SBATCH" in text)
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
