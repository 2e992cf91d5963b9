"""The tables of credits beside pictures: read, bounded, refused by line, and told in assets.jsonl and on the card."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import bokehsynth as bs
from bokehsynth.assets.index.credits import Credit, read_credits
from bokehsynth.errors import RecipeError
from bokehsynth.generation.verify import verify

TABLE = """file,author,url,licence
v0.png,"A | <b>",https://x.example/0,CC-BY-4.0
v1.png,"A | <b>",https://x.example/1,CC0-1.0
deep/v2.png,B,,CC0-1.0
v9.png,C,,
"""

RECIPE = """name: credited
samples: {train: 3, val: 1}
size: 64
assets:
  backgrounds: {path: views, credits: credits.csv, licence: Mine}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("v0.png", "v1.png", "deep/v2.png", "v3.png"):
        path = tmp_path / "views" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(rng.random((40, 50, 3)), (300, 240), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(path), (255 * picture).astype(np.uint8))
    (tmp_path / "views/credits.csv").write_text(TABLE)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_each_picture_has_what_its_line_says(folder: Path) -> None:
    catalogue = bs.load_recipe(folder / "recipe.yaml").catalogue
    found = {
        catalogue.files[a.id].name: (a.author, a.url, a.licence) for a in catalogue.assets if a.id in catalogue.files
    }
    assert found == {
        "v0.png": ("A | <b>", "https://x.example/0", "CC-BY-4.0"),
        "v1.png": ("A | <b>", "https://x.example/1", "CC0-1.0"),
        "deep/v2.png": ("B", "", "CC0-1.0"),
        "v3.png": ("", "", "Mine"),
    }
    notes = "\n".join(catalogue.notes)
    assert "credits.csv has no line for 1 pictures, such as v3.png" in notes
    assert "credits.csv has 1 lines for no picture, such as v9.png" in notes
    lines = [json.loads(line) for line in catalogue.lines().splitlines()]
    assert [line.get("author") for line in lines if line.get("file") == "v3.png"] == [None]


def test_a_licence_of_the_table_is_looked_at(folder: Path) -> None:
    allow = "assets.licences.allow=[Apache-2.0, CC0-1.0, Mine]"
    with pytest.raises(RecipeError, match=r"v0.png has the licence 'CC-BY-4.0' in credits.csv"):
        _ = bs.load_recipe(folder / "recipe.yaml", [allow]).catalogue
    (folder / "views/credits.csv").write_text(TABLE.replace("CC-BY-4.0", "CC0-1.0"))
    assert bs.load_recipe(folder / "recipe.yaml", [allow]).catalogue.assets


def test_the_card_names_the_authors_without_their_markup(folder: Path) -> None:
    out = folder / "set"
    bs.generate(bs.load_recipe(folder / "recipe.yaml"), out)
    card = (out / "README.md").read_text()
    assert r"| A \| \<b\> | 2 | CC-BY-4.0, CC0-1.0 | <https://x.example/" in card
    assert "| B | 1 | CC0-1.0 |  |" in card
    assert verify(out).faults == []
    text = (out / "assets.jsonl").read_text()
    (out / "assets.jsonl").write_text(text.replace('"author":"B"', '"author":"X"'))
    assert "assets.jsonl: missing or altered" in str(verify(out, decode=0).faults)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "the first line names the columns: file, author"),
        ("name,author\n", "'name' is none of them"),
        ("author\nA\n", "each once, and `file` always"),
        ("file,author\na.png,A,B\n", "line 2: has 3 values for 2 columns"),
        ("file,author\na.png,A\na.png,B\n", "line 3: 'a.png' has a line before this one"),
        ("file,author\n,A\n", "line 2: names no file"),
        ("file,url\na.png,javascript:alert(1)\n", "line 2: url must be an http:// or https:// address"),
        ("file,author\na.png," + "x" * 1001 + "\n", "longer than 1000 characters"),
        ('file,author\na.png,"x\x1b[2J"\n', "control characters"),
        ('file,author\na.png,"A', "is no CSV"),
        ("file,author\na.png,\u202eA\n", "control characters"),
        ("file,url\na.png,https://x/a>b\n", "line 2: url must be"),
        ("file,licence\na.png,CC | <img src=x>\n", "line 2: licence must be a name"),
        ("file,licence\n" + "".join(f"{n}.png,L{n}\n" for n in range(1001)), "more than 1000 licences"),
        (b"file\n\xff\n", "is no UTF-8 text"),
    ],
)
def test_another_table_is_refused_by_line(tmp_path: Path, table: "str | bytes", words: str) -> None:
    path = tmp_path / "credits.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(RecipeError) as refused:
        read_credits(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "credits.csv"
    text = '\ufeffFile, Author\r\n./a.png," Anna, B. "\r\n\r\n9\u202fPM.png,山田\u3000太郎\r\n'
    path.write_bytes(text.encode())
    assert read_credits(path) == {"a.png": Credit(author="Anna, B."), "9\u202fPM.png": Credit(author="山田\u3000太郎")}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{path: views, credits: ../credits.csv}", "not a path"),
        ("{path: views, credits: none.csv}", "there is no such table of credits"),
        ("{path: procedural, credits: credits.csv}", "the embedded pictures have no folder"),
    ],
)
def test_a_table_that_cannot_be_is_named(folder: Path, source: str, words: str) -> None:
    text = RECIPE.replace("{path: views, credits: credits.csv, licence: Mine}", source)
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        _ = bs.load_recipe(folder / "recipe.yaml").catalogue
