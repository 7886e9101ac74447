#!/usr/bin/env python3
"""Makes tiny chat models with random weights of further families as GGUF files, and what llama.cpp computes with the same file: logits
and a greedy continuation. For the tests of src/generate/. by_transformers.py adds what transformers computes with them.

    LLAMA_CPP_LIB_PATH=.../build/bin python tiny_families.py OUT_DIR

Needs llama_cpp (of llama-cpp-python, with a built llama.cpp), gguf, numpy. Run tiny_gguf.py first: the vocabulary is that of its
tiny-qwen3. From a seed; run again only to change the fixtures. Nothing is rounded there: weights, keys
and values are floats.
"""

import json
import sys

import gguf
import llama_cpp as llama
import numpy as np
from vocabulary import vocabulary

STEPS, PROMPT = 24, 40
COMMON = dict(hidden=32, inner=48, heads=2, groups=1, head=16)


def write(path: str, source: str, architecture: str, layers: int) -> None:
    rng = np.random.default_rng(20261121)
    writer = gguf.GGUFWriter(path, architecture)
    hidden, inner, heads, groups, head = COMMON.values()
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6 if architecture == "gemma3" else 10000.0)
    if architecture == "gemma3":
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_sliding_window(20)
    else:
        writer.add_rope_dimension_count(head)
        writer.add_rope_scaling_orig_ctx_len(256)
        writer.add_rope_scaling_attn_factors(1.19)
    tokens = vocabulary(writer, source)

    random = lambda *shape: (0.2 * rng.standard_normal(shape)).astype(np.float32)
    norm = lambda length: (1 + 0.2 * rng.standard_normal(length)).astype(np.float32)
    add = writer.add_tensor
    add("token_embd.weight", random(tokens, hidden))
    add("output_norm.weight", norm(hidden))
    if architecture == "phi3":
        add("output.weight", random(tokens, hidden))
        factors = np.linspace(1, 1.4, head // 2).astype(np.float32)
        add("rope_factors_short.weight", factors)
        add("rope_factors_long.weight", 4 * factors)
    for at in range(layers):
        part = lambda name: f"blk.{at}.{name}.weight"
        add(part("attn_norm"), norm(hidden))
        add(part("ffn_norm"), norm(hidden))
        if architecture == "phi3":
            add(part("attn_qkv"), random((heads + 2 * groups) * head, hidden))
            add(part("ffn_up"), random(2 * inner, hidden))
        else:
            for name, count in (("attn_q", heads), ("attn_k", groups), ("attn_v", groups)):
                add(part(name), random(count * head, hidden))
            for name in ("attn_q_norm", "attn_k_norm"):
                add(part(name), norm(head))
            for name in ("post_attention_norm", "post_ffw_norm"):
                add(part(name), norm(hidden))
            add(part("ffn_gate"), random(inner, hidden))
            add(part("ffn_up"), random(inner, hidden))
        add(part("attn_output"), random(hidden, heads * head))
        add(part("ffn_down"), random(hidden, inner))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reference(path: str) -> dict:
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_threads = 256, 1
    # Nothing rounded: floats for keys and values, which its fused attention does not take.
    parameters.flash_attn_type, parameters.type_k, parameters.type_v = 0, 0, 0
    context = llama.llama_init_from_model(model, parameters)
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def logits(tokens: list[int]) -> np.ndarray:
        array = (llama.llama_token * len(tokens))(*tokens)
        assert llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) == 0
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), shape=(size,)).copy()

    prompt = [(37 * at + 11) % 256 for at in range(PROMPT)]
    first = last = logits(prompt)
    greedy = []
    for _ in range(STEPS):
        greedy.append(int(last.argmax()))
        last = logits(greedy[-1:])
    return {"prompt_ids": prompt, "logits": [round(float(v), 5) for v in first], "greedy": greedy}


def main(out: str) -> None:
    llama.llama_backend_init()
    for architecture, layers in (("gemma3", 7), ("phi3", 2)):
        path = f"{out}/tiny-{architecture}.gguf"
        write(path, f"{out}/tiny-qwen3.gguf", architecture, layers)
        with open(f"{out}/tiny-{architecture}.json", "w", encoding="utf-8") as file:
            json.dump(reference(path), file)


if __name__ == "__main__":
    main(sys.argv[1])
