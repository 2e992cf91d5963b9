"""The record of the machines that have worked on a data set, of which the first decides on the PNG encoder.

Hold `shard_lock.set_up_lock` to add to it: runs of other ranges of the same set may be starting.
"""

from collections.abc import Sequence
from typing import Any

from bokehsynth.errors import ChangedError, DataError
from bokehsynth.files import change_file, pretty_json
from bokehsynth.generation.provenance import pixel_facts, with_encoder_of
from bokehsynth.generation.records import differences, read_record
from bokehsynth.rng import SPLITS
from bokehsynth.shards import Layout, committed_plans, read_dataset
from bokehsynth.untrusted_files import parse_json

Machine = dict[str, Any]


def refuse_other_machine(layout: Layout, machine: Machine) -> None:
    """Raise ChangedError if none of those that have worked on the set is like `machine` in what decides on pixels."""
    known = known_machines(layout, strict=True)
    if known:
        _refuse_unlike(layout, machine, known)
    elif any(committed_plans(layout, split) for split in SPLITS):
        raise ChangedError(
            f"{layout.root}: {layout.machines.name}, the record of the machines that made its shards, is missing, so "
            "their pixels or bytes may be of another kind; --allow-mixed goes on all the same."
        )


def _refuse_unlike(layout: Layout, machine: Machine, known: Sequence[Machine]) -> None:
    """Raise ChangedError unless one of those that have worked on the set, which some have, is like `machine`."""
    if not _is_known(machine, known):
        raise ChangedError(
            f"{layout.root}: was begun on another kind of machine or with other versions (there -> here):\n  "
            + "\n  ".join(differences(pixel_facts(known[0], machine), pixel_facts(machine, known[0])))
            + "\nIts bytes would no longer be those of one machine; --allow-mixed goes on all the same."
        )


def record_machine(layout: Layout, machine: Machine) -> None:
    """Add a machine to the record of those that have worked on the set, unless one like it is there."""
    known = machines_of(layout, strict=True)
    if not _is_known(machine, known):
        change_file(layout.machines, lambda old: _with_machine(machine, _parsed_machines(layout, old)))


def as_in_set(layout: Layout, machine: Machine) -> Machine:
    """The record of a machine as it goes on with the set: the PNG encoder is that of the first one that is known.

    DataError where the record is damaged.
    """
    known = known_machines(layout, strict=True)
    return with_encoder_of(known[0], machine) if known else machine


def join_machines(layout: Layout, machine: Machine, allow_mixed: bool) -> None:
    """Add a machine to the record as it goes on with the set; ChangedError, unless `allow_mixed`, for another kind.

    What decides is the very record that is written over: in a bucket another machine may have begun it just now.
    """

    def joined(old: bytes | None) -> bytes:
        known = _parsed_machines(layout, old)
        if not known:
            return _with_machine(machine, known)
        here = with_encoder_of(known[0], machine)
        if not allow_mixed:
            _refuse_unlike(layout, here, known)
        return _with_machine(here, known)

    if not _is_known(as_in_set(layout, machine), machines_of(layout, strict=True)):
        change_file(layout.machines, joined)


def machines_of(layout: Layout, strict: bool = False) -> list[Machine]:
    """The machines that have worked on the set; none where the record is not there or is none.

    `strict` is for a run, which must not go on where the record is damaged: DataError.
    """
    machines: list[Any] = []
    fault: object = f"{layout.machines}: is no list of machines; `bokehsynth verify --fix` restores it"
    try:
        machines = read_record(layout.machines, list)
    except DataError as error:
        fault = error
    machines = machines if all(isinstance(machine, dict) for machine in machines) else []
    if strict and not machines and (layout.machines.exists() or layout.machines.is_symlink()):
        raise DataError(f"{fault}; if it is damaged and the set is not finished, delete it and use --allow-mixed")
    return machines


def known_machines(layout: Layout, strict: bool = False) -> list[Machine]:
    """`machines_of`; where that record is lost, the machines that `dataset.json` names, if it is there."""
    return machines_of(layout, strict) or _made_with(layout)


def _made_with(layout: Layout) -> list[Machine]:
    """The machines that `dataset.json` names; none where it is not there or names none."""
    try:
        made_with = read_dataset(layout).get("made_with")
    except DataError:
        return []
    if not isinstance(made_with, dict) or not made_with:
        return []
    machines = made_with.get("mixed", [made_with])
    return machines if isinstance(machines, list) and all(isinstance(item, dict) for item in machines) else []


def devices_of(layout: Layout) -> list[str]:
    """The devices that have worked on the set, the first one first."""
    return list(dict.fromkeys(str(machine["device"]) for machine in known_machines(layout) if "device" in machine))


def _parsed_machines(layout: Layout, old: bytes | None) -> list[Machine]:
    """What the record of machines holds, or, where there is none, `dataset.json`."""
    return parse_json(old.decode(), str(layout.machines)) if old else _made_with(layout)


def _with_machine(machine: Machine, known: Sequence[Machine]) -> bytes:
    """The record of machines with one more, if it is not in it."""
    return pretty_json(known if _is_known(machine, known) else [*known, machine]).encode()


def _is_known(machine: Machine, known: Sequence[Machine]) -> bool:
    return any(pixel_facts(machine, other) == pixel_facts(other, machine) for other in known)
