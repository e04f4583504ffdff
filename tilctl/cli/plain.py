"""Texts of others on a person's terminal: whatever they hold, they move no cursor and fake no line."""

from __future__ import annotations


def one_line(text: object) -> str:
    """Return a text as one printable line; a line break becomes a space, other unprintable characters are spelt."""
    return "".join(c if c.isprintable() else _spelt(c) for c in str(text))


def lines(text: object) -> str:
    """Return a text in which only line breaks are left of what is unprintable."""
    return "\n".join(one_line(line) for line in str(text).split("\n"))


def _spelt(character: str) -> str:
    return " " if character in "\n\r\t" else character.encode("unicode_escape", "replace").decode()
