"""output: standard output, with faults of its own that no command can take for those of a file or a socket."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

import click


class OutputFault(click.ClickException):
    """Nothing more can be written to standard output."""


class NobodyReads(OutputFault):
    """It is a pipe, and whoever read it has seen enough, which is no failure."""

    exit_code = 0


@contextmanager
def guarded() -> Iterator[None]:
    """Have all that is written to standard output meanwhile raise OutputFault where that fails."""
    output = Output(sys.stdout)
    with redirect_stdout(cast("TextIO", output)):
        try:
            yield
        finally:
            output.let_go()


class Output:
    """Stands for the stream of standard output, which is None where that was closed."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        """As the stream does. Raises OutputFault."""
        with self._sound() as stream:
            return stream.write(text)

    def flush(self) -> None:
        """As the stream does. Raises OutputFault."""
        with self._sound() as stream:
            stream.flush()

    def __getattr__(self, name: str) -> Any:
        with self._sound() as stream:
            return getattr(stream, name)

    def let_go(self) -> None:
        """Where it failed, have what is still in the stream go nowhere, since it is written once more at the exit."""
        if self._failed and self._stream is not None:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    @contextmanager
    def _sound(self) -> Iterator[TextIO]:
        if self._stream is None:
            raise OutputFault("the output cannot be written: it is closed")
        try:
            yield self._stream
        except OSError as fault:
            self._failed = True
            kind = NobodyReads if isinstance(fault, BrokenPipeError) else OutputFault
            raise kind(f"the output cannot be written: {fault.strerror}") from fault
