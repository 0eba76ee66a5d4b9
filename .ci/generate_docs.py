"""Help and configuration as text for docs/ and config.example.toml.

`python .ci/generate_docs.py` writes them; with --check nothing is written, and the exit code is 1
where a file is not what the code says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from fruits_cli.app import COMMANDS, app
from fruits_cli.config import SECTIONS

# Tables whose keys no command of this version reads.
NOT_USED_YET: tuple[str, ...] = ()
_ROOT = Path(__file__).parent.parent
_HEAD = """\
# fruits.toml: every key with its default. A line without its "# " is in force.
# Flags win over FRUITS_<TABLE>_<KEY> variables, those over ./fruits.toml, and that over the one
# in $XDG_CONFIG_HOME/fruits/. Unknown keys are errors.
"""


def example_config() -> str:
    """The text of config.example.toml."""
    return "\n".join([_HEAD, *(_table(name) for name in SECTIONS)])


def _table(name: str) -> str:
    note = "  # not used yet" if name in NOT_USED_YET else ""
    lines = [f"[{name}]{note}"]
    for key, field in SECTIONS[name].model_fields.items():
        lines.append(f"# {field.description}{_limits(field)}")
        lines.append(f"# {key} = {_toml(field)}")
    return "\n".join(lines) + "\n"


def _toml(field: FieldInfo) -> str:
    default: Any = field.default
    if default is None:
        return json.dumps((field.examples or [""])[0])
    return json.dumps(list(default) if isinstance(default, tuple) else default)


def _limits(field: FieldInfo) -> str:
    bounds = {type(rule).__name__: rule for rule in field.metadata}
    low = getattr(bounds.get("Ge"), "ge", None)
    high = getattr(bounds.get("Le"), "le", None)
    return f" ({low} to {high})" if low is not None and high is not None else ""


def config_table() -> str:
    """All keys as a Markdown table."""
    rows = ["| key | default | what it is |", "| --- | --- | --- |"]
    for section, model in SECTIONS.items():
        for key, field in model.model_fields.items():
            default = "" if field.default is None else f"`{_toml(field)}`"
            kinds = _choices(field)
            rows.append(
                f"| `{section}.{key}` | {default} | {field.description}{_limits(field)}{kinds} |"
            )
    return "\n".join(rows)


def _choices(field: FieldInfo) -> str:
    kinds = [field.annotation, *get_args(field.annotation)]
    values = [value for kind in kinds for value in getattr(kind, "__members__", {}).values()]
    return f": {', '.join(values)}" if values else ""


def help_text() -> str:
    """`fruits --help`, then the help of each command, as a terminal shows it."""
    from typer.testing import CliRunner

    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})
    pages = []
    for words in ([], *([name] for name in COMMANDS)):
        shown = runner.invoke(app, [*words, "--help"], prog_name="fruits").stdout.strip()
        pages.append(f"```\n$ fruits {' '.join([*words, '--help'])}\n{shown}\n```")
    return "\n\n".join(pages)


def with_block(text: str, name: str, content: str) -> str:
    """A page with its generated block made anew."""
    before, _, rest = text.partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    block = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
    return f"{before}{block}{after}" if end else text


def main(argv: list[str]) -> int:
    """Write the pages, or with --check compare them."""
    pages = {
        _ROOT / "config.example.toml": lambda _: example_config(),
        _ROOT / "docs" / "commands.md": lambda text: with_block(text, "help", help_text()),
        _ROOT / "docs" / "configuration.md": lambda text: with_block(
            text, "config", config_table()
        ),
    }
    stale = []
    for file, made in pages.items():
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if (after := made(before)) != before:
            stale.append(file.name)
            if "--check" not in argv:
                file.write_text(after, encoding="utf-8")
    if "--check" in argv and stale:
        sys.stderr.write(f"Not current: {', '.join(stale)}. Run python .ci/generate_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
