"""magicbokeh on the command line: files in, files out, and exit codes that can be trusted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from support.magic_toys import TOY, toy_networks, write_base, write_official

from bokehsynth import UsageError
from magicbokeh import MagicBokehPipeline
from magicbokeh.cli import cli, main
from magicbokeh.inference import model_source
from magicbokeh.inference.infer import parse_focus


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy"
    MagicBokehPipeline.from_networks(toy_networks(), TOY).save_pretrained(path)
    return path


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 112, 3), np.uint8)).save(tmp_path / "photo.jpg")
    np.save(tmp_path / "map.npy", np.linspace(0, 9, 80 * 112).reshape(80, 112))
    return tmp_path / "photo.jpg"


def run(monkeypatch, capsys, *arguments):
    """The console script: (exit code, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["magicbokeh", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    out, err = capsys.readouterr()
    return exit_info.value.code, out, err


def test_infer(monkeypatch, capsys, model, photo, tmp_path):
    line = ("infer", photo, "--model", model, "--focus", "30,20", "--blur", 24, "--depth", tmp_path / "map.npy")
    code, out, err = run(monkeypatch, capsys, *line, "--out", tmp_path / "out", "--maps", "--device", "cpu")
    assert code == 0, err
    assert "blur to" in out
    assert "112 x 80" in out
    result = Image.open(tmp_path / "out" / "photo.png")
    assert result.size == (112, 80)
    defocus = np.load(tmp_path / "out" / "photo.defocus.npy")
    assert defocus[20, 30] == 0
    assert defocus.max() == pytest.approx(24 * 80 / 512 * (1 - (20 * 112 + 30) / (80 * 112)), rel=1e-2)
    code, out, err = run(monkeypatch, capsys, *line, "--out", tmp_path / "again", "--device", "cpu")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again" / "photo.png")), np.asarray(result))
    code, out, err = run(monkeypatch, capsys, *line, "--out", tmp_path / "seed", "--seed", 3, "--device", "cpu")
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "seed" / "photo.png")), np.asarray(result))


@pytest.mark.parametrize("sweep", ["aperture", "focus"])
def test_strips(monkeypatch, capsys, model, photo, tmp_path, sweep):
    line = ["infer", photo, "--model", model, "--depth", tmp_path / "map.npy", "--out", tmp_path, "--device", "cpu"]
    code, out, err = run(monkeypatch, capsys, *line, "--sweep", sweep, "--steps", 3)
    assert code == 0, err
    with Image.open(tmp_path / f"photo.{sweep}.png") as strip:
        assert strip.size == (3 * 112, 80)
    assert ("blur 0, 8, 16" if sweep == "aperture" else "focus 0.05, 0.5, 0.95") in out


def test_unreadable_photos_are_reported_and_the_others_done(monkeypatch, capsys, model, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (10, 90)).save(tmp_path / "small.png")
    bad = [tmp_path / name for name in ("broken.jpg", "empty.png", "small.png")]
    line = ["infer", *bad, photo, "--model", model, "--blur", 0, "--device", "cpu"]
    code, _, err = run(monkeypatch, capsys, *line, "--out", tmp_path / "out")
    assert code == 3
    assert all(path.name in err for path in bad)
    assert "3 of 4" in err
    assert (tmp_path / "out" / "photo.png").is_file()


def test_what_is_read_is_never_overwritten(monkeypatch, capsys, model, photo, tmp_path):
    Image.open(photo).save(tmp_path / "other.png")
    before = (tmp_path / "other.png").read_bytes()
    line = ["infer", tmp_path / "other.png", "--model", model, "--blur", 0, "--device", "cpu"]
    code, _, err = run(monkeypatch, capsys, *line, "--out", tmp_path)
    assert code == 2
    assert "would be overwritten" in err
    map_beside = tmp_path / "photo.png"
    Image.fromarray(np.zeros((80, 112), np.uint8)).save(map_beside)
    line = ["infer", photo, "--model", model, "--depth", map_beside, "--device", "cpu"]
    assert run(monkeypatch, capsys, *line, "--out", tmp_path)[0] == 2
    assert (tmp_path / "other.png").read_bytes() == before


def test_without_a_model_the_packaged_one_is_used_and_named(monkeypatch, capsys, model, photo, tmp_path):
    line = ["infer", photo, "--blur", 0, "--device", "cpu", "--out"]
    monkeypatch.setattr(model_source, "PACKAGED_MODEL", Path(model))
    code, out, err = run(monkeypatch, capsys, *line, tmp_path / "packaged")
    assert code == 0, err
    assert out.splitlines()[0] == f"model: {Path(model).name}, which comes with magicbokeh; --model takes another"
    assert run(monkeypatch, capsys, *line, tmp_path / "named", "--model", model)[0] == 0
    same = [(tmp_path / name / "photo.png").read_bytes() for name in ("packaged", "named")]
    assert same[0] == same[1]
    monkeypatch.setattr(model_source, "PACKAGED_MODEL", tmp_path / "nothing")
    code, out, err = run(monkeypatch, capsys, *line, tmp_path / "none")
    assert code == 2
    assert "comes without a model" in err
    assert "give --model FOLDER" in err
    assert not (tmp_path / "none").exists()


def test_the_packaged_model_takes_any_size_and_orientation_without_network(monkeypatch, capsys, model, tmp_path):
    """Sides that are no multiples, under a tile, in strips; a photo on its side; float16 weights, as in the package."""
    run(monkeypatch, capsys, "export", "--model", model, "--out", tmp_path / "half", "--dtype", "float16")
    monkeypatch.setattr(model_source, "PACKAGED_MODEL", tmp_path / "half")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    sizes = {"narrow": (17, 150), "odd": (101, 67), "wide": (150, 16), "turned": (90, 40)}
    rng, exif = np.random.default_rng(1), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    for name, (width, height) in sizes.items():
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        picture.save(tmp_path / f"{name}.jpg", exif=exif if name == "turned" else b"")
    photos = [tmp_path / f"{name}.jpg" for name in sizes]
    code, _, err = run(monkeypatch, capsys, "infer", *photos, "--out", tmp_path / "out", "--blur", 0, "--device", "cpu")
    assert code == 0, err
    for name, size in sizes.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as result:
            assert result.size == (size[::-1] if name == "turned" else size)
            assert result.getexif().get(0x0112, 1) == 1


def test_convert_export_infer(monkeypatch, capsys, photo, tmp_path):
    networks = toy_networks()
    base = write_base(tmp_path / "base", networks)
    lora = write_official(tmp_path / "lora.pkl", networks)
    code, out, err = run(monkeypatch, capsys, "convert", "--base", base, "--lora", lora, "--out", tmp_path / "model")
    assert (code, out.strip()) == (0, f"wrote {tmp_path / 'model'}"), err
    code, out, err = run(monkeypatch, capsys, "export", "--model", tmp_path / "model", "--out", tmp_path / "merged")
    assert code == 0, err
    merged = MagicBokehPipeline.from_pretrained(tmp_path / "merged")
    assert merged.unet.config.sr_rank == 0
    assert merged.unet.config.time_folded
    line = ["--blur", 8, "--depth", tmp_path / "map.npy", "--focus", "0.3", "--device", "cpu"]
    for name in ("model", "merged"):
        code, out, err = run(
            monkeypatch, capsys, "infer", photo, "--model", tmp_path / name, "--out", tmp_path / f"by-{name}", *line
        )
        assert code == 0, err
    pictures = [
        np.asarray(Image.open(tmp_path / f"by-{name}" / "photo.png")).astype(int) for name in ("model", "merged")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    code, out, err = run(monkeypatch, capsys, "export", "--model", tmp_path / "model", "--out", tmp_path / "merged")
    assert code == 2
    assert "is there already" in err
    line = ["export", "--model", tmp_path / "model", "--out", tmp_path / "half", "--dtype", "float16"]
    assert run(monkeypatch, capsys, *line) == (0, f"wrote {tmp_path / 'half'}\n", "")
    folders = [tmp_path / "merged", tmp_path / "half"]
    sizes = [sum(file.stat().st_size for file in folder.rglob("*.safetensors")) for folder in folders]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["infer", "absent.jpg", "--model", "MODEL", "--out", "o"], "no such file"),
        (["infer", "PHOTO", "--model", "absent", "--out", "o", "--blur", "0"], "no such folder"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--focus", "9999,3", "--depth", "MAP"], "outside"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--focus", "left"], "neither a point"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--focus", "1,2", "--focus", "0.5"], "--focus"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--sweep", "focus", "--focus", "1,2"], "no meaning"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--work-size", "big"], "--work-size"),
        (["infer", "PHOTO", "PHOTO", "--model", "MODEL", "--out", "o"], "overwrite"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--device", "cuda:99", "--blur", "0"], "no such device"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--depth", "absent.png"], "absent.png"),
        (["infer", "PHOTO", "--model", "MODEL", "--out", "o", "--depth-model", "ABSENT"], "depth: the model"),
        (["convert", "--base", "absent", "--lora", "absent.pkl", "--out", "o"], "no such file"),
    ],
)
def test_what_cannot_work_is_named_and_exits_2(monkeypatch, capsys, model, photo, tmp_path, line, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = {"MODEL": model, "PHOTO": photo, "MAP": tmp_path / "map.npy", "ABSENT": tmp_path / "absent"}
    code, _, err = run(monkeypatch, capsys, *(known.get(word, word) for word in line))
    assert code == 2, err
    assert says in err
    assert not list(tmp_path.glob("o/*"))


def test_a_place_that_cannot_be_written(monkeypatch, capsys, model, photo, tmp_path):
    (tmp_path / "file").touch()
    line = ["infer", photo, "--model", model, "--blur", 0, "--out", tmp_path / "file" / "out"]
    assert run(monkeypatch, capsys, *line)[0] == 4


def test_interrupts_are_130(monkeypatch, capsys, model, photo, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("magicbokeh.inference.infer.open_pipeline", interrupted)
    assert run(monkeypatch, capsys, "infer", photo, "--model", model, "--out", tmp_path)[0] == 130


def test_focus_words(tmp_path):
    assert parse_focus(()) == parse_focus(["auto"]) == "auto"
    assert parse_focus(["12,7"]) == (12, 7)
    assert parse_focus(["12,7", "3,4"]) == [(12, 7), (3, 4)]
    assert parse_focus(["1,2,3,4"]) == (1, 2, 3, 4)
    assert parse_focus(["0.25"]) == 0.25
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(parse_focus([str(tmp_path / "mask.png")]), mask > 0)
    with pytest.raises(UsageError):
        parse_focus(["1,2,3"])


@pytest.mark.parametrize("command", [[], ["infer"], ["convert"], ["export"]])
def test_help(command):
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-c", "from magicbokeh.cli import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "magicbokeh" in done.stdout
