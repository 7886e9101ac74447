#!/usr/bin/env python3
"""Makes src/embed/table.bin: a table of token vectors distilled from all-MiniLM-L6-v2.

Each WordPiece token is embedded by MiniLM on its own ([CLS] token [SEP], mean pooling), the vectors are centred and
reduced by PCA, weighted by a smoothed inverse frequency from the token's rank (the vocabulary is ordered by frequency,
Zipf's law gives the probability), and quantised to int8 with one scale a row. The method is that of model2vec
(https://github.com/MinishLab/model2vec); this is an independent implementation.

    python distill.py MINILM_DIR OUT [--dimensions 160]

Needs torch, transformers, numpy. Deterministic up to floating point. Format: see src/embed/table.rs.
"""

import argparse
import hashlib
import struct
import unicodedata

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def kept(token: str) -> bool:
    """Latin and Greek words, digits and signs; MiniLM was trained on English, other scripts only cost bytes."""
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return False
    body = token.removeprefix("##")
    for char in body:
        if char.isalpha():
            name = unicodedata.name(char, "")
            if not name.startswith(("LATIN", "GREEK", "MICRO")):
                return False
    return True


def token_vectors(folder: str, ids: list[int]) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    out = []
    with torch.no_grad():
        for start in range(0, len(ids), 1024):
            batch = torch.tensor([[tokenizer.cls_token_id, i, tokenizer.sep_token_id] for i in ids[start : start + 1024]])
            hidden = model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
            out.append(hidden.mean(1).numpy())
    return np.concatenate(out)


def reduce(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, np.argsort(-values)[:dimensions]]
    return centred @ axes


def sif(count: int, coefficient: float) -> np.ndarray:
    """Smooth inverse frequency (Arora et al. 2017) with Zipf probabilities of the ranks."""
    inverse_rank = 1.0 / np.arange(2, count + 2)
    probability = inverse_rank / inverse_rank.sum()
    return coefficient / (coefficient + probability)


def write(path: str, tokens: list[str], rows: np.ndarray) -> None:
    order = sorted(range(len(tokens)), key=lambda i: tokens[i].encode())
    rows = rows[order]
    names = [tokens[i].encode() for i in order]
    scales = np.abs(rows).max(1) / 127.0
    scales[scales == 0] = 1.0
    quantised = np.rint(rows / scales[:, None]).astype(np.int8)
    offsets = np.cumsum([0] + [len(name) for name in names]).astype("<u4")
    content = offsets.tobytes() + scales.astype("<f4").tobytes() + b"".join(names) + quantised.tobytes()
    with open(path, "wb") as file:
        file.write(struct.pack("<8sIII", b"SKTABLE1", len(names), rows.shape[1], int(offsets[-1])))
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("minilm")
    arguments.add_argument("out")
    arguments.add_argument("--dimensions", type=int, default=160)
    arguments.add_argument("--sif", type=float, default=1e-4)
    options = arguments.parse_args()

    with open(f"{options.minilm}/vocab.txt", encoding="utf-8") as file:
        vocabulary = [line.rstrip("\n") for line in file]
    ids = [i for i, token in enumerate(vocabulary) if kept(token)]
    tokens = [vocabulary[i] for i in ids]
    rows = reduce(token_vectors(options.minilm, ids), options.dimensions) * sif(len(ids), options.sif)[:, None]
    write(options.out, tokens, rows)
    print(f"{len(tokens)} tokens, {options.dimensions} dimensions")


if __name__ == "__main__":
    main()
