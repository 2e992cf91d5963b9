"""The files whose bytes a data set promises, for comparing two of them."""

import hashlib
import json
from pathlib import Path

PROMISED = ("dataset.json", "recipe.yaml", "schema.json", "assets.jsonl", "README.md")


def promised_files(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of everything that design and docs promise to be the same on every run."""
    paths = [root / name for name in PROMISED if (root / name).exists()]
    paths += sorted(root.glob("train/*")) + sorted(root.glob("val/*"))
    paths += sorted(root.glob(".bokehsynth/*/*.done.json")) + sorted(root.glob(".bokehsynth/*/*.idx"))
    paths += sorted(root.glob("quarantine.jsonl")) + sorted(root.glob(".bokehsynth/*/*.quarantine.jsonl"))
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def torn_shards(root: Path) -> list[str]:
    """Shards with a marker that differ from what it records: must be empty at every instant."""
    torn = []
    for marker in root.glob(".bokehsynth/*/*.done.json"):
        record = json.loads(marker.read_text())
        tar = root / record["split"] / f"{record['split']}-{record['shard']:06d}.tar"
        if not tar.is_file() or hashlib.sha256(tar.read_bytes()).hexdigest() != record["sha256"]:
            torn.append(marker.name)
    return torn
