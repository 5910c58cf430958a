"""Docstrings of Torch classes in the words of PyTorch, for the classes that are lifted from them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Collection

_WIDTH = 106  # of the lines of a docstring in a class
# What there is in Torch only: its methods, types of tensors, and the rules of its gradients
_TORCH_ONLY = re.compile(
    r"Torch7|\bLua\b|`scale`|accGradParameters|updateParameters|\w+\(\)|[A-Z]\w+Tensor\b|\bset[A-Z]\w+|"
    r"\bclone\b|Shapes as for|Files from"
)
_GOES_ON = re.compile(r"(It|Its|They|Their|These|For|Earlier)\b")  # speaks of the sentence before
_WORDS = {
    "{": "(", "}": ")", "table": "tuple", "module": "layer", "Module": "Layer",
    "gradInput": "the gradient of the input",
}  # fmt: skip
_SENTENCES = re.compile(r"(?<=\.)\s+(?=[A-Z`|({])")


def in_words_of_pytorch(docstring: str, fields: Collection[str]) -> str:
    """A docstring for a class that has these fields: what it says of others, and of Torch, is left out."""
    found = []
    is_meant = True
    for i, paragraph in enumerate(inspect.cleandoc(docstring).split("\n\n")):
        kept = []
        for j, sentence in enumerate(_SENTENCES.split(paragraph.replace("\n", " "))):
            goes_on = is_meant or not _GOES_ON.match(sentence)
            is_meant = i == j == 0 or (goes_on and _is_meant(sentence, fields))
            if is_meant:
                kept.append(_translated(sentence))
        found.append("  ".join(kept))
    found = list(filter(None, found))
    first, *others = found
    if len(first) + 6 > _WIDTH:  # a docstring begins with one line
        head, *rest = _SENTENCES.split(first, 1)
        first, others = head, [*rest, *others]
    return "\n\n".join(textwrap.fill(text, _WIDTH, break_on_hyphens=False) for text in (first, *others))


def _is_meant(sentence: str, fields: Collection[str]) -> bool:
    if _TORCH_ONLY.search(sentence):
        return False
    return all(name in fields for name in re.findall(r"`(\w+)`", sentence))


def _translated(text: str) -> str:
    for word, other in _WORDS.items():
        text = re.sub(rf"\b{word}" if word.isalpha() else re.escape(word), other, text)
    return text
