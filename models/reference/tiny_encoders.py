#!/usr/bin/env python3
"""Makes tiny encoders with random weights, and what transformers and sentence-transformers compute with them, for src/encoder.

    python tiny_encoders.py OUT

Each is a folder as it comes from a hub, with `expected.json` beside the model's files.
"""

import json
import os
import sys

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer, models
from tokenizers import Tokenizer, decoders, models as kinds, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
)

TEXTS = [
    "the bearing of the pump runs hot",
    "replace the filter",
    "a",
    "",
    "oil and water, oil and water; " * 6,
    "the seal of the press leaks oil: replace the seal kit, then fill the tank and vent the pump until no air comes",
    "Überdruck 80 °C — 中文",
]
QUESTION = "which seal fits the press"
SHAPE = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96)


def word_pieces(path: str) -> BertTokenizerFast:
    words = sorted({word.strip(",;:") for text in [*TEXTS, QUESTION] for word in text.lower().split()})
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,;:"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words[:40], *letters, *("##" + c for c in letters)]
    os.makedirs(path, exist_ok=True)
    with open(f"{path}/vocab.txt", "w", encoding="utf-8") as file:
        file.write("\n".join(dict.fromkeys(vocabulary)))
    return BertTokenizerFast(f"{path}/vocab.txt", model_max_length=48)


def byte_pairs(path: str) -> RobertaTokenizerFast:
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(sep=("</s>", 2), cls=("<s>", 0))
    os.makedirs(path, exist_ok=True)
    return RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=48)


def save(path: str, model: torch.nn.Module, tokenizer, dtype: torch.dtype) -> None:
    """Random weights that make texts differ, rounded to the type that the file has."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            noise = torch.randn(weights.shape, generator=generator)
            is_norm = "LayerNorm.weight" in name
            weights.copy_((1 + 0.2 * noise if is_norm else 0.25 * noise).to(dtype).float())
    model.save_pretrained(path, safe_serialization=True)
    file = f"{path}/model.safetensors"
    rounded = {name: weights.to(dtype) if weights.is_floating_point() else weights for name, weights in load_file(file).items()}
    save_file(rounded, file, metadata={"format": "pt"})
    tokenizer.save_pretrained(path)
    keep = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in set(os.listdir(path)) - keep:
        os.remove(f"{path}/{name}")


def expect(path: str, expected: dict) -> None:
    os.remove(f"{path}/tokenizer_config.json")
    numbers = json.loads(json.dumps(expected), parse_float=lambda text: round(float(text), 6))
    with open(f"{path}/expected.json", "w", encoding="utf-8") as file:
        json.dump(numbers, file, ensure_ascii=False, separators=(",", ":"))


def embedder(path: str, pooling: str, dtype: torch.dtype) -> None:
    tokenizer = word_pieces(path)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=48, **SHAPE)
    save(path, BertModel(config, add_pooling_layer=False), tokenizer, dtype)
    transformer = models.Transformer(path, max_seq_length=32)
    transformer.auto_model.float()
    parts = [transformer, models.Pooling(SHAPE["hidden_size"], pooling_mode=pooling), models.Normalize()]
    vectors = SentenceTransformer(modules=parts, device="cpu").encode(TEXTS)
    os.makedirs(f"{path}/1_Pooling", exist_ok=True)
    with open(f"{path}/1_Pooling/config.json", "w") as file:
        modes = {"cls": "cls_token", "mean": "mean_tokens"}
        json.dump({f"pooling_mode_{name}": mode == pooling for mode, name in modes.items()}, file)
    with open(f"{path}/modules.json", "w") as file:
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        json.dump([{"path": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in kinds], file)
    with open(f"{path}/sentence_bert_config.json", "w") as file:
        json.dump({"max_seq_length": 32, "do_lower_case": False}, file)
    expect(path, {"texts": TEXTS, "vectors": vectors.tolist()})


def cross_encoder(path: str) -> None:
    tokenizer = word_pieces(path)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=48, num_labels=1, **SHAPE)
    save(path, BertForSequenceClassification(config), tokenizer, torch.float32)
    scores = CrossEncoder(path, device="cpu").predict([(QUESTION, text) for text in TEXTS])
    expect(path, {"question": QUESTION, "texts": TEXTS, "scores": scores.tolist()})


def classifier(path: str) -> None:
    tokenizer = byte_pairs(path)
    labels = {0: "calm", 1: "noisy", 2: "leaking"}
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=50, type_vocab_size=1, pad_token_id=1, id2label=labels, **SHAPE
    )
    model = RobertaForSequenceClassification(config)
    save(path, model, tokenizer, torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(path)
    shares = []
    for text in TEXTS:
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=48)
        with torch.no_grad():
            shares.append(torch.softmax(model.eval()(**tokens).logits[0], 0).tolist())
    expect(path, {"texts": TEXTS, "labels": list(labels.values()), "shares": shares})


out = sys.argv[1]
embedder(f"{out}/mean", "mean", torch.float16)
embedder(f"{out}/first", "cls", torch.float16)
cross_encoder(f"{out}/cross")
classifier(f"{out}/roberta")
