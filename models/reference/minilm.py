#!/usr/bin/env python3
"""Makes reference/minilm.json: texts with their vectors by sentence-transformers, for src/encoder.

    python minilm.py MINILM_DIR > minilm.json
"""

import json
import sys

from sentence_transformers import SentenceTransformer

TEXTS = [
    "The bearing of the cooling water pump runs hot.",
    "Replace the filter every 500 hours.",
    "a",
    "",
    "Überdruck: 80°C, p=2.5 bar (±5%) — Kühlmittelpumpe P-101/B läuft heiß!",
    "中文 and English, ½ ﬁn",
    "Long text: " + "the hydraulic press stops when the oil temperature rises above the limit, " * 40,
]

model = SentenceTransformer(sys.argv[1], device="cpu")
vectors = model.encode(TEXTS, normalize_embeddings=True)
rows = [{"text": text, "vector": [round(float(v), 6) for v in vector]} for text, vector in zip(TEXTS, vectors)]
json.dump(rows, sys.stdout, ensure_ascii=False, separators=(",", ":"))
