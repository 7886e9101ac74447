#!/usr/bin/env python3
"""Makes tiny chat models whose rows are long enough for every kind of block, quantised by llama.cpp's llama-quantize, and what transformers
computes with the numbers that they stand for. For the tests of src/decoder/.

    LLAMA_QUANTIZE=.../llama-quantize python tiny_quants.py OUT_DIR

Needs what by_transformers.py needs, and tiny_gguf.py's tiny-qwen3 in OUT_DIR, whose vocabulary they have. From a seed; run again only to change
the fixtures.
"""

import json
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from by_transformers import continued, load
from vocabulary import vocabulary

KINDS = ("Q4_0", "Q4_K_S", "Q5_K_S", "Q6_K", "Q4_K_M")
HIDDEN, INNER, HEADS, GROUPS, HEAD, PROMPT = 256, 256, 4, 1, 64, 40


def write(path: str, source: str) -> None:
    rng = np.random.default_rng(20261122)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    tokens = vocabulary(writer, source)
    random = lambda *shape: (0.1 * rng.standard_normal(shape)).astype(np.float32)
    norm = lambda length: (1 + 0.2 * rng.standard_normal(length)).astype(np.float32)
    writer.add_tensor("token_embd.weight", random(tokens, HIDDEN))
    writer.add_tensor("output_norm.weight", norm(HIDDEN))
    for name, length in (("attn_norm", HIDDEN), ("ffn_norm", HIDDEN), ("attn_q_norm", HEAD), ("attn_k_norm", HEAD)):
        writer.add_tensor(f"blk.0.{name}.weight", norm(length))
    shapes = {
        "attn_q": (HEADS * HEAD, HIDDEN), "attn_k": (GROUPS * HEAD, HIDDEN), "attn_v": (GROUPS * HEAD, HIDDEN),
        "attn_output": (HIDDEN, HEADS * HEAD), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", random(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(out: str) -> None:
    prompt = [(37 * at + 11) % 256 for at in range(PROMPT)]
    with tempfile.TemporaryDirectory() as folder:
        whole = f"{folder}/whole.gguf"
        write(whole, f"{out}/tiny-qwen3.gguf")
        for kind in KINDS:
            name = f"{out}/tiny-{kind.lower().replace('_', '')}"
            # All tensors of one kind, but for the mixture.
            pure = [] if kind == "Q4_K_M" else ["--pure"]
            subprocess.run([os.environ["LLAMA_QUANTIZE"], *pure, whole, f"{name}.gguf", kind, "1"], check=True, capture_output=True)
            with open(f"{name}.json", "w", encoding="utf-8") as file:
                json.dump({"prompt_ids": prompt, **continued(load(f"{name}.gguf"), prompt)}, file)
            kinds = sorted({tensor.tensor_type.name for tensor in gguf.GGUFReader(f"{name}.gguf").tensors})
            print(name, os.path.getsize(f"{name}.gguf"), kinds)


if __name__ == "__main__":
    main(sys.argv[1])
