"""Captions as a text encoder sees them: a tokenizer of their words, and tokens roughened like people's prompts."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def build_tokenizer(captions: Sequence[str], *, length: int) -> Any:
    """Return a CLIP tokenizer whose byte-pair vocabulary holds every word of ``captions`` as one token.

    Other words fall apart into shorter pieces, in the end single bytes, so that any prompt can be read.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    words = sorted({word for text in captions for word in text.lower().replace(",", " ").split()})
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=50_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    )
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


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
    strange = [token for token in tokenizer.get_vocab() if token not in known and not token.startswith("<|")]

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
