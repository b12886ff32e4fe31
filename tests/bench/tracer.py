"""tracer: the relay's command, with every bytecode and call of its first thread counted by file.

`python -m tests.bench.tracer serve ...` is `relay serve ...`. A line on its standard input is answered by a line with
the counts so far, as JSON: by file, bytecodes and calls (of C functions too). It starts to count with the first one.
"""

import json
import sys
import threading
from types import FrameType
from typing import Any

import relay.cli

MARK = "counted "  # what a line with counts begins with


class Tracer:
    """Counts while it is on; only the thread that installs it is counted."""

    def __init__(self) -> None:
        self._bytecodes: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._on = False

    def install(self) -> None:
        """Watch this thread."""
        sys.settrace(self._trace)
        sys.setprofile(self._profile)

    def answer(self) -> None:
        """Tell the counts whenever a line comes in, until the input ends."""
        for _ in sys.stdin:
            self._on = True
            # list() of a dict's items is one step of the interpreter, in which the other thread adds nothing
            bytecodes, calls = list(self._bytecodes.items()), dict(list(self._calls.items()))
            counts = {file: (count, calls.get(file, 0)) for file, count in bytecodes}
            sys.stdout.write(f"{MARK}{json.dumps(counts)}\n")
            sys.stdout.flush()

    def _trace(self, frame: FrameType, _event: str, _found: Any) -> Any:
        if not self._on:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._local

    def _local(self, frame: FrameType, event: str, _found: Any) -> Any:
        if event == "opcode":
            file = frame.f_code.co_filename
            self._bytecodes[file] = self._bytecodes.get(file, 0) + 1
        return self._local

    def _profile(self, frame: FrameType, event: str, _found: Any) -> None:
        if self._on and event in {"call", "c_call"}:
            file = frame.f_code.co_filename
            self._calls[file] = self._calls.get(file, 0) + 1


def main() -> None:
    """Count, and be the relay."""
    tracer = Tracer()
    threading.Thread(target=tracer.answer, daemon=True).start()
    tracer.install()
    relay.cli.main()


if __name__ == "__main__":
    main()
