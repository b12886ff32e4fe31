"""cli: the commands. This part only knows their names, so that `relay --help` imports none of them."""

import sys
from importlib import import_module
from typing import Any

import click

from relay import __version__
from relay.cli.output import NobodyReads, guarded
from relay.errors import SetupFault

_COMMANDS = {
    "serve": ("relay.cli.serve:serve", "Run the relay."),
    "check": ("relay.cli.check:check", "Tell everything that is wrong with a configuration."),
    "key": ("relay.cli.key:key", "Make, list, show and revoke the keys that callers use."),
    "log": ("relay.cli.log:log", "List the requests that were made, newest first."),
    "show": ("relay.cli.show:show", "Show one request, or print a program that makes it again."),
    "why": ("relay.cli.why:why", "Tell all that was decided about one request, and how each try went."),
    "route": ("relay.cli.route:route", "Tell where requests for a model would go now, and why, without a call."),
    "tail": ("relay.cli.tail:tail", "Print requests as they finish."),
}
_INTERRUPTED = 130


class Commands(click.Group):
    """A group that loads a command when it is called for, and ends every failure in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order in which a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name; None when there is none."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list in `relay --help`, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end the process: 0, 1 when something was not found or is wrong, 2 when a command cannot run."""
        extra |= {"standalone_mode": False, "prog_name": "relay"}
        try:
            with guarded():
                code = super().main(*args, **extra)
            sys.exit(code)
        except SetupFault as fault:
            _end(str(fault), 2)
        except NobodyReads:
            sys.exit(0)
        except click.ClickException as fault:
            _end(fault.format_message(), fault.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(_INTERRUPTED)


def _end(message: str, code: int) -> None:
    click.echo(f"relay: {message}", err=True)
    sys.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def relay() -> None:
    """An OpenAI-compatible relay: every request logged, models under your own names, one place for the real keys."""


def main() -> None:
    """The console script."""
    relay()
