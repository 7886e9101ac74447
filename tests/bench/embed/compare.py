#!/usr/bin/env python3
"""Measures sentence embedders: ours, onnxruntime's and, in float32, sentence-transformers, by turns on the same texts. Called by `run`,
which makes them.

    compare.py EMBED_BENCH FOLDER MODEL_DIR ROUNDS [--json] [--torch]

Within a round wall time is the median of all tries and CPU time their mean. A figure is the median of the rounds, a ratio the median of the
ratios within a round: a peer's CPU time by ours, and its wall time by ours. With something else on the machine trust the CPU time of one
thread most; a thread that waits for another spins. In 8 bits sentence-transformers computes with onnxruntime too.
"""

import json
import statistics
import subprocess
import sys

CASES = ("short", "128 tokens", "256 tokens", "mixed")
PEERS = {"onnxruntime": ("float32", "int8"), "sentence-transformers": ("float32",)}
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
    texts = f"{folder}/texts.json"
    peers = [peer for peer in PEERS if peer == "onnxruntime" or "--torch" in sys.argv]

    def measured(who: str, kind: str, *more: str) -> dict | list:
        if who == "ours":
            return run([bench, model, texts, *more, *(["--int8"] if kind == "int8" else [])])
        if who == "onnxruntime":
            return run([f"{folder}/venv/bin/python", "tests/bench/embed/peer.py", f"{folder}/{kind}.onnx", model, texts, *more])
        return run([f"{folder}/torch/bin/python", "tests/bench/embed/peer.py", "torch", model, texts, *more])

    whole = measured("onnxruntime", "float32", "--threads", "1", "--vectors")
    for kind in ("float32", "int8"):
        for who in [*(peer for peer in peers if kind in PEERS[peer]), "ours"]:
            vectors = measured(who, kind, "--threads", "1", "--vectors")
            lowest = min(cosine(a, b) for a, b in zip(whole, vectors))
            print(f"{kind}: lowest cosine to onnxruntime's float32: {lowest:.6f} {who}", file=sys.stderr)
    peak, rows = run([bench, "--peak"]), []
    for kind in ("float32", "int8"):
        sides = ["ours", *(peer for peer in peers if kind in PEERS[peer])]
        for threads in (1, 2):
            turns = [{who: measured(who, kind, "--threads", str(threads)) for who in sides} for _ in range(rounds)]
            peak = max(peak, run([bench, "--peak"]), key=lambda peak: peak["gflops"])
            median = lambda who, figure: statistics.median(figure(turn[who]) for turn in turns)
            for case in CASES:
                row = {"precision": kind, "threads": threads, "texts": case}
                for key in ("cpu_ms", "wall_ms"):
                    of = lambda side: side["cases"][case][key]
                    ratio = lambda who: statistics.median(of(turn[who]) / of(turn["ours"]) for turn in turns)
                    row[key] = {who: [median(who, of), median("ours", of), ratio(who)] for who in sides[1:]}
                rows.append(row)
            loads = {key: {who: median(who, lambda side: side[key]) for who in sides} for key in ("load_s", "memory_mb")}
            batches = {who: turns[0][who]["batch"] for who in sides[1:]}
            rows.append({"precision": kind, "threads": threads, **loads, "batch": batches})
    if "--json" in sys.argv:
        print(json.dumps({"peak": peak, "rows": rows}))
    else:
        table(peak, rows, peers)


def table(peak: dict, rows: list[dict], peers: list[str]) -> None:
    print(f"one core at most: {peak['gflops']:.0f} GFLOP/s, {peak['read_gb_s']:.1f} GB/s read; a text of 256 tokens in float32")
    least = (256 * MATRICES + 256**2 * ATTENTION) / peak["gflops"] / 1e6
    print(f"takes at least {least:.1f} ms of it; reading the weights once takes " + ", ".join(f"{size / peak['read_gb_s']:.1f} ms ({kind})" for kind, size in WEIGHTS_MB.items()))
    print("\ntheirs / ours = ratio\n")
    print("| precision | threads | texts |" + "".join(f" {peer}: CPU ms | wall ms |" for peer in peers))
    print("|---|---|---|" + "---|---|" * len(peers))
    for row in (row for row in rows if "texts" in row):
        told = lambda peer, key: "{:.2f} / {:.2f} = {:.2f}".format(*row[key][peer]) if peer in row[key] else ""
        cells = [told(peer, key) for peer in peers for key in ("cpu_ms", "wall_ms")]
        print(f"| {row['precision']} | {row['threads']} | {row['texts']} | " + " | ".join(cells) + " |")
    print("\n| precision | threads | load s: " + ", ".join([*peers, "ours"]) + " | memory MB |")
    print("|---|---|---|---|")
    for row in (row for row in rows if "load_s" in row):
        told = lambda key, digits: " / ".join(f"{row[key][who]:.{digits}f}" for who in [*peers, "ours"] if who in row[key])
        print(f"| {row['precision']} | {row['threads']} | {told('load_s', 2)} | {told('memory_mb', 0)} |")


if __name__ == "__main__":
    main()
