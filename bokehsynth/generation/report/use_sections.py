"""The sections about what to do with a set: read it, and make it again."""

import shlex

from bokehsynth.generation.report.findings import Findings
from bokehsynth.generation.report.markup import Markup, element, joined, table, warning


def reading_section(found: Findings) -> list[Markup]:
    """Code that reads the set, and a table of its members."""
    split, names = next(iter(found.splits)), list(found.record["fields"])[:20]
    shown = ", ".join(f"sample.{name}" for name in names if name.isidentifier())
    members = [str(item.get("member", name)) for name, item in list(found.record["fields"].items())[:20]]
    ours = (
        f'import bokehsynth as bs\n\nfor sample in bs.open_dataset("path/to/set", split="{split}"):\n    {shown}\n'
        '    sample.meta["focus"], sample.meta["blur"]'
    )
    theirs = (
        "from datasets import load_dataset\n\n"
        f'data = load_dataset("path/to/set", split="{"validation" if split == "val" else "train"}")\n'
        f"row = data[0]  # {', '.join(members)}, json"
    )
    columns = [
        (element("code", item.get("member", name)), item.get("about", ""), element("code", item.get("decode", "")))
        for name, item in list(found.record["fields"].items())[:20]
    ]
    return [
        element("p", "With bokehsynth, which needs no more than NumPy and OpenCV for it:"),
        element("pre", code_lines(ours)),
        element("p", "With Hugging Face datasets:"), element("pre", code_lines(theirs)),
        element("p", "Maps are 16-bit PNG: never bring one to 8 bits (Pillow's ", element("code", 'convert("L")'),
                " and webdataset's ", element("code", 'decode("pil")'), " clip it)."),
        table(["member", "content", "decoded"], columns),
    ]  # fmt: skip


def again_section(found: Findings) -> list[Markup]:
    """Commands that make the same bytes, the recipe, and the digests."""
    text, fault = found.recipe
    line = ["bokehsynth", "generate", "recipe.yaml", "--out", "again"]
    parts = []
    if found.quarantine.has_draws:
        line += ["--quarantine", "quarantine.jsonl"]
    if found.steps:
        line += [word for split, count in found.steps[0].items() for word in ("--set", f"samples.{split}={count}")]
    lines = [shlex.join(line)]
    lines += [f"bokehsynth extend again --samples {sum(step.values())}" for step in found.steps[1:]]
    if found.steps:
        lines.append(f"bokehsynth extend again --samples {found.samples}")
    made = found.record.get("made_with")
    version = made.get("bokehsynth", "?") if isinstance(made, dict) else "?"
    parts += [
        element("p", f"In the folder of the set. With bokehsynth {str(version)[:30]}, the versions above and the same "
                "kind of machine, every byte comes out the same:"),
        element("pre", code_lines("\n".join(lines))),
        element("p", "One sample alone, compared pixel by pixel; and every byte against its hashes:"),
        element("pre", code_lines(f"bokehsynth replay . {found.cards[0].view.key}\nbokehsynth verify .")),
    ]  # fmt: skip
    if fault:
        parts.append(warning(f"recipe.yaml: {fault}"))
    if text:
        opened = element("details", element("summary", "recipe.yaml"), element("pre", code_lines(text)))
        parts.append(opened)
    identity = [(name, element("code", str(value))) for name, value in sorted(found.record["identity"].items())[:20]]
    parts.append(table(["made from", "sha256"], identity))
    return parts


def code_lines(text: str) -> Markup:
    """Lines of code, each escaped by itself: their ends stay."""
    return element("code", joined(text.split("\n"), "\n"))
