"""recipes, schema: what can be written down and what comes with the package."""

import json

import click

from bokehsynth.cli.facts import record


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the packaged recipes, or print the one called NAME to start one's own from.

    \b
    Example:
      bokehsynth recipes quickstart > my.yaml
      bokehsynth preview my.yaml
    """
    from bokehsynth.config.strict_yaml import load_yaml
    from bokehsynth.recipe import Recipe, find_recipe, packaged_recipes

    if name is not None:
        text = find_recipe(name).read_text(encoding="utf-8")
        record(name=name, text=text)
        click.echo(text, nl=False)
        return
    lines: dict[str, str] = {}
    for known, path in packaged_recipes().items():
        recipe = load_yaml(path, Recipe)  # as written: it need not have its photographs here
        first_line = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines[known] = first_line
        size = f"{recipe.width}x{recipe.height}" if recipe.frame else "own size"
        click.echo(f"{known:14} {recipe.samples.train:>6} + {recipe.samples.val:<5} {size:>10}   {first_line}")
    record(recipes=lines)


@click.command()
def schema() -> None:
    """Print the JSON schema of a recipe.

    Save it and begin a recipe with `# yaml-language-server: $schema=schema.json`: editors then complete and check.
    """
    from bokehsynth.generation.recipe_schema import recipe_schema

    found = recipe_schema()
    record(schema=found)
    click.echo(json.dumps(found, indent=2))
