#!/usr/bin/env python3
"""Makes tiny chat models with random weights as GGUF files, and what transformers computes with the same weights:
token ids, a rendered chat, logits and a greedy continuation. For the tests of src/generate/.

    python tiny_gguf.py OUT_DIR

Needs torch, transformers, tokenizers, gguf, numpy. From a seed; run again only to change the fixtures.
"""

import json
import os
import sys

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CORPUS = [
    "The bearing of the cooling water pump runs hot. Check the grease, then check the oil.",
    "The pressure of the hydraulic press drops during the stroke; replace the seal of the cylinder.",
    "What is the cause of the high temperature? The cooler is clogged with dust.",
    "Stop the machine before you open the valve. The valve of the pump was closed.",
    "Temperature 95.5, pressure 12.25, vibration 7.1 mm/s; user and assistant and system.",
    "You are a helpful assistant. Answer in one sentence. [INST] [/INST]",
] * 4

TEXTS = [
    "The bearing of the pump runs hot.",
    "What is the cause?\n\nCheck  the oil: 12.25 bar!",
    "Überdruck 80°C läuft — 中文 🔧",
    " leading and trailing ",
    "a",
    "don't I'LL 1234 x\ty\r\n  z",
]

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the cause?"},
    {"role": "assistant", "content": "The cooler is clogged."},
    {"role": "user", "content": "Check the oil."},
]

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def byte_level(pattern: str, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, special_tokens=[], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def sentencepiece_like() -> Tokenizer:
    """A vocabulary as SentencePiece makes it (byte tokens, scores falling with rank) with its HF form as reference."""
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=140, show_progress=False)
    raw.train_from_iterator(CORPUS, trainer)
    trained = json.loads(raw.to_str())["model"]
    pieces = [piece for piece, _ in sorted(trained["vocab"].items(), key=lambda item: item[1])]
    # No piece may run over a space, as SentencePiece would have it.
    pieces = [piece for piece in pieces if "▁" not in piece[1:]]
    kept = set(pieces)
    merges = [merge for merge in trained["merges"] if "".join(merge) in kept and all(part in kept for part in merge)]
    merged = ["".join(merge) for merge in merges]
    single = [piece for piece in pieces if len(piece) == 1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + list(dict.fromkeys(merged)) + single
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(merge) for merge in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = raw.normalizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ["<unk>", "<s>", "</s>"]])
    return tokenizer


def randomise(model: torch.nn.Module, kind: gguf.GGMLQuantizationType) -> dict[str, np.ndarray]:
    """Random weights that survive the quantisation exactly, so that reference and file hold the same numbers."""
    generator = torch.Generator().manual_seed(20261121)
    kept = {}
    for name, parameter in model.named_parameters():
        if "norm" in name:
            value = 1 + 0.2 * torch.randn(parameter.shape, generator=generator)
        else:
            value = 0.2 * torch.randn(parameter.shape, generator=generator)
        value = value.numpy().astype(np.float32)
        if value.ndim == 2:
            value = dequantize(quantize(value, kind), kind).astype(np.float32)
        parameter.data = torch.from_numpy(value.copy())
        kept[name] = value
    return kept


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    name = name.removeprefix("model.")
    fixed = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, rest = name.split(".", 2)
    part, suffix = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def permuted(value: np.ndarray, heads: int) -> np.ndarray:
    """Llama files pair neighbouring dimensions for the rotation, transformers pairs halves."""
    return value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, template: str, pre: str | None, eos: str, bos: str | None) -> None:
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.get)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if pre is None:
        types = [6 if t.startswith("<0x") else 2 if t == "<unk>" else 3 if t in special else 1 for t in tokens]
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0 if kind != 1 else -float(i) for i, kind in enumerate(types)])
        writer.add_token_types(types)
        writer.add_unk_token_id(vocab["<unk>"])
        writer.add_add_bos_token(True)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in special else 1 for token in tokens])
        writer.add_token_merges([" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]])
        writer.add_add_bos_token(bos is not None)
    if bos is not None:
        writer.add_bos_token_id(vocab[bos])
    writer.add_eos_token_id(vocab[eos])
    writer.add_chat_template(template)


def write(path, architecture, model, weights, kind, tokenizer, template, pre, eos, bos, factors=None):
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(os.path.basename(path).removesuffix(".gguf"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if architecture == "llama":
        writer.add_rope_dimension_count(head)
    else:
        writer.add_key_length(head)
        writer.add_value_length(head)
    add_vocabulary(writer, tokenizer, template, pre, eos, bos)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    for name, value in weights.items():
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            value = permuted(value, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if value.ndim == 2:
            writer.add_tensor(gguf_name(name), quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def reference(model, tokenizer, template, bos, eos) -> dict:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos)
    fast.chat_template = template
    rendered = fast.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    ids = tokenizer.encode("The bearing of the pump runs hot. What is the cause?", add_special_tokens=False).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
        greedy = list(ids)
        for _ in range(24):
            greedy.append(int(model(torch.tensor([greedy])).logits[0, -1].argmax()))
    return {
        "texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS],
        "messages": MESSAGES,
        "rendered": rendered,
        "rendered_ids": tokenizer.encode(rendered, add_special_tokens=False).ids,
        "prompt_ids": ids,
        "logits": [round(float(v), 5) for v in logits],
        "greedy": greedy[len(ids) :],
    }


def llama3_factors(config) -> np.ndarray:
    """As convert_hf_to_gguf.py of llama.cpp computes rope_freqs.weight."""
    scaling = config.rope_parameters
    head = config.hidden_size // config.num_attention_heads
    frequencies = 1.0 / (scaling["rope_theta"] ** (np.arange(0, head, 2) / head))
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    factors = []
    for wavelength in 2 * np.pi / frequencies:
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / wavelength - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors)


def main() -> None:
    out = sys.argv[1]
    torch.manual_seed(1)
    common = dict(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, rms_norm_eps=1e-5,
    )
    q8, f16 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F16
    rope = lambda theta, **more: {"rope_type": "default", "rope_theta": theta, **more}
    llama3_rope = dict(
        rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32,
    )
    spm = sentencepiece_like()
    chatml = byte_level(QWEN2_PATTERN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    headers = byte_level(LLAMA3_PATTERN, ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    llama2 = ("llama", LlamaForCausalLM, LlamaConfig, dict(rope_parameters=rope(10000.0)))
    llama3 = ("llama", LlamaForCausalLM, LlamaConfig, dict(rope_parameters=llama3_rope))
    qwen2 = ("qwen2", Qwen2ForCausalLM, Qwen2Config, dict(rope_parameters=rope(1000000.0)))
    qwen3 = ("qwen3", Qwen3ForCausalLM, Qwen3Config, dict(rope_parameters=rope(1000000.0), head_dim=32, tie_word_embeddings=True))
    chatml_form = (chatml, CHATML, "qwen2", "<|im_end|>", None)
    cases = [
        ("tiny-llama2", *llama2, f16, spm, LLAMA2, None, "</s>", "<s>"),
        ("tiny-llama3", *llama3, f16, headers, LLAMA3, "llama-bpe", "<|eot_id|>", "<|begin_of_text|>"),
        ("tiny-qwen2", *qwen2, f16, *chatml_form),
        ("tiny-qwen3", *qwen3, f16, *chatml_form),
        ("tiny-qwen3-q8", *qwen3, q8, *chatml_form),
    ]
    for name, architecture, model_type, config_type, more, kind, tokenizer, template, pre, eos, bos in cases:
        config = config_type(vocab_size=tokenizer.get_vocab_size(with_added_tokens=True), **common, **more)
        model = model_type(config).eval()
        weights = randomise(model, kind)
        factors = llama3_factors(config) if more["rope_parameters"]["rope_type"] == "llama3" else None
        path = f"{out}/{name}.gguf"
        write(path, architecture, model, weights, kind, tokenizer, template, pre, eos, bos, factors)
        with open(f"{out}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(reference(model, tokenizer, template, bos, eos), file, ensure_ascii=False)
        print(name, os.path.getsize(path))


if __name__ == "__main__":
    main()
