#!/usr/bin/env python3
"""Measures chat models: ours and llama.cpp's, by turns on the same files. Called by `run`, which builds both.

    compare.py LLAMA_BENCH CHAT_BENCH ROUNDS [--json] [--threads N] [--rows FILE] [--avx2] MODEL.gguf...

With `--avx2` ours computes without AVX-512; that llama.cpp does is how it was built.

With `--rows` each row is kept in the file when it is measured, and one that is there is not measured again. `planned` is what a node
sets aside for ours before it is loaded: weights, work, keys and values. `roofline` is what the weights' bytes allow at the speed at
which all the row's threads read memory. Ours maps the packed weights that a load before has made: `first` is that one, `into memory` one
that makes no file. A figure is the median of the rounds, a ratio the median of the ratios within a round. `share`
is the CPU time that a run had of what it could have: below 0.9 something else was running, and absolute figures are worth nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT, BEFORE, DECODE = 512, 32, 128


def run(command: list[str]) -> tuple[str, float, float, float]:
    """Output, seconds, CPU seconds, and peak memory in MB of a process."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: ended with {status}")
    return output, time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def theirs(program: str, model: str, threads: int) -> dict[str, float]:
    def bench(*arguments: str) -> tuple[float, float, float, float]:
        output, wall, cpu, peak = run([program, "-m", model, "-t", str(threads), "-r", "1", "-o", "jsonl", *arguments])
        return json.loads(output.splitlines()[-1])["avg_ts"], wall, cpu, peak

    prompt, prompt_wall, prompt_cpu, prompt_peak = bench("-p", str(PROMPT), "-n", "0")
    decode, decode_wall, decode_cpu, decode_peak = bench("-p", "0", "-n", str(DECODE), "-d", str(BEFORE))
    # It does not say how long it loads; a run over one token does little else.
    _, load, _, _ = bench("-p", "1", "-n", "0", "--no-warmup")
    share = (prompt_cpu + decode_cpu) / (prompt_wall + decode_wall) / threads
    return {"prompt": prompt, "decode": decode, "load_s": load, "peak_mb": max(prompt_peak, decode_peak), "share": share}


def ours(program: str, model: str, threads: int, weights: str, more: list[str]) -> dict[str, float]:
    arguments = ["--threads", str(threads), "--prompt", str(PROMPT), "--before", str(BEFORE), "--decode", str(DECODE)]
    mapped = ["--weights", weights]
    output, wall, cpu, peak = run([program, model, *arguments, *mapped, *more])
    figures = json.loads(output)
    _, load, _, _ = run([program, model, *short(threads), *mapped, *more])
    _, into_memory, _, _ = run([program, model, *short(threads), *more])
    return {
        "prompt": figures["prompt_tokens_s"],
        "decode": figures["decode_tokens_s"],
        "load_s": load,
        "memory_load_s": into_memory,
        "peak_mb": peak,
        "planned_mb": figures["planned_mb"],
        "share": cpu / wall / threads,
    }


def short(threads: int) -> list[str]:
    """One token, as llama.cpp's."""
    return ["--threads", str(threads), "--prompt", "0", "--before", "0", "--decode", "0"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("llama")
    parser.add_argument("chat")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rows")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("models", nargs="+")
    asked = parser.parse_args()
    rows = []
    if asked.rows and os.path.exists(asked.rows):
        with open(asked.rows) as file:
            rows = [json.loads(line) for line in file]
    done = {(row["model"], row["threads"]) for row in rows}
    for model in asked.models:
        for threads in asked.threads or (1, 2):
            if (name(model), threads) in done:
                continue
            rows.append(measure(asked, model, threads))
            line = json.dumps(rows[-1])
            if asked.json:
                print(line, flush=True)
            if asked.rows:
                with open(asked.rows, "a") as file:
                    print(line, file=file)
    if not asked.json:
        table(rows)


def name(model: str) -> str:
    return os.path.basename(model).removesuffix(".gguf")


def measure(asked: argparse.Namespace, model: str, threads: int) -> dict:
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(model))) as weights:
        return measure_with(weights, asked, model, threads)


def measure_with(weights: str, asked: argparse.Namespace, model: str, threads: int) -> dict:
    more = ["--avx2"] if asked.avx2 else []
    # One that nothing is measured of: the file is in the system's cache then for both.
    run([asked.chat, model, *short(threads), *more])
    _, first, _, _ = run([asked.chat, model, *short(threads), "--weights", weights, *more])
    # What was written is on the disk before anything is measured.
    os.sync()
    pairs, read = [], 0.0
    for _ in range(asked.rounds):
        pairs.append((theirs(asked.llama, model, threads), ours(asked.chat, model, threads, weights, more)))
        # The best of all rounds: what else runs takes from it too.
        found = json.loads(run([asked.chat, "--read", "--threads", str(threads)])[0])
        read = max(read, found["read_gb_s"])
    median = lambda side, key: statistics.median(pair[side][key] for pair in pairs)
    ratio = lambda key: statistics.median(pair[1][key] / pair[0][key] for pair in pairs)
    size_mb = os.path.getsize(model) / 1e6
    row = {"model": name(model), "threads": threads, "size_mb": round(size_mb), "rounds": asked.rounds}
    for key in ("decode", "prompt", "load_s", "peak_mb"):
        row[key] = [median(0, key), median(1, key), ratio(key)]
    row["share"] = [median(0, "share"), median(1, "share")]
    row["first_load_s"] = first
    for key in ("planned_mb", "memory_load_s"):
        row[key] = median(1, key)
    row["read_gb_s"] = read
    row["roofline"] = read * 1e3 / size_mb
    return row


def table(rows: list[dict]) -> None:
    print("llama.cpp / ours = ratio; tokens a second, seconds, MB\n")
    print("| model | threads | roofline | decode | prompt | load s | ours first / into memory s | peak MB | ours planned MB | share |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        told = lambda key, digits: "{:.{d}f} / {:.{d}f} = {:.2f}".format(*row[key], d=digits)
        share = "{:.2f} / {:.2f}".format(*row["share"])
        cells = [f"{row['model']} ({row['size_mb']} MB)", str(row["threads"]), f"{row['roofline']:.0f}", told("decode", 1)]
        others = "{first_load_s:.2f} / {memory_load_s:.2f}".format(**row)
        cells += [told("prompt", 0), told("load_s", 2), others, told("peak_mb", 0), f"{row['planned_mb']:.0f}", share]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
