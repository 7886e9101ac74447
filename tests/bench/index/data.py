#!/usr/bin/env python3
"""Makes vectors that lie as embedded texts do: topics of unequal size within subjects, each subject varying in few directions.

    data.py FOLDER     writes base.f32, query.f32, gt.i32 (the true ten nearest) and gt_f10.i32, gt_f100.i32, gt_f1000.i32
                       (among those whose number is 3 more than a multiple of that)
"""

import sys

import numpy as np

COUNT, QUERIES, DIMENSIONS = 100_000, 1_000, 384
TOPICS, SUBJECTS, DIRECTIONS = 800, 40, 24


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    folder = sys.argv[1]
    random = np.random.default_rng(42)
    normal = lambda *shape: random.standard_normal(shape, dtype=np.float32)
    topics, subjects = unit(normal(TOPICS, DIMENSIONS)), unit(normal(SUBJECTS, DIMENSIONS))
    topics += 0.9 * subjects[random.integers(0, SUBJECTS, TOPICS)]
    directions = normal(SUBJECTS, DIRECTIONS, DIMENSIONS) / np.sqrt(DIMENSIONS)
    sizes = 1 / np.sqrt(np.arange(1, TOPICS + 1))
    reach = (1 / np.sqrt(np.arange(1, DIRECTIONS + 1))).astype(np.float32)

    def draw(count: int) -> np.ndarray:
        topic = random.choice(TOPICS, count, p=sizes / sizes.sum())
        along = normal(count, DIRECTIONS) * reach
        rows = topics[topic].copy()
        for subject in range(SUBJECTS):
            of = np.flatnonzero(topic % SUBJECTS == subject)
            rows[of] += 0.75 * along[of] @ directions[subject]
        rows += 0.5 / np.sqrt(DIMENSIONS) * normal(count, DIMENSIONS)
        return unit(rows).astype(np.float32)

    base, query = draw(COUNT), draw(QUERIES)
    base.tofile(f"{folder}/base.f32")
    query.tofile(f"{folder}/query.f32")
    scores = query @ base.T
    np.argsort(-scores, axis=1)[:, :10].astype(np.int32).tofile(f"{folder}/gt.i32")
    for one_of in (10, 100, 1000):
        some = np.arange(3, COUNT, one_of)
        some[np.argsort(-scores[:, some], axis=1)[:, :10]].astype(np.int32).tofile(f"{folder}/gt_f{one_of}.i32")


if __name__ == "__main__":
    main()
