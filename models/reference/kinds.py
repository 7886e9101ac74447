#!/usr/bin/env python3
"""Random blocks of every kind of GGUF tensor and the numbers they stand for, by gguf-py: for the tests of src/gguf/.

    python kinds.py > kinds.json

Needs gguf and numpy. From a seed; run again only to change the fixture.
"""

import json

import gguf
import numpy as np
from gguf.quants import dequantize

Q = gguf.GGMLQuantizationType
# Where a block's half-precision numbers stand; the rest may be any bits.
HALVES = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
    Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}  # fmt: skip


def main() -> None:
    rng = np.random.default_rng(20261121)
    found = []
    for kind, halves in HALVES.items():
        size, width = gguf.GGML_QUANT_SIZES[kind]
        for _ in range(2):
            block = rng.integers(0, 256, width, np.uint8)
            for at in halves:
                block[at : at + 2] = np.array([rng.normal()], np.float16).view(np.uint8)
            numbers = dequantize(block.reshape(1, -1), kind).flatten()
            assert len(numbers) == size
            found.append({"kind": int(kind), "block": bytes(block).hex(), "numbers": [float(f"{n:.6g}") for n in numbers]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
