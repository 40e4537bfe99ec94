"""Where texts can be cut so that the parts, encoded apart, give the token ids of the whole.

Most tokenizers part a text by a pattern first and encode each part by itself. A *seam* is the place
between a letter and a blank that another letter follows, all three of them ASCII. Under the
patterns below, which are those of GPT-2, GPT-4, Llama 3, Qwen, Mistral, DeepSeek and their like, a
text is always parted there: no alternative matches a letter with a blank behind it, none looks
back, and the one that looks ahead does so behind blanks only. So what stands before a seam and what
stands behind it are encoded as if they were alone. Tokenizers without such a pattern have no seams.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_WORDS = (
    r" ?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?+\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
)
"""Alternatives that match every run of ASCII letters."""

_CASED_WORDS = tuple(
    tuple(
        rf"[^\r\n\p{{L}}\p{{N}}]?{letters}{contraction}"
        for contraction in ("", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?")
    )
    for letters in (
        r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    )
)
"""One of the first and one of the second do together."""

_OTHERS = (
    *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"),
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    "'(?i:[sdmt]|ll|ve|re)",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    *(r" ?\p{N}+", r"\p{N}", r"\p{N}{1,3}"),
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    *(r"\s*[\r\n]+", r"\s*[\r\n]", r"\s+(?!\S)", r"\s+"),
)
_ALTERNATIVES = frozenset({*_WORDS, *_CASED_WORDS[0], *_CASED_WORDS[1], *_OTHERS})

_SEAM = re.compile("(?<=[A-Za-z])(?= [A-Za-z])")
_BAR = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|(?P<bar>\|)|.", re.DOTALL)


def has_seams(tokenizer: Any) -> bool:
    """Whether a transformers tokenizer encodes what stands before and behind a seam apart."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    model: Any = getattr(backend, "model", None)
    # Dropout makes the ids of a text a matter of chance.
    if type(model).__name__ != "BPE" or model.dropout:
        return False
    if backend.truncation is not None or backend.padding is not None:
        return False
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        return False
    return (
        _keeps_seams(_state(backend.normalizer))
        and _parts_at_seams(_state(backend.pre_tokenizer))
        and all(_stays_clear(token) for token in backend.get_added_tokens_decoder().values())
    )


def parts(text: str) -> list[str]:
    """The text, cut at each of its seams."""
    return _SEAM.split(text)


def common_head(texts: Sequence[str]) -> str:
    """What all of the texts begin with, up to a seam of each of them; empty if there is none."""
    first = min(texts)
    shared = shared_prefix(first, max(texts))
    end = max(0, shared - 1)  # the letter behind the blank is shared as well
    while (end := first.rfind(" ", 0, end)) > 0:
        if _SEAM.match(first, end):
            return first[:end]
    return ""


def shared_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many first items two sequences of one type share."""
    known, most = 0, min(len(one), len(other))
    # Halves compared at once take a third of the time of item after item.
    while known < most:
        middle = (known + most + 1) // 2
        if one[known:middle] == other[known:middle]:
            known = middle
        else:
            most = middle - 1
    return known


def _state(part: Any) -> dict[str, Any]:
    """What a part of a tokenizer is made of, as in its tokenizer.json; empty without the part."""
    return dict(json.loads(part.__getstate__())) if part is not None else {}


def _keeps_seams(normalizer: dict[str, Any]) -> bool:
    """Whether a normalizer leaves ASCII, and all that stands before or behind it, to itself."""
    if normalizer.get("type") == "Sequence":
        return all(map(_keeps_seams, normalizer["normalizers"]))
    return normalizer.get("type") in (None, "NFC")


def _parts_at_seams(splitter: dict[str, Any]) -> bool:
    """Whether some part of a pre-tokenizer parts at every seam, and all do the same to both sides.

    A byte-level one without its pattern parts nothing; it puts bytes in the place of characters.
    """
    steps = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    parting = False
    for step in steps:
        kind = step.get("type")
        if kind == "ByteLevel" and not step["add_prefix_space"]:
            parting = parting or step["use_regex"]
        elif kind == "Split" and _is_known(step):
            parting = parting or _parts_words(step["pattern"]["Regex"])
        elif kind != "Digits":
            return False
    return parting


def _is_known(split: dict[str, Any]) -> bool:
    """Whether a pattern consists of known alternatives, and its matches and gaps stay as parts."""
    kept = ("Isolated", False), ("Removed", True)
    if (split["behavior"], split["invert"]) not in kept or "Regex" not in split["pattern"]:
        return False
    return _ALTERNATIVES.issuperset(_alternatives(split["pattern"]["Regex"]))


def _parts_words(pattern: str) -> bool:
    """Whether a pattern matches all words, so that each ends at the seam behind it."""
    found = set(_alternatives(pattern))
    return bool(found.intersection(_WORDS)) or all(map(found.intersection, _CASED_WORDS))


def _alternatives(pattern: str) -> list[str]:
    """The alternatives that a pattern consists of, those in brackets together."""
    found, depth = [""], 0
    for each in _BAR.finditer(pattern):
        depth += (each["open"] is not None) - (each["close"] is not None)
        if each["bar"] and depth == 0:
            found.append("")
        else:
            found[-1] += each[0]
    return found


def _stays_clear(added: Any) -> bool:
    """Whether a token that was added to the vocabulary can neither span a seam nor touch one."""
    text = added.content
    if not text.strip():
        return len(text) > 1  # a seam has one blank, between letters
    ends = text[0] + text[-1]
    if any(each.isspace() or (each.isascii() and each.isalpha()) for each in ends):
        return False
    return not _SEAM.search(text)
