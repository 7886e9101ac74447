#!/usr/bin/env python3
"""Makes ONNX files of a sentence embedder from its safetensors: fused as onnxruntime's own optimiser fuses an exported BERT, and the same
with weights and products in 8 bits by onnxruntime's dynamic quantisation.

    graph.py MODEL_DIR OUT_DIR
"""

import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

MICROSOFT = "com.microsoft"


def build(folder: str) -> onnx.ModelProto:
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    weights = {name.removeprefix("bert."): value for name, value in load_file(f"{folder}/model.safetensors").items()}
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes) -> str:
        outputs = [output, f"{output}_lengths"] if kind == "EmbedLayerNormalization" else [output]
        domain = {"domain": MICROSOFT} if kind not in ("MatMul", "Add", "Cast", "Unsqueeze", "Mul", "ReduceSum", "Div", "LpNormalization") else {}
        nodes.append(helper.make_node(kind, inputs, outputs, name=output, **domain, **attributes))
        return output

    def of(name: str) -> str:
        return constant(name, weights[name].astype(np.float32))

    def norm(name: str) -> list[str]:
        return [of(f"{name}.LayerNorm.weight"), of(f"{name}.LayerNorm.bias")]

    table = "embeddings.{}_embeddings.weight".format
    hidden = node(
        "EmbedLayerNormalization",
        ["input_ids", "token_type_ids", of(table("word")), of(table("position")), of(table("token_type")), *norm("embeddings"), "attention_mask"],
        "embedded",
        epsilon=config["layer_norm_eps"],
    )
    for at in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{at}"
        both = lambda part: np.concatenate([weights[f"{name}.attention.self.{kind}.{part}"].astype(np.float32) for kind in ("query", "key", "value")])
        inputs = [hidden, constant(f"{name}.qkv", both("weight").T), constant(f"{name}.qkv_bias", both("bias")), "embedded_lengths"]
        seen = node("Attention", inputs, f"{name}.seen", num_heads=config["num_attention_heads"])

        def dense(part: str, source: str) -> str:
            weight = constant(f"{name}.{part}.w", weights[f"{name}.{part}.weight"].astype(np.float32).T)
            return node("MatMul", [source, weight], f"{name}.{part}.product")

        def skip(part: str, product: str, beside: str) -> str:
            inputs = [product, beside, *norm(f"{name}.{part}"), of(f"{name}.{part}.dense.bias")]
            return node("SkipLayerNormalization", inputs, f"{name}.{part}.out", epsilon=config["layer_norm_eps"])

        hidden = skip("attention.output", dense("attention.output.dense", seen), hidden)
        up = node("BiasGelu", [dense("intermediate.dense", hidden), of(f"{name}.intermediate.dense.bias")], f"{name}.bent")
        hidden = skip("output", dense("output.dense", up), hidden)
    # The mean of the tokens that are no padding, at length 1.
    axis = constant("axis", np.array([1], np.int64))
    mask = node("Unsqueeze", [node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT), constant("last", np.array([2], np.int64))], "wide_mask")
    total = node("ReduceSum", [node("Mul", [hidden, mask], "masked"), axis], "total", keepdims=0)
    count = node("ReduceSum", [mask, axis], "count", keepdims=0)
    node("LpNormalization", [node("Div", [total, count], "pooled")], "vectors", axis=1, p=2)
    whole = lambda name: helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
    graph = helper.make_graph(
        nodes,
        "embedder",
        [whole("input_ids"), whole("token_type_ids"), whole("attention_mask")],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", config["hidden_size"]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)], ir_version=8)


def main() -> None:
    folder, out = sys.argv[1:]
    onnx.save(build(folder), f"{out}/float32.onnx")
    quantize_dynamic(f"{out}/float32.onnx", f"{out}/int8.onnx", weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": TensorProto.FLOAT})


if __name__ == "__main__":
    main()
