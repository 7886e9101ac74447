#!/usr/bin/env python3
"""One of the peers, on one thread: makes an index, or searches one. Called by `compare.py`; prints JSON lines as `index_bench` does.

    peer.py NAME build DATA FILE
    peer.py NAME search DATA FILE EF..
"""

import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np

DIMENSIONS, LINKS, BREADTH, K = 384, 16, 200, 10
MEASURED_S = 0.3


class Faiss:
    def __init__(self):
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss = faiss
        self.passing = faiss.IDSelectorBatch(np.arange(3, 1_000_000, 10))

    def build(self, base, file):
        self.index = self.faiss.IndexHNSWFlat(DIMENSIONS, LINKS, self.faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = BREADTH
        self.index.add(base)
        yield
        self.faiss.write_index(self.index, file)

    def load(self, file):
        self.index = self.faiss.read_index(file)

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, K)[1]

    def search_passing(self, queries, ef):
        parameters = self.faiss.SearchParametersHNSW(sel=self.passing, efSearch=ef)
        return self.index.search(queries, K, params=parameters)[1]


class Hnswlib:
    search_passing = None  # Its filter is a Python function, called for each vector.

    def __init__(self):
        import hnswlib

        self.index = hnswlib.Index("ip", DIMENSIONS)

    def build(self, base, file):
        self.index.init_index(len(base), ef_construction=BREADTH, M=LINKS)
        self.index.add_items(base, np.arange(len(base)), num_threads=1)
        yield
        self.index.save_index(file)

    def load(self, file):
        self.index.load_index(file)

    def search(self, queries, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, k=K, num_threads=1)[0]


class Usearch:
    search_passing = None

    def __init__(self):
        from usearch.index import Index

        self.index = Index(ndim=DIMENSIONS, metric="ip", dtype="f32", connectivity=LINKS, expansion_add=BREADTH)

    def build(self, base, file):
        self.index.add(np.arange(len(base)), base, threads=1)
        yield
        self.index.save(file)

    def load(self, file):
        self.index.load(file)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


def say(**line) -> None:
    print(json.dumps(line), flush=True)


def resident() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def measure(search, queries, truth, ef) -> tuple[float, float]:
    asked, start = 0, time.process_time()
    while True:
        found = np.asarray(search(queries, ef))
        asked += len(queries)
        took = time.process_time() - start
        if took >= MEASURED_S:
            hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist()))
            return hits / truth.size, asked / took


def main() -> None:
    name, verb, data, file, *breadths = sys.argv[1:]
    read = lambda name, kind, columns: np.fromfile(f"{data}/{name}", dtype=kind).reshape(-1, columns)
    peer = {"faiss": Faiss, "hnswlib": Hnswlib, "usearch": Usearch}[name]()
    if verb == "build":
        base = read("base.f32", np.float32, DIMENSIONS)
        start = time.process_time()
        for _ in peer.build(base, file):
            say(mode="build", build_s=time.process_time() - start)
        return
    queries = read("query.f32", np.float32, DIMENSIONS)
    before, start = resident(), time.monotonic()
    peer.load(file)
    load_ms, count = (time.monotonic() - start) * 1e3, 100_000
    loaded = (resident() - before) / count
    for mode, search, truth in (("search", peer.search, "gt.i32"), ("filter 10%", peer.search_passing, "gt_f10.i32")):
        for ef in map(int, breadths if search else []):
            recall, qps = measure(search, queries, read(truth, np.int32, K), ef)
            say(mode=mode, ef=ef, recall=recall, qps=qps)
    say(mode="load", load_ms=load_ms, bytes_loaded=loaded, bytes_searched=(resident() - before) / count)


if __name__ == "__main__":
    main()
