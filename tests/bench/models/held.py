#!/usr/bin/env python3
"""Measures answers that are held to a schema beside free ones, by turns. Called by `run schemas`.

    held.py CHAT_BENCH TURNS [--threads N] MODEL.gguf...

Milliseconds of the processor for each token of an answer, free / held = ratio, and the ratio by the wall clock: medians of the turns.
"""

import json
import os
import subprocess
import sys
import tempfile

TOKENS = 100


def main() -> None:
    bench, turns, *models = sys.argv[1:]
    threads = "1"
    if models[0] == "--threads":
        threads, models = models[1], models[2:]
    with open(os.path.join(os.path.dirname(__file__), "schemas.json")) as file:
        schemas = json.load(file)
    print("| model | schema | CPU ms a token | wall | compiling ms |\n|---|---|---|---|---|")
    for model in models:
        for name, schema in schemas.items():
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(schema, file)
                file.flush()
                command = [bench, model, "--schema", file.name, "--threads", threads, "--decode", str(TOKENS), "--turns", turns]
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            costs = "{free_cpu_ms_token:.2f} / {held_cpu_ms_token:.2f} = {ratio_cpu:.2f}".format(**row)
            cells = [os.path.basename(model).removesuffix(".gguf"), name, costs, f"{row['ratio']:.2f}", f"{row['compile_ms']:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
