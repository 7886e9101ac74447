#!/usr/bin/env python3
"""Measures sentence embedders: ours and onnxruntime's, by turns on the same texts. Called by `run`, which makes both.

    compare.py EMBED_BENCH FOLDER MODEL_DIR ROUNDS [--json]

Within a round wall time is the median of all tries and CPU time their mean. A figure is the median of the rounds, a ratio the median of the ratios within a round: onnxruntime's CPU time by ours, and its wall time
by ours. With something else on the machine trust the CPU time of one thread most; a thread that waits for another spins.
"""

import json
import statistics
import subprocess
import sys

CASES = ("short", "128 tokens", "256 tokens", "mixed")
#: Operations of a token in the matrices of all-MiniLM-L6-v2, and those of attention by the square of the tokens of a text.
MATRICES = 6 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
ATTENTION = 6 * 4 * 384
WEIGHTS_MB = {"float32": 42.5, "int8": 10.6}


def run(command: list[str]) -> dict | list:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def cosine(a: list[float], b: list[float]) -> float:
    dot = lambda x, y: sum(p * q for p, q in zip(x, y))
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def main() -> None:
    bench, folder, model, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    python, texts = f"{folder}/venv/bin/python", f"{folder}/texts.json"
    theirs = lambda kind, *more: run([python, "tests/bench/embed/peer.py", f"{folder}/{kind}.onnx", model, texts, *more])
    ours = lambda kind, *more: run([bench, model, texts, *more, *(["--int8"] if kind == "int8" else [])])
    whole = theirs("float32", "--threads", "1", "--vectors")
    for kind in ("float32", "int8"):
        pair = theirs(kind, "--threads", "1", "--vectors"), ours(kind, "--threads", "1", "--vectors")
        lowest = [min(cosine(a, b) for a, b in zip(whole, vectors)) for vectors in pair]
        print(f"{kind}: lowest cosine to onnxruntime's float32: {lowest[0]:.6f} theirs, {lowest[1]:.6f} ours", file=sys.stderr)
    peak, rows = run([bench, "--peak"]), []
    for kind in ("float32", "int8"):
        for threads in (1, 2):
            pairs = [(theirs(kind, "--threads", str(threads)), ours(kind, "--threads", str(threads))) for _ in range(rounds)]
            peak = max(peak, run([bench, "--peak"]), key=lambda peak: peak["gflops"])
            for case in CASES:
                row = {"precision": kind, "threads": threads, "texts": case}
                for figure in ("cpu_ms", "wall_ms"):
                    values = [[side["cases"][case][figure] for side in pair] for pair in pairs]
                    medians = [statistics.median(value[side] for value in values) for side in (0, 1)]
                    row[figure] = [*medians, statistics.median(value[0] / value[1] for value in values)]
                rows.append(row)
            loads = {figure: [statistics.median(pair[side][figure] for pair in pairs) for side in (0, 1)] for figure in ("load_s", "memory_mb")}
            rows.append({"precision": kind, "threads": threads, **loads, "batch": pairs[0][0]["batch"]})
    if "--json" in sys.argv:
        print(json.dumps({"peak": peak, "rows": rows}))
    else:
        table(peak, rows)


def table(peak: dict, rows: list[dict]) -> None:
    print(f"one core at most: {peak['gflops']:.0f} GFLOP/s, {peak['read_gb_s']:.1f} GB/s read; a text of 256 tokens in float32")
    least = (256 * MATRICES + 256**2 * ATTENTION) / peak["gflops"] / 1e6
    print(f"takes at least {least:.1f} ms of it; reading the weights once takes " + ", ".join(f"{size / peak['read_gb_s']:.1f} ms ({kind})" for kind, size in WEIGHTS_MB.items()))
    print("\nonnxruntime / ours = ratio\n")
    print("| precision | threads | texts | CPU ms | wall ms |")
    print("|---|---|---|---|---|")
    for row in (row for row in rows if "texts" in row):
        told = lambda key: "{:.2f} / {:.2f} = {:.2f}".format(*row[key])
        print(f"| {row['precision']} | {row['threads']} | {row['texts']} | {told('cpu_ms')} | {told('wall_ms')} |")
    print("\n| precision | threads | load s | memory MB |")
    print("|---|---|---|---|")
    for row in (row for row in rows if "load_s" in row):
        told = lambda key, digits: "{:.{d}f} / {:.{d}f}".format(*row[key], d=digits)
        print(f"| {row['precision']} | {row['threads']} | {told('load_s', 2)} | {told('memory_mb', 0)} |")


if __name__ == "__main__":
    main()
