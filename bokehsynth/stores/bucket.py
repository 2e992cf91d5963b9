"""The verbs of an object store, each carried on through busy answers, resets and lost answers.

A put is made once, under a condition: create-only, or only over the version that was read. After an answer that may
mean anything (5xx, 409, a reset) the object is read and compared before it is put again, so that a put that arrived is
never taken for another writer's. Puts are whole, never in parts: nothing is left of one that was cut off.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bokehsynth.errors import DataError, StorageError, UsageError
from bokehsynth.stores.failures import BusyError, NoConditionsError, TakenError, raise_meaning

T = TypeVar("T")

Change = Callable[[bytes | None], bytes]
"""The new content of an object from what it holds, None where it is not there."""

PATIENCE = 120.0
"""Seconds for which a store may be busy or unreachable; BOKEHSYNTH_STORE_SECONDS in the environment says otherwise."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 8.0
"""Seconds: the pauses between tries are drawn evenly from 0 to a bound that doubles from the first to the longest."""
MAX_OBJECT = 5 * 10**9
"""Bytes of one put: the bound of S3 and GCS for an object that is not put in parts."""

_CHUNK = 8 << 20
"""Bytes that are compared at a time."""
_SMALL_PUT = 1 << 16
"""Bytes up to which a condition alone says what is there: a larger object is asked for before it is sent."""
_SLOWEST = 1 << 18
"""Bytes per second at which a transfer still is no failure."""
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Held:
    """An object as it was when it was asked about."""

    size: int
    version: str
    """Its ETag: another one after every change."""
    modified: float
    """Seconds since 1970."""


@dataclass
class Bucket:
    """One bucket (`s3://name`). It may be pickled: connections belong to a process, and are opened on first use."""

    url: str
    conditional: bool = True
    """Whether the store keeps the condition of a put; where not, objects are compared before and after it."""
    _clients: dict[tuple[int, float], Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "conditional": self.conditional, "_clients": {}}

    def __hash__(self) -> int:
        return hash(self.url)

    def head(self, key: str) -> Held | None:
        """What is there under a key; None where nothing is."""
        try:
            return _held(self._read(key, lambda obs, client: obs.head(client, key)))
        except FileNotFoundError:
            return None

    def read(self, key: str, most: int) -> tuple[bytes, Held]:
        """An object of at most `most` bytes; FileNotFoundError where there is none, DataError for a larger one."""

        def get(obs: Any, client: Any) -> tuple[bytes, Held]:
            result = obs.get(client, key)
            held = _held(result.meta)
            if held.size > most:
                raise DataError(f"{self.url}/{key}: {held.size:,} bytes; such a file has at most {most:,}")
            return bytes(result.bytes()), held

        return self._read(key, get, most if most < MAX_OBJECT else 0)

    def read_range(self, key: str, start: int, end: int, version: str = "") -> tuple[bytes, Held]:
        """The bytes `start` to `end` of an object, fewer at its end; `version`: DataError unless it is still that."""

        def get(obs: Any, client: Any) -> tuple[bytes, Held]:
            options = {"range": (start, end)} | ({"if_match": version} if version else {})
            result = obs.get(client, key, options=options)
            return bytes(result.bytes()), _held(result.meta)

        try:
            return self._read(key, get, end - start)
        except TakenError:
            raise DataError(f"{self.url}/{key}: was changed while it was read") from None
        except EOFError:
            if (held := self.head(key)) is None:
                raise FileNotFoundError(f"{self.url}/{key}: not there") from None
            return b"", held

    def attributes(self, key: str) -> dict[str, str]:
        """What was put beside an object; empty where the store does not tell."""
        try:
            options = {"range": (0, 1)}
            found = self._read(key, lambda obs, client: dict(obs.get(client, key, options=options).attributes))
        except (FileNotFoundError, EOFError):  # an empty object has no first byte
            return {}
        return {str(name): str(value) for name, value in found.items()}

    def list_folder(self, prefix: str) -> list[str]:
        """The keys of the objects and folders directly in a folder."""
        found = self._read(prefix, lambda obs, client: obs.list_with_delimiter(client, prefix))
        return [*(item["path"] for item in found["objects"]), *found["common_prefixes"]]

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        try:
            self._read(key, lambda obs, client: obs.delete(client, key))
        except FileNotFoundError:
            return

    def holds(self, key: str, data: "bytes | memoryview") -> bool | None:
        """Whether an object holds just these bytes; None where it is not there. They are read, never taken as given."""
        held, view = self.head(key), memoryview(data)
        if held is None or held.size != len(view):
            return None if held is None else False
        for start in range(0, len(view), _CHUNK):
            try:
                if self.read_range(key, start, start + _CHUNK)[0] != view[start : start + _CHUNK]:
                    return False
            except FileNotFoundError:
                return None
        return True

    def create(self, key: str, data: "bytes | memoryview", attributes: dict[str, str] | None = None) -> bool:
        """Put an object where none is. False if one with these bytes was there, TakenError if one with others is."""
        if len(data) > MAX_OBJECT:
            raise UsageError(f"{self.url}/{key}: {len(data):,} bytes; an object has at most {MAX_OBJECT:,}")
        pauses = self._pauses(key)
        put, there = False, None
        if not self.conditional or len(data) > _SMALL_PUT:
            there = self.holds(key, data)
        while there is None:
            reason = "what was put is not there"
            try:
                self._put(key, data, "create" if self.conditional else "overwrite", attributes)
                put = True
            except NoConditionsError:
                self._give_up_conditions(key)
                reason = ""
            except BusyError as busy:
                pauses.wait(str(busy))
                reason = ""
            except TakenError:
                reason = "others put and delete it"
            if put and self.conditional:
                return True
            there = self.holds(key, data)
            if there is None and reason:
                pauses.wait(reason)
        if not there:
            raise TakenError(f"{self.url}/{key}")
        return put

    def change(self, key: str, change: Change, most: int) -> None:
        """Put what `change` makes of an object, None where there is none, over just that version of it.

        Where another writer was faster, its object is read and changed in turn. What `change` raises passes through.
        """
        pauses = self._pauses(key)
        while True:
            try:
                old, held = self.read(key, most)
            except FileNotFoundError:
                old, held = None, None
            new = change(old)
            if new == old:
                return
            mode: Any = "overwrite"
            if self.conditional:
                mode = "create" if held is None else {"e_tag": held.version}
            try:
                self._put(key, new, mode)
            except NoConditionsError:
                self._give_up_conditions(key)
            except BusyError as busy:
                pauses.wait(str(busy))
            except (TakenError, FileNotFoundError):  # changed or deleted since it was read
                pauses.wait("other writers are changing it")
            else:
                return

    def has_conditions(self, key: str, data: bytes) -> bool:
        """Whether a create-only put over an object that is there, with these bytes, is refused, as it has to be."""
        pauses = self._pauses(key)
        while True:
            try:
                self._put(key, data, "create")
            except TakenError:
                return True
            except NoConditionsError:
                return False
            except BusyError as busy:
                pauses.wait(str(busy))
            else:
                return False

    def _give_up_conditions(self, key: str) -> None:
        """Put without conditions from now on; StorageError where the refused put had none."""
        if not self.conditional:
            raise StorageError(f"{self.url}/{key}: the store does not take puts (501): check the endpoint") from None
        self.conditional = False

    def _put(self, key: str, data: "bytes | memoryview", mode: Any, attributes: dict[str, str] | None = None) -> None:
        """One put, whole, without a second try."""
        obs, client = self._client(len(data))
        try:
            obs.put(client, key, data, mode=mode, attributes=attributes, use_multipart=False)
        except Exception as error:
            raise_meaning(error, f"{self.url}/{key}")

    def _read(self, key: str, ask: Callable[[Any, Any], T], size: int = 0) -> T:
        """What `ask` gives, asked again while the store is busy; for what may be asked twice."""
        pauses = self._pauses(key)
        obs, client = self._client(size)
        while True:
            try:
                return ask(obs, client)
            except DataError:
                raise
            except Exception as error:
                try:
                    raise_meaning(error, f"{self.url}/{key}")
                except BusyError as busy:
                    pauses.wait(str(busy))
                except NoConditionsError:
                    raise StorageError(f"{self.url}/{key}: the store does not know this kind of request") from None

    def _pauses(self, key: str) -> "Pauses":
        return Pauses(f"{self.url}/{key}")

    def _client(self, size: int) -> tuple[Any, Any]:
        """obstore, and its client of this process with time for a transfer of `size` bytes."""
        seconds = 30.0
        while seconds < 30 + size / _SLOWEST:
            seconds *= 2
        place = (os.getpid(), seconds)
        if place not in self._clients:
            self._clients[place] = _open(self.url, seconds)
        return _obstore(self.url), self._clients[place]


@dataclass
class Pauses:
    """The pauses between the tries of one request, until the store's patience is used up."""

    where: str
    start: float = field(default_factory=time.monotonic)
    bound: float = FIRST_PAUSE

    def wait(self, reason: str) -> None:
        """Wait before the next try; StorageError, with the last reason, where there have been tries for too long."""
        most = patience()
        if time.monotonic() - self.start > most:
            raise StorageError(
                f"{self.where}: the store was busy or unreachable for {most:g} s, the last time because {reason}: "
                "check the network and the endpoint, then run the same line again (what was committed stays)"
            )
        time.sleep(_RANDOM.uniform(0, self.bound))
        self.bound = min(2 * self.bound, LONGEST_PAUSE)


def patience() -> float:
    """Seconds for which a store may fail, of the environment or PATIENCE."""
    text = os.environ.get("BOKEHSYNTH_STORE_SECONDS", "")
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UsageError(f"BOKEHSYNTH_STORE_SECONDS must be a number of seconds, 0 or more, got {text!r}")
    return seconds


def _held(meta: Any) -> Held:
    return Held(int(meta["size"]), str(meta["e_tag"] or ""), meta["last_modified"].timestamp())


_first_process: list[int] = []
"""The process in which obstore was first used: its threads do not live on in a fork, where a request would hang."""


def _obstore(url: str) -> Any:
    try:
        import obstore
    except ImportError as error:
        raise UsageError(f"{url}: buckets need obstore: pip install 'bokehsynth[cloud]'") from error
    return obstore


def _open(url: str, seconds: float) -> Any:
    _obstore(url)
    from obstore.store import from_url

    if not _first_process:
        _first_process.append(os.getpid())
    if _first_process[0] != os.getpid():
        raise UsageError(
            f"{url}: a process that was forked after a bucket was read cannot read buckets: start such processes with "
            "spawn (torch: DataLoader(..., multiprocessing_context='spawn'))"
        )
    plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
    options: Any = {"timeout": f"{seconds:.0f}s", "connect_timeout": "10s", "allow_http": plain}
    try:
        return from_url(url, client_options=options, retry_config={"max_retries": 0})
    except Exception as error:
        raise UsageError(f"{url}: is no bucket that can be opened ({type(error).__name__})") from None
