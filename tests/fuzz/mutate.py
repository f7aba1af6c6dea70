"""Change a file at random, in the ways that break readers: sizes, counts, nesting, truncation."""

from __future__ import annotations

import random
import re

_NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"2147483648", b"65536", b"'", b"[" * 60, b"{")
_WORDS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x00" * 8, b"\x7f" * 4, b"\n", b"\x1b[2J")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Apply one to four random changes to a file."""
    for _ in range(draw.randint(1, 4)):
        content = draw.choice(_CHANGES)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) or 1)
    return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]


def _word(content: bytes, draw: random.Random) -> bytes:
    place, word = draw.randrange(len(content) or 1), draw.choice(_WORDS)
    return content[:place] + word + content[place + len(word) * draw.randint(0, 1) :]


def _number(content: bytes, draw: random.Random) -> bytes:
    found = [match.span() for match in re.finditer(rb"[0-9]+", content[:20_000])]
    if not found:
        return content
    start, end = draw.choice(found)
    return content[:start] + draw.choice(_NUMBERS) + content[end:]


def _cut(content: bytes, draw: random.Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + content[end:]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] * draw.choice((1, 2, 50)) + content[end:]


def _truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _swap(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines)


_CHANGES = (_flip, _flip, _word, _word, _number, _number, _number, _cut, _repeat, _truncate, _swap)
