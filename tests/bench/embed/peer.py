#!/usr/bin/env python3
"""Measures a peer as a sentence embedder and prints one line of JSON, as the example `embed_bench` does for ours.

    peer.py GRAPH.onnx MODEL_DIR TEXTS.json --threads N [--vectors]     onnxruntime
    peer.py torch MODEL_DIR TEXTS.json --threads N [--vectors]          sentence-transformers, as it is: torch, in float32

From text to vector of length 1: tokens by the library that all use, batches of like length. Of the batch sizes below the one that is
fastest for the mixed texts is taken.
"""

import json
import os
import resource
import statistics
import sys
import time

import numpy as np

TOKENS_MAX = 256
BATCHES = (1, 4, 8, 16, 32)
#: Each case is repeated for so many seconds, at least five times.
SECONDS = 1.5


def memory_mb() -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


# Each peer has an environment of its own, so neither is imported before it is asked for.
class Onnx:
    def __init__(self, graph: str, folder: str, threads: int):
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.no_padding()

    def embed(self, texts: list[str], batch: int) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda at: len(encoded[at].ids))
        vectors = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(texts), batch):
            chosen = order[start : start + batch]
            width = len(encoded[chosen[-1]].ids)
            ids, mask = np.zeros((len(chosen), width), np.int32), np.zeros((len(chosen), width), np.int32)
            for row, at in enumerate(chosen):
                ids[row, : len(encoded[at].ids)] = encoded[at].ids
                mask[row, : len(encoded[at].ids)] = 1
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            vectors[chosen] = self.session.run(None, inputs)[0]
        return vectors


class Torch:
    def __init__(self, folder: str, threads: int):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(folder, device="cpu", local_files_only=True)
        self.model.max_seq_length = TOKENS_MAX

    def embed(self, texts: list[str], batch: int) -> np.ndarray:
        # It puts texts of like length together itself.
        return self.model.encode(texts, batch_size=batch, show_progress_bar=False, normalize_embeddings=True)


def measure(embedder: Onnx | Torch, texts: list[str], batch: int, seconds: float = SECONDS) -> dict[str, float]:
    embedder.embed(texts, batch)
    walls, cpu, end = [], time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end or len(walls) < 5:
        wall = time.perf_counter()
        embedder.embed(texts, batch)
        walls.append(time.perf_counter() - wall)
    cpu = (time.process_time() - cpu) / len(walls)
    return {"wall_ms": statistics.median(walls) * 1e3, "cpu_ms": cpu * 1e3, "best_ms": min(walls) * 1e3}


def main() -> None:
    what, folder, texts, _, threads = sys.argv[1:6]
    with open(texts) as file:
        cases: dict[str, list[str]] = json.load(file)
    before = memory_mb()
    start = time.perf_counter()
    embedder = Torch(folder, int(threads)) if what == "torch" else Onnx(what, folder, int(threads))
    embedder.embed(cases["short"], 1)
    load = time.perf_counter() - start
    if "--vectors" in sys.argv:
        print(json.dumps(embedder.embed(cases["mixed"], 8).tolist()))
        return
    batch = min(BATCHES, key=lambda size: measure(embedder, cases["mixed"], size, 0.1)["best_ms"])
    figures = {name: measure(embedder, texts, batch) for name, texts in cases.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"load_s": load, "memory_mb": peak - before, "batch": batch, "cases": figures}))


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    main()
