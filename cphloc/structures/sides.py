"""Recognize class names that are specific to a side of the body."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = """
left right lft rgt sinister dexter sinistra sinistrum sinistro dextra dextrum destra destro links rechts linke
linker linkes linken rechte rechter rechtes rechten gauche droite droit izquierda izquierdo derecha derecho
esquerda esquerdo direita direito stânga dreapta venstre højre høyre vänster höger vasen oikea lewa lewy lewe
prawa prawy prawe levá levý pravá pravý левая левый левое правая правый правое ліва права αριστερά αριστερός
δεξιά δεξιός kiri kanan
"""
"""Words for left and right: English, Latin, Italian, German, Dutch, French, Spanish, Portuguese, Romanian, Danish,
Norwegian, Swedish, Finnish, Polish, Czech, Russian, Ukrainian, Greek, Indonesian."""

_CHARACTERS = "左右왼오"
"""Characters for left and right in Chinese and Japanese, and first syllables of the Korean words."""

_SHORT = """
l/r lt/rt le/ri lh/rh lv/rv li/re s/d sx/dx sn/dx sin/dex sin/dx sin/dext os/od g/d i/d izq/der izda/dcha
esq/dir sol/sağ sol/sag bal/jobb hidari/migi zuo/you
"""
"""Abbreviations and short words that mean left and right only where both occur in otherwise equal names."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])")


def names_sides(names: Iterable[str]) -> bool:
    """Return True if a class name is specific to a body side, in common languages and abbreviations.

    Words such as ``left`` or ``rechts`` count on their own. Abbreviations such as ``L`` or ``sin`` count only if
    replacing them by their counterpart gives the name of another class.

    >>> names_sides(["kidney_left", "liver"]), names_sides(["Lung_L", "Lung_R"]), names_sides(["vertebra L", "rib"])
    (True, True, False)
    """
    words, tokens = set(_WORDS.split()), [_tokens(name) for name in names]
    if any(token in words or any(c in _CHARACTERS for c in token) for name in tokens for token in name):
        return True
    known = {"".join(name) for name in tokens} | set(tokens)
    return any(_mirrored(name, known) for name in tokens)


def _tokens(name: str) -> tuple[str, ...]:
    """Words of a name in lower case; names are divided at punctuation, digits and capital letters."""
    return tuple(token.lower() for part in _TOKEN.findall(name) for token in _CAMEL.split(part))


def _mirrored(name: tuple[str, ...], known: set[str | tuple[str, ...]]) -> bool:
    """Whether exchanging one abbreviation of the left side in ``name`` gives another known name."""
    for left, right in (pair.split("/") for pair in _SHORT.split()):
        for k, token in enumerate(name):
            if token == left and (*name[:k], right, *name[k + 1 :]) in known:
                return True
    whole = "".join(name)  # a letter written without separator, as in "KIDNEYL" or "lkidney"
    ends = [whole[:-1] + "r"] * whole.endswith("l") + ["r" + whole[1:]] * whole.startswith("l")
    return len(whole) > 2 and any(end in known for end in ends)
