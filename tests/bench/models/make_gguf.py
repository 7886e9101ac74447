#!/usr/bin/env python3
"""Writes a GGUF file with a real model's shapes and random weights, as llama.cpp's quantisation would lay it out.

    make_gguf.py SHAPE KIND VOCABULARIES OUT.gguf        KIND: q4_k_m or q8_0; VOCABULARIES: the folder models of llama.cpp

Blocks are filled with random bits under scales that give weights of about 0.02: speed does not depend on the values, what such a
model writes is noise. Needs numpy and gguf.
"""

import sys

import gguf
import numpy as np

SHAPES = {
    "smollm2-135m": dict(a="llama", d=576, layers=30, heads=9, kv=3, hd=64, ff=1536, v=49152, base=1e5, eps=1e-5),
    "qwen3-0.6b": dict(a="qwen3", d=1024, layers=28, heads=16, kv=8, hd=128, ff=3072, v=151936, base=1e6, eps=1e-6),
    # Six of its layers attend, the others convolve.
    "lfm2-350m": dict(a="lfm2", d=1024, layers=16, heads=16, kv=8, hd=64, ff=4608, v=65536, base=1e6, eps=1e-5, attend=(2, 5, 8, 10, 12, 14)),
    "qwen2.5-1.5b": dict(a="qwen2", d=1536, layers=28, heads=12, kv=2, hd=128, ff=8960, v=151936, base=1e6, eps=1e-6),
}
Q = gguf.GGMLQuantizationType
STD = 0.02


def half(value: float, count: int) -> np.ndarray:
    return np.full((count, 1), value, np.float16).view(np.uint8).reshape(count, 2)


def blocks(kind: Q, count: int, rng: np.random.Generator) -> np.ndarray:
    bits = lambda width: rng.integers(0, 256, (count, width), np.uint8)
    if kind == Q.Q8_0:
        return np.concatenate([half(STD / 73, count), rng.integers(1, 256, (count, 32), np.uint8)], axis=1)
    if kind == Q.Q5_0:
        return np.concatenate([half(STD / 9.2, count), bits(20)], axis=1)
    if kind == Q.Q6_K:
        scales = rng.integers(20, 50, (count, 16), np.uint8)
        return np.concatenate([bits(192), scales, half(STD / 18.5 / 35, count)], axis=1)
    # Q4_K: eight scales and minima of six bits each, here the same number.
    six = rng.integers(20, 50, (count, 8), np.uint8)
    low, high = six[:, :4], six[:, 4:]
    packed = [low | (high >> 4) << 6, low | (high >> 4) << 6, (high & 15) | (high & 15) << 4]
    d = STD / 4.6 / 35
    return np.concatenate([half(d, count), half(7.5 * d, count), *packed, bits(128)], axis=1)


def kind_of(name: str, layer: int, shape: dict, columns: int, recipe: str) -> Q:
    """The recipe of Q4_K_M: more bits for the output and for half of the values and of the way down."""
    if recipe == "q8_0":
        return Q.Q8_0
    layers = shape["layers"]
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    six = name == "token_embd" or (name in ("attn_v", "ffn_down") and more)
    if columns % 256 == 0:
        return Q.Q6_K if six else Q.Q4_K
    return Q.Q8_0 if six else Q.Q5_0


def vocabulary(writer: gguf.GGUFWriter, shape: dict, folder: str) -> None:
    """A real vocabulary, as llama.cpp's source carries some without weights: what a text or a schema costs depends on it. GPT-2's, cut
    to SmolLM's size, stands for SmolLM's, Qwen2's for LFM2's."""
    pre = "gpt-2" if shape["a"] == "llama" else "qwen2"
    fields = gguf.GGUFReader(f"{folder}/ggml-vocab-{pre}.gguf").fields
    read = lambda name: fields[f"tokenizer.ggml.{name}"].contents()
    ends, size = ["<|bos|>", "<|eos|>"], shape["v"] - 2
    # Merges are in the order of the tokens that they make, the first of which come behind the 256 bytes.
    tokens, merges = read("tokens")[:size] + ends, read("merges")[: size - 256]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(read("token_type")[:size] + [3, 3])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(size)
    writer.add_eos_token_id(size + 1)


def main(name: str, recipe: str, folder: str, out: str) -> None:
    shape, rng = SHAPES[name], np.random.default_rng(1)
    writer = gguf.GGUFWriter(out, shape["a"], use_temp_file=False)
    writer.add_name(f"{name}-{recipe}-random")
    writer.add_context_length(4096)
    writer.add_embedding_length(shape["d"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ff"])
    writer.add_head_count(shape["heads"])
    attends = [at in shape.get("attend", range(shape["layers"])) for at in range(shape["layers"])]
    writer.add_head_count_kv([shape["kv"] * here for here in attends] if shape["a"] == "lfm2" else shape["kv"])
    writer.add_rope_freq_base(shape["base"])
    writer.add_layer_norm_rms_eps(shape["eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if recipe == "q8_0" else gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_vocab_size(shape["v"])
    if shape["a"] == "llama":
        writer.add_rope_dimension_count(shape["hd"])
    elif shape["a"] == "lfm2":
        writer.add_shortconv_l_cache(3)
    else:
        writer.add_key_length(shape["hd"])
        writer.add_value_length(shape["hd"])
    vocabulary(writer, shape, folder)

    def matrix(full: str, rows: int, columns: int, layer: int = -1) -> None:
        kind = kind_of(full.rsplit(".", 1)[-1], layer, shape, columns, recipe)
        size, width = gguf.GGML_QUANT_SIZES[kind]
        data = blocks(kind, rows * (columns // size), rng).reshape(rows, columns // size * width)
        writer.add_tensor(f"{full}.weight", data, raw_dtype=kind)

    ones = lambda full, length: writer.add_tensor(full, np.ones(length, np.float32))
    d, hd, ff = shape["d"], shape["hd"], shape["ff"]
    matrix("token_embd", shape["v"], d)
    ones("token_embd_norm.weight" if shape["a"] == "lfm2" else "output_norm.weight", d)
    for at in range(shape["layers"]):
        block = f"blk.{at}."
        ones(f"{block}attn_norm.weight", d)
        ones(f"{block}ffn_norm.weight", d)
        if attends[at]:
            for part, heads in (("q", shape["heads"]), ("k", shape["kv"]), ("v", shape["kv"])):
                matrix(f"{block}attn_{part}", heads * hd, d, at)
                if shape["a"] == "qwen2":
                    writer.add_tensor(f"{block}attn_{part}.bias", np.zeros(heads * hd, np.float32))
                if shape["a"] in ("qwen3", "lfm2") and part != "v":
                    ones(f"{block}attn_{part}_norm.weight", hd)
            matrix(f"{block}attn_output", d, shape["heads"] * hd, at)
        else:
            matrix(f"{block}shortconv.in_proj", 3 * d, d, at)
            matrix(f"{block}shortconv.out_proj", d, d, at)
            writer.add_tensor(f"{block}shortconv.conv.weight", rng.normal(0, 0.5, (d, 3)).astype(np.float32))
        matrix(f"{block}ffn_gate", ff, d, at)
        matrix(f"{block}ffn_up", ff, d, at)
        matrix(f"{block}ffn_down", d, ff, at)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:5])
