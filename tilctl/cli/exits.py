"""Exit codes, the same for every command, and the error that carries one to the person."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process says when it ends."""

    OK = 0  # done
    NOT_WELL = 1  # the answer is no: a broken journal, a recipe with errors, a refused command, a batch not complete
    BAD_INPUT = 2  # wrong usage, or a file given is wrong: a site, a recipe, a profile
    UNAVAILABLE = 3  # something needed is not there: a port is taken, no broker, no controller, no write permission
    RECORD = 4  # the record cannot be opened or written; nothing was touched, or what was done is told
    STUCK = 9  # a rehearsal made no progress; what waits was printed
    INTERNAL = 70  # a fault of the program
    INTERRUPTED = 130  # by the person; what moves an instrument also by SIGTERM


class CommandFailed(Exception):
    """A command ends here: `text` goes to stderr, the process ends with `code`."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
