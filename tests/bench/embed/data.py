#!/usr/bin/env python3
"""Writes the texts that are embedded, from the passages and questions of models/reference/retrieval.json: one short one, one of 128
tokens, one of 256, and 64 of 5 to 256 tokens.

    data.py MODEL_DIR OUT.json
"""

import json
import random
import sys

from tokenizers import Tokenizer


def main() -> None:
    tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open("models/reference/retrieval.json") as file:
        machines = json.load(file)["machines"]
    passages = machines["passages"]
    questions = [pair["question"] if isinstance(pair, dict) else pair[0] for pair in machines["questions"]]
    words = " ".join(passages).split()

    def of(tokens: int, first: int) -> str:
        """Words from the passages that make so many tokens, or a few fewer."""
        last = first
        while last < len(words) and len(tokenizer.encode(" ".join(words[first : last + 1])).ids) <= tokens:
            last += 1
        return " ".join(words[first:last])

    chance = random.Random(7)
    # Questions, passages, and chunks of pages, as a node that indexes and answers sees them.
    mixed = questions[:24] + passages[:24]
    mixed += [of(chance.randrange(60, 257), chance.randrange(len(words) - 260)) for _ in range(64 - len(mixed))]
    chance.shuffle(mixed)
    cases = {"short": [questions[0]], "128 tokens": [of(128, 0)], "256 tokens": [of(256, 100)], "mixed": mixed}
    with open(sys.argv[2], "w") as file:
        json.dump(cases, file)
    for name, texts in cases.items():
        lengths = sorted(len(tokenizer.encode(text).ids) for text in texts)
        print(f"{name}: {len(texts)} texts of {lengths[0]} to {lengths[-1]} tokens, {sum(lengths)} together", file=sys.stderr)


if __name__ == "__main__":
    main()
