#!/usr/bin/env python3
"""Makes tiny chat models of LFM2 and of Phi-4-mini's form with random weights as GGUF files, with tokenizers of their own, and what transformers
computes: token ids, a rendered chat, logits and a greedy continuation. For the tests of src/generate/.

    python tiny_more.py OUT_DIR

Needs what tiny_gguf.py and by_transformers.py need. From a seed; run again only to change the fixtures.
"""

import json
import math
import os
import sys

import gguf
import numpy as np
from by_transformers import continued, load
from gguf.quants import quantize
from tiny_gguf import LLAMA3_PATTERN, TEXTS, add_vocabulary, byte_level, reference
from tokenizers import AddedToken, Tokenizer

LFM2 = (
    "{{- bos_token -}}{%- set ns = namespace(system='') -%}"
    "{%- if messages[0]['role'] == 'system' -%}{%- set ns.system = messages[0]['content'] -%}{%- set messages = messages[1:] -%}{%- endif -%}"
    "{%- if ns.system -%}{{- '<|im_start|>system\\n' + ns.system + '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
PHI4 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
# How o200k's vocabulary splits, which Phi-4-mini has.
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + SHORT + "|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + SHORT + "|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS.append("PumpOil's THEVALVE'll useTheValve, x/y///\n\n don'T e\u0301 a\u0301b 12345")
# A word of the texts to which no merge leads.
WHOLE = "Ãľberdruck"


def whole_words(pattern: str, special: list[str]) -> Tokenizer:
    """A vocabulary in which a word that is a token stays whole, whatever merges lead to it."""
    written = json.loads(byte_level(pattern, []).to_str())
    written["model"]["vocab"][WHOLE] = len(written["model"]["vocab"])
    written["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


class Writer(gguf.GGUFWriter):
    """Random numbers as matrices of one kind and as float vectors."""

    def __init__(self, path: str, architecture: str, kind, context: int, hidden: int, inner: int, layers: int, heads: int):
        super().__init__(path, architecture)
        self.kind = kind
        self.random = np.random.default_rng(20261122)
        self.add_context_length(context)
        self.add_embedding_length(hidden)
        self.add_feed_forward_length(inner)
        self.add_block_count(layers)
        self.add_head_count(heads)
        self.add_layer_norm_rms_eps(1e-5)

    def matrix(self, name: str, rows: int, columns: int) -> None:
        self.add_tensor(f"{name}.weight", quantize(self.numbers(rows, columns), self.kind), raw_dtype=self.kind)

    def norm(self, name: str, length: int) -> None:
        self.add_tensor(f"{name}.weight", 1 + self.numbers(length))

    def numbers(self, *shape: int) -> np.ndarray:
        return (0.2 * self.random.standard_normal(shape)).astype(np.float32)

    def finish(self) -> None:
        self.write_header_to_file()
        self.write_kv_data_to_file()
        self.write_tensors_to_file()
        self.close()


def lfm2(path: str, kind, tokenizer: Tokenizer, form: tuple) -> None:
    hidden, inner, heads, head, groups = 32, 64, 2, 16, [0, 0, 1, 0, 1]
    writer = Writer(path, "lfm2", kind, 256, hidden, inner, len(groups), heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_freq_base(1e6)
    writer.add_shortconv_l_cache(3)
    add_vocabulary(writer, tokenizer, *form)
    writer.matrix("token_embd", tokenizer.get_vocab_size(), hidden)
    writer.norm("token_embd_norm", hidden)
    for at, count in enumerate(groups):
        part = f"blk.{at}".__add__
        writer.norm(part(".attn_norm"), hidden)
        writer.norm(part(".ffn_norm"), hidden)
        if count:
            for name, rows in ((".attn_q", heads), (".attn_k", count), (".attn_v", count)):
                writer.matrix(part(name), rows * head, hidden)
            writer.matrix(part(".attn_output"), hidden, heads * head)
            writer.norm(part(".attn_q_norm"), head)
            writer.norm(part(".attn_k_norm"), head)
        else:
            writer.matrix(part(".shortconv.in_proj"), 3 * hidden, hidden)
            writer.matrix(part(".shortconv.out_proj"), hidden, hidden)
            # Larger than other weights, so that what lies before a token counts.
            writer.add_tensor(part(".shortconv.conv.weight"), 3 * writer.numbers(hidden, 3))
        writer.matrix(part(".ffn_gate"), inner, hidden)
        writer.matrix(part(".ffn_up"), inner, hidden)
        writer.matrix(part(".ffn_down"), hidden, inner)
    writer.finish()


def phi4(path: str, kind, tokenizer: Tokenizer, form: tuple) -> None:
    """Half of each head turns, by factors of its own up to the original context; the embedding is the output too."""
    hidden, inner, heads, groups, head, turning, original = 64, 48, 2, 1, 32, 16, 256
    writer = Writer(path, "phi3", kind, 4 * original, hidden, inner, 2, heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(turning)
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(4) / math.log(original)))
    writer.add_sliding_window(0)
    add_vocabulary(writer, tokenizer, *form)
    writer.matrix("token_embd", tokenizer.get_vocab_size(), hidden)
    writer.norm("output_norm", hidden)
    factors = np.linspace(1, 1.6, turning // 2).astype(np.float32)
    writer.add_tensor("rope_factors_short.weight", factors)
    writer.add_tensor("rope_factors_long.weight", 4 * factors)
    for at in range(2):
        part = f"blk.{at}".__add__
        writer.norm(part(".attn_norm"), hidden)
        writer.norm(part(".ffn_norm"), hidden)
        writer.matrix(part(".attn_qkv"), (heads + 2 * groups) * head, hidden)
        writer.matrix(part(".attn_output"), hidden, heads * head)
        writer.matrix(part(".ffn_up"), 2 * inner, hidden)
        writer.matrix(part(".ffn_down"), hidden, inner)
    writer.finish()


def main(out: str) -> None:
    chatml = whole_words(LLAMA3_PATTERN, ["<|pad|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>"])
    ends = byte_level(GPT4O_PATTERN, ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"])
    q8, f16 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F16
    cases = [
        ("tiny-lfm2", lfm2, f16, chatml, LFM2, "lfm2", "<|im_end|>", "<|startoftext|>"),
        ("tiny-lfm2-q8", lfm2, q8, chatml, LFM2, "lfm2", "<|im_end|>", "<|startoftext|>"),
        ("tiny-phi4", phi4, f16, ends, PHI4, "gpt-4o", "<|endoftext|>", None),
    ]
    for name, make, kind, tokenizer, template, pre, eos, bos in cases:
        path = f"{out}/{name}.gguf"
        make(path, kind, tokenizer, (template, pre, eos, bos))
        with open(f"{out}/{name}.json", "w", encoding="utf-8") as file:
            model = load(path)
            found = reference(model, tokenizer, template, bos, eos)
            found["margins"] = continued(model, found["prompt_ids"])["margins"]
            json.dump(found, file, ensure_ascii=False)
        print(name, os.path.getsize(path))


if __name__ == "__main__":
    main(sys.argv[1])
