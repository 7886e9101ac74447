#!/usr/bin/env python3
"""What transformers computes with the very numbers that stand in a GGUF file, unpacked by gguf-py: logits, and a greedy continuation with the
margin of each of its tokens over the next best. For files of Qwen3, Gemma 3, Phi-3 and LFM2.

    python by_transformers.py OUT_DIR

adds what it computes with OUT_DIR/tiny-gemma3.gguf and tiny-phi3.gguf to the references beside them, which tiny_families.py made. Needs torch,
transformers, gguf, numpy.
"""

import json
import sys

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

STEPS = 24

COMMON = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
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
OWN = {
    "qwen3": {},
    "gemma3": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    "phi3": {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
    "lfm2": {
        "model.embedding_norm": "token_embd_norm",
        "operator_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        "feed_forward.w1": "ffn_gate",
        "feed_forward.w2": "ffn_down",
        "feed_forward.w3": "ffn_up",
        "self_attn.out_proj": "attn_output",
        "self_attn.q_layernorm": "attn_q_norm",
        "self_attn.k_layernorm": "attn_k_norm",
        "conv.conv": "shortconv.conv",
        "conv.in_proj": "shortconv.in_proj",
        "conv.out_proj": "shortconv.out_proj",
    },
}


def gguf_name(architecture: str, name: str) -> str:
    """What a parameter of transformers is called in the file."""
    names = COMMON | OWN[architecture]
    name = name.removesuffix(".weight")
    if name in names:
        return f"{names[name]}.weight"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{names[part]}.weight"


class File:
    def __init__(self, path: str):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in reader.tensors}
        self.architecture = self.value("general.architecture")

    def value(self, key: str):
        return self.fields[key].contents()

    def own(self, key: str):
        return self.value(f"{self.architecture}.{key}")


def config_of(file: File):
    groups = file.own("attention.head_count_kv")
    heads, hidden, context = file.own("attention.head_count"), file.own("embedding_length"), file.own("context_length")
    head = file.own("attention.key_length") if file.architecture in ("qwen3", "gemma3") else hidden // heads
    theta = file.own("rope.freq_base")
    common = dict(
        vocab_size=len(file.value("tokenizer.ggml.tokens")),
        hidden_size=hidden,
        intermediate_size=file.own("feed_forward_length"),
        num_hidden_layers=file.own("block_count"),
        num_attention_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    default = {"rope_type": "default", "rope_theta": theta}
    epsilon = file.own("attention.layer_norm_rms_epsilon")
    if file.architecture == "lfm2":
        layers = ["full_attention" if count else "conv" for count in groups]
        return Lfm2ForCausalLM, Lfm2Config(
            **common, num_key_value_heads=max(groups), norm_eps=epsilon, layer_types=layers, rope_parameters=default,
            conv_L_cache=file.own("shortconv.l_cache"), block_auto_adjust_ff_dim=False,
        )  # fmt: skip
    common |= dict(num_key_value_heads=groups, rms_norm_eps=epsilon)
    if file.architecture == "qwen3":
        return Qwen3ForCausalLM, Qwen3Config(**common, head_dim=head, rope_parameters=default)
    if file.architecture == "gemma3":
        layers = ["full_attention" if at % 6 == 5 else "sliding_attention" for at in range(common["num_hidden_layers"])]
        local = {"rope_type": "default", "rope_theta": 10000.0}
        return Gemma3ForCausalLM, Gemma3TextConfig(
            **common, head_dim=head, query_pre_attn_scalar=head, sliding_window=file.own("attention.sliding_window"), layer_types=layers,
            rope_parameters={"full_attention": default, "sliding_attention": local},
        )  # fmt: skip
    turning = file.own("rope.dimension_count")
    factors = {name: [float(n) for n in file.tensors[f"rope_factors_{name}.weight"]] for name in ("short", "long")}
    rope = {
        "rope_type": "longrope", "rope_theta": theta, "short_factor": factors["short"], "long_factor": factors["long"],
        "attention_factor": file.own("rope.scaling.attn_factor"), "partial_rotary_factor": turning / head,
        "original_max_position_embeddings": file.own("rope.scaling.original_context_length"),
    }  # fmt: skip
    return Phi3ForCausalLM, Phi3Config(**common, rope_parameters=rope)


def load(path: str) -> torch.nn.Module:
    file = File(path)
    model_type, config = config_of(file)
    model = model_type(config).eval()
    for name, parameter in model.named_parameters():
        value = file.tensors[gguf_name(file.architecture, name)]
        if file.architecture == "gemma3" and "norm" in name:
            # transformers adds the one when it computes.
            value = value - 1
        assert parameter.numel() == value.size, name
        parameter.data = torch.from_numpy(value.reshape(parameter.shape).copy())
    return model


def continued(model: torch.nn.Module, prompt: list[int]) -> dict:
    """The logits after the prompt, and the likeliest tokens that follow, each with how far it lies above the next."""
    first, greedy, margins = None, [], []
    with torch.no_grad():
        for _ in range(STEPS):
            logits = model(torch.tensor([prompt + greedy])).logits[0, -1]
            first = logits if first is None else first
            best = logits.topk(2)
            greedy.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 5))
    return {"logits": [round(float(v), 5) for v in first], "greedy": greedy, "margins": margins}


def main(out: str) -> None:
    for name in ("tiny-gemma3", "tiny-phi3"):
        with open(f"{out}/{name}.json", encoding="utf-8") as file:
            found = json.load(file)
        found["transformers"] = continued(load(f"{out}/{name}.gguf"), found["prompt_ids"])
        with open(f"{out}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(found, file)
        difference = np.abs(np.array(found["logits"]) - np.array(found["transformers"]["logits"])).max()
        print(name, difference, found["greedy"] == found["transformers"]["greedy"])


if __name__ == "__main__":
    main(sys.argv[1])
