"""The sections about where a set comes from: its pictures, what was not used, and how it was made."""

from bokehsynth.generation.report.charts import course_figure
from bokehsynth.generation.report.findings import Findings
from bokehsynth.generation.report.markup import Markup, element, joined, note, table, warning
from bokehsynth.generation.report.side_files import flat
from bokehsynth.generation.report.wording import duration, many, moment, size

MOST_ASSETS = 12
"""Assets that are named."""


def assets_section(found: Findings) -> list[Markup]:
    """Assets by licence and kind, and those that are shown most."""
    assets, numbers = found.assets, found.numbers
    parts = []
    if assets.fault:
        parts.append(warning(assets.fault))
    sampled = "" if numbers.samples == found.samples else f" (of {numbers.samples:,} read)"
    licences = sorted({*assets.licences, *numbers.licences}, key=lambda name: (-numbers.licences[name], name))[:60]
    parts += [
        note("A sample inherits the licences of all pictures in it, and counts once for each."),
        element(
            "div",
            table(["licence", "assets", f"samples{sampled}", "share of samples"],
                  [(name, f"{assets.licences[name]:,}", f"{numbers.licences[name]:,}",
                    f"{numbers.licences[name] / max(1, numbers.samples):.1%}") for name in licences], (1, 2, 3)),
            table(["kind", "split", "assets"],
                  [(kind, split, f"{count:,}") for (kind, split), count in sorted(assets.kinds.items())], (2,)),
            class_="beside",
        ),
    ]  # fmt: skip
    unused = sum(1 for name in assets.licence_of if name not in numbers.assets)
    often = sorted(numbers.assets.items(), key=lambda item: (-item[1], item[0]))[:MOST_ASSETS]
    rows = [
        (_short(assets.file_of.get(name, name)), assets.described.get(name, "not listed"),
         assets.licence_of.get(name, "not stated"), f"{count:,}")
        for name, count in often
    ]  # fmt: skip
    parts += [
        element("h3", "Shown most often"),
        note(f"{len(numbers.assets):,} of {len(assets.licence_of):,} assets are shown in the samples read"
             f"{f', {unused:,} are in none' if unused else ''}."),
        table(["asset", "kind", "licence", "samples"], rows, (3,)),
    ]  # fmt: skip
    return parts


def _short(name: str) -> str:
    """A name, or the start of a long digest."""
    return f"{name[:22]}…" if len(name) > 60 else name


def quarantine_section(found: Findings) -> list[Markup]:
    """Files and draws that are not used, by reason, with examples."""
    facts = found.quarantine
    parts = [warning(facts.fault)] if facts.fault else []
    if not facts.groups:
        return parts or [note("Nothing: every file could be used, and every sample is its first draw.")]
    parts.append(note("Files that could not be used, and draws of samples whose place the next draw took."))
    ordered = sorted(facts.groups.items(), key=lambda item: (-item[1], item[0]))
    parts.append(table(["what", "reason", "number"], [(*group, f"{count:,}") for group, count in ordered], (2,)))
    for group, count in ordered:
        examples = facts.examples[group]
        extent = "all" if len(examples) == count else f"the first {len(examples)} of"
        words = f"{' '.join(group).strip()}: {extent} {count:,}"
        parts.append(element("details", element("summary", words), table(["name", "why"], examples)))
    return parts


def making_section(found: Findings) -> list[Markup]:
    """Samples per second over time, machines, deaths of workers, versions."""
    events, parts = found.events, []
    if events.fault:
        parts.append(warning(events.fault))
    if events.commits:
        first, last = events.span
        total = sum(samples for _, _, samples in events.commits)
        parts += [
            note(f"By the log: {total:,} samples in {duration(last - first)}, from {moment(first)} to {moment(last)} "
                 "UTC. A shard's samples are spread over the time that it took."),
            course_figure("throughput", "samples per second, all machines", events.throughput(),
                          (moment(first), moment(last))),
        ]  # fmt: skip
        hosts = sorted(events.hosts.items(), key=lambda item: (-item[1].samples, item[0]))
        rows = [
            (name, f"{host.shards:,}", f"{host.samples:,}", size(host.bytes), duration(host.last - host.first),
             f"{host.samples / host.seconds:.2f}" if host.seconds else "", f"{host.deaths:,}", f"{host.failures:,}")
            for name, host in hosts
        ]  # fmt: skip
        head = ["machine", "shards", "samples", "size", "first to last event", "samples/s of a worker", "workers died",
                "shards failed"]  # fmt: skip
        parts.append(table(head, rows, range(1, 8)))
    if events.causes:
        causes = [
            (cause, f"{count:,}")
            for cause, count in sorted(events.causes.items(), key=lambda item: (-item[1], item[0]))
        ]
        parts.append(table(["workers died of", "times"], causes[:20], (1,)))
    if events.passed_over:
        parts.append(warning(f"{many(events.passed_over, 'line')} of the log could not be read."))
    facts = flat(found.record.get("made_with"))
    main = [
        f"{name} {dict(facts)[name]}" for name in ("bokehsynth", "device", "cpu", "architecture") if name in dict(facts)
    ]
    opened = element(
        "details", element("summary", "Versions and machine"), table(["", "as recorded in dataset.json"], facts)
    )
    return [*parts, note(joined(main, " · ")), opened]
