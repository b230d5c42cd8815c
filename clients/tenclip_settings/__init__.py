"""Settings of a dataclass from the command line, the environment and a file, none of them named twice.

One field is all there is to a setting::

    port: Annotated[int, Setting("gRPC port; 0 takes a free one.", lowest=0, highest=65535)] = 7411

which makes `--port 7411` on the command line and, for commands that read them, `TENCLIP_PORT=7411` in the environment
and `port = 7411` in a file. Flags win over variables, and those over the file. `tenclip serve` and `tenclip train` take
their options so; see `fields.py` for what a field may be.

Commands whose options come from the command line only use `with_option_groups` instead: dataclasses whose fields are
annotated as typer's own options.
"""

from tenclip_settings.command_line import with_options_of
from tenclip_settings.fields import Field, Setting, TextForm, build, check, check_all, fields_of, numbers, replaced
from tenclip_settings.loading import Loaded, flag_values, load_settings, parse_assignments
from tenclip_settings.option_groups import with_option_groups
from tenclip_settings.text import describe, to_toml

__all__ = [
    "Setting",
    "TextForm",
    "numbers",
    "Field",
    "fields_of",
    "check",
    "check_all",
    "build",
    "replaced",
    "parse_assignments",
    "flag_values",
    "Loaded",
    "load_settings",
    "describe",
    "to_toml",
    "with_options_of",
    "with_option_groups",
]
