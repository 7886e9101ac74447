#!/usr/bin/env python3
"""Measures the index and its peers by turns. Called by `run`.

    compare.py INDEX_BENCH FOLDER [ROUNDS] [--json]

A figure is the median of the rounds. Queries a second are given at a recall, between the two breadths that it lies between.
"""

import json
import os
import statistics
import subprocess
import sys

BREADTHS = ["10", "12", "16", "20", "24", "32", "48", "64"]
NAMES = ["ours", "faiss", "hnswlib", "usearch"]
# One of so many passes, and how that is told.
FILTERS = {10: "10 %", 100: "1 %", 1000: "0.1 %"}
RAW = 384 * 4


def lines(command: list[str]) -> list[dict]:
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def at_recall(points: list[dict], recall: float) -> float:
    """Queries a second at a recall; 0 when it is not reached."""
    points = sorted(points, key=lambda point: point["recall"])
    better = next((at for at, point in enumerate(points) if point["recall"] >= recall), None)
    if better is None:
        return 0.0
    if points[better]["recall"] == points[-1]["recall"]:
        # Where breadth changes nothing, as in a scan, all of them measure the same thing; the first finds cold caches.
        return statistics.median(point["qps"] for point in points[better:])
    high, low = points[better], points[max(better - 1, 0)]
    span = high["recall"] - low["recall"]
    part = (recall - low["recall"]) / span if span > 0 and better > 0 else 1.0
    return low["qps"] + part * (high["qps"] - low["qps"])


def main() -> None:
    bench, folder, *rest = sys.argv[1:]
    rounds = next((int(word) for word in rest if word.isdigit()), 3)
    data = f"{folder}/data"
    peer = os.path.join(os.path.dirname(__file__), "peer.py")
    command = lambda name: [bench] if name == "ours" else [sys.executable, peer, name]
    figures = {name: {} for name in NAMES}

    def note(name: str, key: str, value: float) -> None:
        figures[name].setdefault(key, []).append(value)

    for name in NAMES:
        kept = f"{folder}/{name}.build.json"
        # Building takes a minute each. Ours may have changed, theirs have not.
        if name == "ours" or not (os.path.exists(kept) and os.path.exists(f"{folder}/{name}.index")):
            with open(kept, "w") as file:
                json.dump(lines([*command(name), "build", data, f"{folder}/{name}.index"]), file)
        with open(kept) as file:
            note(name, "build_s", json.load(file)[0]["build_s"])
    for _ in range(rounds):
        for name in NAMES:
            found = lines([*command(name), "search", data, f"{folder}/{name}.index", *BREADTHS])
            of = lambda mode: [line for line in found if line["mode"] == mode]
            for recall in (0.95, 0.99):
                note(name, f"at {recall}", at_recall(of("search"), recall))
            for mode in {line["mode"] for line in found if line["mode"].startswith("filter")}:
                note(name, mode, at_recall(of(mode), 0.95))
                note(name, f"{mode} recall", max(line["recall"] for line in of(mode)))
            for key in ("load_ms", "bytes_loaded", "bytes_searched"):
                note(name, key, of("load")[0][key])
        for name in ("ours", "faiss"):
            for line in lines([*command(name), "scan", data, f"{folder}/{name}.index"]):
                if line["mode"].startswith("scan"):
                    note(name, line["mode"], line["qps"])
                    assert line["recall"] > 0.999, "a scan is exact, but for equal scores"
    rows = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in figures.items()}
    if "--json" in rest:
        print(json.dumps(rows))
        return
    print("queries a second at recall@10; bytes resident by those of the raw vectors\n")
    print("| | 0.95 | 0.99 | build CPU s | loaded | searched | load ms |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        told = lambda key: f"{row[key]:,.0f}" if row.get(key) else ""
        part = lambda key: f"{row[key] / RAW:.2f}"
        cells = [name, told("at 0.95"), told("at 0.99"), f"{row['build_s']:.1f}"]
        cells += [part("bytes_loaded"), part("bytes_searched"), f"{row['load_ms']:.1f}"]
        print("| " + " | ".join(cells) + " |")
    filters(rows["ours"], rows["faiss"])


def filters(ours: dict, faiss: dict) -> None:
    """Searches with a filter, beside faiss with the filter in both of its forms."""
    print("\nqueries a second with a filter, at recall 0.95 where that is reached; in brackets the best recall\n")
    print("| pass | ours | ours, all compared | faiss HNSW, batch | bitmap | faiss, all compared, batch | bitmap |")
    print("|---|---|---|---|---|---|---|")
    for one_of, told in FILTERS.items():
        reached = lambda row, mode: f"{row[mode]:,.0f} ({row[f'{mode} recall']:.3f})" if row.get(mode) else f"- ({row[f'{mode} recall']:.3f})"
        cells = [told, reached(ours, f"filter {one_of}"), f"{ours[f'scan {one_of}']:,.0f}"]
        cells += [reached(faiss, f"filter {one_of} {form}") for form in ("batch", "bitmap")]
        cells += [f"{faiss[f'scan {one_of} {form}']:,.0f}" for form in ("batch", "bitmap")]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
