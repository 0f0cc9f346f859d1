"""Captions as a text encoder sees them: a tokenizer of their words, and tokens roughened like people's prompts."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WORD = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")
"""A run of letters, a digit, or a run of other signs: what CLIP's tokenizer takes a word to be."""


def build_tokenizer(captions: Sequence[str], *, length: int) -> Any:
    """Return a CLIP tokenizer whose byte-pair vocabulary holds every word of ``captions`` as one token.

    Other words fall apart into shorter pieces, in the end single bytes, so that any prompt can be read. The same
    captions give the same vocabulary in every process, or a run that goes on would read other words than it learnt:
    the trainer of the library breaks ties at random, so that pieces are merged here, the first two of a word first.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ranks: dict[tuple[str, str], int] = {}
    for word in sorted({word for text in captions for word in WORD.findall(text.lower())}):
        letters = as_bytes.pre_tokenize_str(word)[0][0]
        while len(pieces := _pieces(letters, ranks)) > 1:
            ranks[pieces[0], pieces[1]] = len(ranks)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in ranks)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    merges: Any = list(ranks)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def _pieces(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The pieces of a word after all merges, the first-ranked pair that is there merged everywhere, then the next."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while known := ranks.keys() & set(pairwise(pieces)):
        pair, merged = min(known, key=ranks.__getitem__), []
        for piece in pieces:
            if merged and (merged[-1], piece) == pair:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged
    return pieces


def vocabulary_of(tokenizer: Any) -> str:
    """Return a hash of a tokenizer's vocabulary: what the embeddings of a text encoder stand for."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()[:32]


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Return token ids (n, L), padded and truncated to the tokenizer's length as Stable Diffusion does it."""
    ids = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(torch.int32)


def training_tokens(tokenizer: Any, versions: Sequence[Sequence[str]], *, seed: int = 0) -> Tensor:
    """Return the captions of ``versions`` (V lists of n) as tokens (V, n, L), roughened like the prompts people type.

    In a third of the captions commas become "and" or vanish; in a third, up to three pieces of words that no caption
    uses are put in, so that the text encoder learns to pass over words it does not know.
    """
    draw = random.Random(seed)
    known = {token for text in versions[0] for token in tokenizer.tokenize(text)}
    strange = [token for token in sorted(tokenizer.get_vocab()) if token not in known and not token.startswith("<|")]

    def roughen(text: str) -> str:
        if draw.random() < 1 / 3:
            text = text.replace(",", draw.choice([" and", ""]))
        if draw.random() < 1 / 3:
            words = text.split()
            for _ in range(draw.randint(1, 3)):
                words.insert(draw.randint(0, len(words)), draw.choice(strange).removesuffix("</w>"))
            text = " ".join(words)
        return text

    return torch.stack([tokenize(tokenizer, [roughen(text) for text in captions]) for captions in versions])


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer as every version of transformers reads it: tokenizer.json, and vocab.json with merges.txt."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
