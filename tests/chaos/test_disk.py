"""Disks that are full, closed or broken, and streams without a reader: exit 4, or no harm at all."""

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness import COMMAND, assert_same, environment, events, markers, run, torn_shards, with_mounts


def left_in_order(out: Path) -> None:
    """What is committed is whole, and no half-written file is left."""
    assert torn_shards(out) == []
    assert not list(out.rglob("*.tmp-*"))
    assert not (out / "dataset.json").exists()


# --- full


@pytest.mark.usefixtures("mounts")
def test_too_small_a_disk_is_refused_before_anything_is_rendered(recipe: Path) -> None:
    done = with_mounts(
        'mount -t tmpfs -o size=2m none /mnt && "$BOKEHSYNTH" generate "$1" --out /mnt/set --samples 200; '
        "code=$?; ls /mnt/set/train 2>/dev/null; exit $code",
        recipe,
    )
    assert done.returncode == 4, done.stderr
    assert "too full: needed " in done.stderr
    assert ", have 2." in done.stderr or ", have 1." in done.stderr
    assert "/mnt/set" in done.stderr
    assert done.stdout == ""


@pytest.mark.long
@pytest.mark.usefixtures("mounts")
def test_a_disk_that_fills_up_stops_the_run_and_more_room_finishes_it(
    recipe: Path, clean: Path, tmp_path: Path
) -> None:
    script = """
    mount -t tmpfs -o size=3m none /mnt && cd /mnt
    "$BOKEHSYNTH" generate "$1" --out set --workers 2 2>first.txt & run=$!
    while kill -0 $run 2>/dev/null && ! ls set/.bokehsynth/*/*.done.json >/dev/null 2>&1; do sleep 0.01; done
    dd if=/dev/zero of=filler bs=4k 2>/dev/null
    wait $run; echo "first $?"
    rm filler; cp first.txt "$2/"; cp -r set "$2/full"
    FAULT= "$BOKEHSYNTH" generate "$1" --out set --workers 1 >/dev/null; echo "second $?"
    cp -r set "$2/set"
    """
    done = with_mounts(script, recipe, tmp_path, FAULT="slow:0.3")
    assert done.stdout.split("\n")[:2] == ["first 4", "second 0"], done.stdout + done.stderr
    words = (tmp_path / "first.txt").read_text()
    assert "disk full: needed about " in words
    assert " more, have " in words
    assert "Traceback" not in words
    left_in_order(tmp_path / "full")
    assert_same(tmp_path / "set", clean)


@pytest.mark.long
def test_a_limit_on_the_size_of_files(recipe: Path, tmp_path: Path) -> None:
    """EFBIG: files of ours end in the middle of a shard; also the log's, which is only worth a warning."""
    out = tmp_path / "set"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    done = subprocess.run(
        [COMMAND, "generate", recipe, "--out", out, "--workers", "1", "--set", "shards.samples=12"],
        capture_output=True, text=True, check=False, env=environment(), preexec_fn=small_files,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stderr
    assert "train-00000" in done.stderr
    assert "Traceback" not in done.stderr
    left_in_order(out)


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "number", "part"),
    [
        ("close", errno.EDQUOT, "train-000001.tar.tmp-"),
        ("write", errno.ENOSPC, "train-000001.done.json.tmp-"),
        ("write", errno.EDQUOT, "train-000001.tar.tmp-"),
        ("fsync", errno.EIO, "train-000001.tar.tmp-"),
        ("write", errno.ENOSPC, "train-000001.idx.tmp-"),
        ("write", errno.ENOSPC, "train-000001.crashes"),
        ("write", errno.ENOSPC, "recipe.yaml.tmp-"),
        ("write", errno.ENOSPC, "preview.png.tmp-"),
        ("write", errno.ENOSPC, "dataset.json.tmp-"),
    ],
)
def test_any_write_may_be_refused(
    call: str, number: int, part: str, shim: Path, recipe: Path, clean: Path, tmp_path: Path
) -> None:
    """Also the close of a file that was written well: a quota on a network file system may speak up that late."""
    out = tmp_path / "set"
    done = run("generate", recipe, "--out", out, "--workers", 1, LD_PRELOAD=shim, FAIL=f"{call}:{number}:{part}")
    assert done.returncode == 4, done.stderr
    assert part.partition(".tmp-")[0] in done.stderr
    assert os.strerror(number) in done.stderr
    assert "Traceback" not in done.stderr
    left_in_order(out)
    assert run("generate", recipe, "--out", out).returncode == 0
    assert_same(out, clean)


@pytest.mark.long
def test_a_log_that_cannot_be_written_is_a_warning(recipe: Path, clean: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    (out / "logs").mkdir(parents=True)
    (out / "logs/events.jsonl").symlink_to("/dev/full")
    done = run("generate", recipe, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("goes on without its log") == 1
    assert_same(out, clean)


# --- streams


@pytest.mark.long
def test_streams_that_take_nothing_do_no_harm(recipe: Path, clean: Path, tmp_path: Path) -> None:
    """stdout and stderr full; their reader gone; all three closed, where stray output would land in a shard."""
    script = """
    "$BOKEHSYNTH" generate "$1" --out "$2/full" >/dev/full 2>"$2/words.txt"; echo $?
    "$BOKEHSYNTH" generate "$1" --out "$2/pipe" 2>&1 | true; echo ${PIPESTATUS[0]}
    "$BOKEHSYNTH" generate "$1" --out "$2/closed" <&- >&- 2>&-; echo $?
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", recipe, tmp_path], capture_output=True, text=True, check=False,
        env=environment(BOKEHSYNTH=COMMAND),
    )  # fmt: skip
    assert done.stdout.split() == ["0", "0", "0"], done.stdout + done.stderr
    words = (tmp_path / "words.txt").read_text()
    assert "warning: stdout: No space left on device" in words
    assert "Traceback" not in words + done.stderr
    for name in ("full", "pipe", "closed"):
        assert_same(tmp_path / name, clean)


def test_words_that_are_the_product_must_arrive(clean: Path) -> None:
    for arguments in ("schema", "estimate quickstart"):
        done = subprocess.run(
            ["bash", "-c", f'"$BOKEHSYNTH" {arguments} >/dev/full'], capture_output=True, text=True, check=False,
            env=environment(BOKEHSYNTH=COMMAND),
        )  # fmt: skip
        assert done.returncode == 4
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        quiet = subprocess.run(
            ["bash", "-c", f'"$BOKEHSYNTH" {arguments} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}'],
            capture_output=True, text=True, check=False, env=environment(BOKEHSYNTH=COMMAND),
        )  # fmt: skip
        assert (quiet.returncode, quiet.stderr) == (0, "")


# --- closed


@pytest.mark.usefixtures("mounts")
def test_a_read_only_place_is_refused_before_anything_is_done(recipe: Path) -> None:
    done = with_mounts(
        'mount -t tmpfs none /mnt && mount -o remount,ro /mnt && "$BOKEHSYNTH" generate "$1" --out /mnt/set', recipe
    )
    assert done.returncode == 4, done.stderr
    assert "/mnt/set" in done.stderr
    assert "no permission to write there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.usefixtures("mounts")
def test_a_place_that_becomes_read_only_stops_the_run(recipe: Path, clean: Path, tmp_path: Path) -> None:
    script = """
    mount -t tmpfs none /mnt && cd /mnt
    "$BOKEHSYNTH" generate "$1" --out set --workers 2 2>words.txt & run=$!
    while kill -0 $run 2>/dev/null && ! ls set/.bokehsynth/*/*.done.json >/dev/null 2>&1; do sleep 0.01; done
    mount --bind set/.bokehsynth set/.bokehsynth && mount -o remount,bind,ro set/.bokehsynth
    wait $run; echo "first $?"
    umount set/.bokehsynth; cp words.txt "$2/"; cp -r set "$2/stopped"
    FAULT= "$BOKEHSYNTH" generate "$1" --out set >/dev/null; echo "second $?"
    cp -r set "$2/set"
    """
    done = with_mounts(script, recipe, tmp_path, FAULT="slow:0.3")
    assert done.stdout.split("\n")[:2] == ["first 4", "second 0"], done.stdout + done.stderr
    words = (tmp_path / "words.txt").read_text()
    assert "Read-only file system" in words
    assert "set/.bokehsynth" in words
    assert "Traceback" not in words
    assert torn_shards(tmp_path / "stopped") == []
    assert_same(tmp_path / "set", clean)


def test_a_folder_of_another_user(clean: Path, recipe: Path) -> None:
    """An unfinished data set of another user, readable to us: exit 4 that names the path, and nothing rendered."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        Path(folder).chmod(0o755)
        out, mine = Path(folder, "set"), Path(folder, "chaos.yaml")
        shutil.copytree(clean, out)
        shutil.copyfile(recipe, mine)
        (out / "dataset.json").unlink()
        markers(out)[0].unlink()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        other_user = ("setpriv", "--reuid", 65534, "--regid", 65534, "--clear-groups")
        done = run("generate", mine, "--out", out, prefix=other_user, HOME="/nonexistent", PYTHONDONTWRITEBYTECODE=1)
        assert done.returncode == 4, done.stderr
        assert str(out) in done.stderr
        assert "Permission denied" in done.stderr
        assert "Traceback" not in done.stderr
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        assert len(events(out, "started")) == 1
