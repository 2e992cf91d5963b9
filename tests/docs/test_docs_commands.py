"""Every command that a page of the docs shows is understood: command, options and values, up to the files it names."""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import bokehsynth.cli
import magicbokeh.cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"bokehsynth": bokehsynth.cli.cli, "magicbokeh": magicbokeh.cli.cli}
SHELL_WORDS = {"do", "then", "if", "!", "srun"}


def commands_of(page: Path) -> list[str]:
    """What a page's shell blocks run of the two programs, word by word."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return [command for line in blocks.replace("\\\n", " ").splitlines() for command in commands_in(line)]


def commands_in(line: str) -> Iterator[str]:
    """The commands of a line; a quoted one is handed to another program."""
    if not any(f"{program} " in line for program in PROGRAMS):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, words = True, []
    for word in [*lexer, ";"]:
        if not set(word) <= set(";&|()<>"):
            words.append(re.sub(r"\$\{?(\w+)\}?", lambda name: "1" if name[1].isupper() else name[1], word))
            continue
        while words and (words[0] in SHELL_WORDS or words[0].startswith("--")):
            del words[0]
        if words and words[0] in PROGRAMS:
            yield shlex.join(words)
        for quoted in words[1:] if words and words[0] not in PROGRAMS else []:
            yield from commands_in(quoted)
        words = []


def mentions_of(page: Path) -> list[str]:
    """The commands that stand in the text of a page, which may be no more than the beginning of one."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`((?:bokehsynth|magicbokeh) [a-z][^`\n]* [^`\n]*)`", text)
    return [re.sub(r"\bN\b", "1", command) for span in spans for command in commands_in(span)]


LINES = [(page.name, line) for page in PAGES for line in commands_of(page)]
MENTIONS = [(page.name, line) for page in PAGES for line in mentions_of(page)]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_shown_is_understood(page: str, line: str) -> None:
    program, name, *arguments = shlex.split(line)
    assert name in PROGRAMS[program].commands, page
    with contextlib.suppress(click.exceptions.Exit):  # of --help
        PROGRAMS[program].commands[name].make_context(name, arguments)


@pytest.mark.parametrize(("page", "line"), MENTIONS)
def test_a_command_in_the_text_has_options_that_are_there(page: str, line: str) -> None:
    with contextlib.suppress(click.MissingParameter, click.BadOptionUsage):
        test_a_command_shown_is_understood(page, line)


def test_most_pages_show_commands() -> None:
    assert len(LINES) >= 50
    assert len(MENTIONS) >= 20
    assert {"README.md", "cluster.md", "recipes.md", "inference.md"} <= {page for page, _ in LINES}
    assert ("cluster.md", "bokehsynth verify s3://bucket/set") in LINES
