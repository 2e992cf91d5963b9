"""Object stores under a data set: buckets of S3, GCS and Azure through obstore, and paths of the objects in them.

Five verbs: create-only put, compare-and-swap put, ranged get, list, delete. What stands above takes a path and does
not ask whether it is a file or an object. Credentials come from the environment alone, and no message quotes what a
server answered, since it repeats parts of them.
"""

from pathlib import Path
from typing import TypeAlias

from bokehsynth.stores.bucket import Change
from bokehsynth.stores.failures import TakenError
from bokehsynth.stores.object_path import MAX_CHANGED, ObjectPath, is_object_url
from bokehsynth.stores.ranged_file import RangedFile

StoredPath: TypeAlias = Path | ObjectPath
"""Where a file of a data set lies: on a file system or in a bucket."""

__all__ = ["MAX_CHANGED", "Change", "ObjectPath", "RangedFile", "StoredPath", "TakenError", "is_object_url"]
