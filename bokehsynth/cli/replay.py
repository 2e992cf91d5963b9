"""replay: take a stored sample and make it again."""

from pathlib import Path

import click

from bokehsynth.cli.facts import record
from bokehsynth.cli.options import DATA_PATH, LOCAL_PATH, device_option, moved_option, trust_option
from bokehsynth.errors import DataError
from bokehsynth.stores import StoredPath


@click.command()
@click.argument("dataset", metavar="DATASET", type=DATA_PATH)
@click.argument("key", metavar="KEY")
@click.option("--out", type=LOCAL_PATH, help="Write the stored and the new sample as a contact sheet.")
@device_option
@moved_option
@trust_option
def replay(
    dataset: StoredPath, key: str, out: Path | None, device: str, overrides: tuple[str, ...], trust_code: bool
) -> None:
    """Make the sample KEY (such as train-000000012) of DATASET again from its JSON record and compare every pixel.

    Exit code 1 if any differs. A set made on CUDA has to be replayed there: on a CPU, last bits differ.
    """
    from bokehsynth.generation.replay import replay_device, replay_sample
    from bokehsynth.imaging.contact_sheet import contact_sheet

    made_on, device = replay_device(dataset, device)
    stored, remade, differing = replay_sample(dataset, key, device, trust_code, overrides)
    record(key=key, device=device, made_on=made_on, fields=list(stored.arrays), differing=differing, out=out)
    if out is not None:
        contact_sheet([stored, remade], out)
        click.echo(f"wrote {out}: above as stored, below as made again")
    if differing:
        counts = ", ".join(f"{name}: {count} pixels" for name, count in differing.items())
        if made_on and made_on != [device]:
            there = " and ".join(made_on)
            raise DataError(f"{key} came out differently on {device} ({counts}): the set was made on {there}, and last "
                            "bits differ between devices")  # fmt: skip
        raise DataError(f"{key} came out differently ({counts}); the data set was made on another kind of machine, "
                        "with other versions, or it was altered: `bokehsynth verify` tells")  # fmt: skip
    click.echo(f"{key}: every pixel as stored ({', '.join(stored.arrays)})")
