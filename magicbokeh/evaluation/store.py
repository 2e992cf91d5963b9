"""What is done already: one file per method and sample, so that an interrupted evaluation goes on."""

import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bokehsynth import DataError, StorageError, UsageError, atomic_write
from magicbokeh.evaluation.items import ByteArray, Values
from magicbokeh.given_files import check_size, read_json

_MOST = 16 << 20
"""Bytes of a file of values; usual ones have some ten thousand."""
_COSTS = ("seconds", "memory", "flops", "warm")


@dataclass(frozen=True)
class Store:
    """The folder of an evaluation."""

    root: Path

    @staticmethod
    def open(root: Path, identity: dict[str, Any]) -> "Store":
        """Open or begin the folder; UsageError where it holds something else, or the evaluation of something else."""
        record = root / "evaluation.json"
        try:
            root.mkdir(parents=True, exist_ok=True)
            entries = sorted(path.name for path in root.iterdir())
        except OSError as error:
            raise StorageError(f"{root}: {error.strerror or error} (choose another --out)") from None
        if record.is_file():
            before = read_json(record)
            differing = [name for name in identity if before.get(name) != identity[name]]
            if differing:
                raise UsageError(
                    f"--out: {root} holds an evaluation with another {', '.join(differing)}; choose another folder, or "
                    "remove this one"
                )
        elif entries:
            raise UsageError(f"--out: {root} holds other files ({entries[0]}); choose a new folder")
        else:
            atomic_write(record, json.dumps(identity, indent=1, sort_keys=True).encode())
        return Store(root)

    def read(self, method: str, identity: str, key: str) -> Values | None:
        """The values of a method on a sample, if they are there and were made by the same method."""
        path = self._values_path(method, key)
        if not path.is_file():
            return None
        check_size(path, _MOST)
        try:
            with np.load(path, allow_pickle=False) as held:
                record = json.loads(bytes(held["record"]).decode())
                if record["method"] != identity:
                    return None
                splits = record["splits"]
                return Values(
                    metrics=record["metrics"],
                    features={split: held[f"found-{place}"] for place, split in enumerate(splits)},
                    target_features={split: held[f"target-{place}"] for place, split in enumerate(splits)},
                    **{name: record[name] for name in _COSTS},
                )
        except Exception as error:  # a damaged archive may raise anything
            raise DataError(f"{path}: is damaged ({type(error).__name__}); delete it, it is made again") from None

    def write(self, method: str, identity: str, key: str, values: Values) -> None:
        """Keep the values of a method on a sample."""
        splits = sorted(values.features)
        record = {"method": identity, "metrics": values.metrics, "splits": splits}
        record |= {name: getattr(values, name) for name in _COSTS}
        arrays = {f"found-{place}": values.features[split] for place, split in enumerate(splits)}
        arrays |= {f"target-{place}": values.target_features[split] for place, split in enumerate(splits)}
        data = io.BytesIO()
        text = np.frombuffer(json.dumps(record, sort_keys=True).encode(), np.uint8)
        np.savez(data, record=text, **arrays)  # type: ignore[arg-type]
        path = self._values_path(method, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data.getvalue())

    def write_picture(self, method: str, key: str, picture: ByteArray) -> None:
        """Keep the picture of a method, under the sample's key."""
        path = self.picture_path(method, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())

    def picture_path(self, method: str, key: str) -> Path:
        """Where the picture of a method lies."""
        return self.root / "pictures" / _file_name(method) / f"{_file_name(key)}.png"

    def write_text(self, name: str, text: str) -> None:
        """Write one of the tables."""
        atomic_write(self.root / name, text.encode())

    def _values_path(self, method: str, key: str) -> Path:
        return self.root / "values" / _file_name(method) / f"{_file_name(key)}.npz"


def _file_name(text: str) -> str:
    """A file name of a method or key; where characters had to go, with a digest, so that two never meet."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", text)[:80]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
