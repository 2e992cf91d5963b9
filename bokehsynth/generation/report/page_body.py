"""The content of a report: its head, and the sections one below the other."""

from collections import Counter

from bokehsynth.generation.report.findings import Findings
from bokehsynth.generation.report.markup import Markup, element, joined
from bokehsynth.generation.report.origin_sections import assets_section, making_section, quarantine_section
from bokehsynth.generation.report.sample_sections import distributions_section, samples_section
from bokehsynth.generation.report.use_sections import again_section, reading_section
from bokehsynth.generation.report.wording import many, size


def body(found: Findings) -> Markup:
    """Everything between the head and the script."""
    sections = [
        ("samples", "Samples", samples_section(found)),
        ("distributions", "Distributions", distributions_section(found)),
        ("assets", "Assets and licences", assets_section(found)),
        ("quarantine", "Quarantine", quarantine_section(found)),
        ("making", "How it was made", making_section(found)),
        ("reading", "How to read it", reading_section(found)),
        ("again", "How to make it again", again_section(found)),
    ]
    links = [element("a", title, href=f"#{name}") for name, title, _ in sections]
    parts = [element("section", element("h2", title), *content, id=name) for name, title, content in sections]
    foot = element("footer", "Made by ", element("code", "bokehsynth report"), " from the files of the data set alone. "
                   "It loads nothing, from nowhere.")  # fmt: skip
    header = element("header", element("div", *_head(found), class_="wrap"))
    return joined([
        header, element("nav", element("div", *links, class_="wrap"), aria_label="Sections"),
        element("main", *parts, class_="wrap"), element("div", foot, class_="wrap"),
    ])  # fmt: skip


def _head(found: Findings) -> list[Markup]:
    identity = found.record["identity"]
    sizes = found.numbers.words.get("size", Counter())
    pixels = next(iter(sizes)) + " px" if len(sizes) == 1 else f"{len(sizes)} sizes"
    tiles = [("samples", f"{found.samples:,}")]
    tiles += [
        (split, f"{samples:,} in {many(shards, 'shard')}") for split, (samples, shards, _) in found.splits.items()
    ]
    tiles += [("size on disk", size(sum(bytes_ for _, _, bytes_ in found.splits.values()))), ("pictures", pixels)]
    tiles.append(("recipe", str(identity.get("recipe_digest", "not stated"))[:10]))
    fields = joined((element("code", name) for name in list(found.record["fields"])[:20]), ", ")
    return [
        element("h1", found.name),
        element("p", "A data set of bokehsynth. Each sample holds ", fields, " and a JSON record.", class_="lead"),
        element(
            "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in tiles), class_="tiles"
        ),
    ]
