"""docs/threat-model.md: its links lead somewhere, it is linked, and its figures are those of the code."""

import re

from support.import_graph import ROOT

from bokehsynth import untrusted_files as files
from bokehsynth.config import strict_yaml
from bokehsynth.generation import records, replay
from bokehsynth.schema import MAX_SAMPLE_PIXELS, MAX_SAMPLES
from bokehsynth.shards import MAX_DATASET_JSON, codec, tar

TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def test_links_lead_somewhere_and_the_page_is_linked() -> None:
    for link in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    for page in ("SECURITY.md", "README.md"):
        assert "(docs/threat-model.md)" in (ROOT / page).read_text(encoding="utf-8"), page


def test_the_bounds_are_those_of_the_code() -> None:
    mebi = 1 << 20
    rows = {row.split("|")[1].strip(): row for row in TEXT.splitlines() if row.startswith("| ")}
    for name, words in {
        "every JSON": [f"{files.MAX_DIGITS:,} digits", f"{files.MAX_DEPTH} levels", f"{files.MAX_CONTAINERS:,} lists"],
        "`dataset.json`": [f"{MAX_DATASET_JSON // mebi} MiB", f"{MAX_SAMPLES:,} samples"],
        "a marker": [f"{files.MAX_JSON // mebi} MiB"],
        "`identity.json`, `machine.json`, `extensions.json`": [f"{records.MAX_RECORDS // mebi} MiB"],
        "`assets.jsonl`, quarantine lists": [f"{files.MAX_LIST // mebi} MiB"],
        "`recipe.yaml`": [
            f"{strict_yaml.MAX_BYTES // mebi} MiB",
            f"{strict_yaml.MAX_TOKENS:,} tokens",
            f"{strict_yaml.MAX_DEPTH} levels",
        ],
        "an index": [f"{tar.MAX_INDEX_ENTRY} bytes", f"at most {tar.MAX_MEMBERS}"],
        "a sample's members": [f"{codec.SMALL_SAMPLE // mebi} MiB", f"{codec._LARGEST_SHARE} times"],
        "a sample's record": [f"{codec.MAX_RECORD // mebi} MiB", f"{MAX_SAMPLE_PIXELS:,}"],
        "a draw (`replay`)": [f"{replay.LAYER_BYTES / 1e9:.1f} GB"],
    }.items():
        for word in words:
            assert re.search(rf"(?<![\d,.]){re.escape(word)}", rows[name]), (name, word)
    assert f"{files.MAX_VALUES:,} values" in rows["every JSON"]
    assert files.MAX_LINES == strict_yaml.MAX_NODES == 1_000_000  # in words
