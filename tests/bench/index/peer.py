#!/usr/bin/env python3
"""One of the peers, on one thread: makes an index, or searches one. Called by `compare.py`; prints JSON lines as `index_bench` does.

    peer.py NAME build DATA FILE
    peer.py NAME search DATA FILE EF..
    peer.py faiss scan DATA FILE        the vectors that pass a filter compared one by one, without an index
"""

import json
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np

DIMENSIONS, LINKS, BREADTH, K = 384, 16, 200, 10
MEASURED_S = 0.3
# One of so many passes.
FILTERS = (10, 100, 1000)


class Faiss:
    def __init__(self):
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss = faiss
        self.index = None

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

    def selectors(self, one_of, count):
        """The filter in each form that fits: one that is looked up, and a bit for each vector."""
        ids = np.arange(3, count, one_of)
        bits = np.zeros(count, dtype=bool)
        bits[ids] = True
        self.bits = np.packbits(bits, bitorder="little")
        bitmap = self.faiss.IDSelectorBitmap(count, self.faiss.swig_ptr(self.bits))
        return {"batch": self.faiss.IDSelectorBatch(ids), "bitmap": bitmap}

    def search_passing(self, queries, ef, selector):
        parameters = self.faiss.SearchParametersHNSW(sel=selector, efSearch=ef)
        return self.index.search(queries, K, params=parameters)[1]

    def compare(self, base):
        self.index = self.faiss.IndexFlatIP(DIMENSIONS)
        self.index.add(base)

    def compare_passing(self, queries, selector):
        return self.index.search(queries, K, params=self.faiss.SearchParameters(sel=selector))[1]


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
    if verb == "scan":
        base = read("base.f32", np.float32, DIMENSIONS)
        peer.compare(base)
        for one_of in FILTERS:
            for form, selector in peer.selectors(one_of, len(base)).items():
                search = lambda queries, _: peer.compare_passing(queries, selector)
                recall, qps = measure(search, queries, read(f"gt_f{one_of}.i32", np.int32, K), 0)
                say(mode=f"scan {one_of} {form}", ef=0, recall=recall, qps=qps)
        return
    before, start = resident(), time.monotonic()
    peer.load(file)
    load_ms, count = (time.monotonic() - start) * 1e3, 100_000
    loaded = (resident() - before) / count
    # Not counted, as ours does not count its first pass.
    measure(peer.search, queries, read("gt.i32", np.int32, K), int(breadths[0]))
    for ef in map(int, breadths):
        recall, qps = measure(peer.search, queries, read("gt.i32", np.int32, K), ef)
        say(mode="search", ef=ef, recall=recall, qps=qps)
    for one_of in FILTERS if peer.search_passing else []:
        truth = read(f"gt_f{one_of}.i32", np.int32, K)
        for form, selector in peer.selectors(one_of, count).items():
            search = lambda queries, ef: peer.search_passing(queries, ef, selector)
            for ef in map(int, breadths):
                recall, qps = measure(search, queries, truth, ef)
                say(mode=f"filter {one_of} {form}", ef=ef, recall=recall, qps=qps)
    say(mode="load", load_ms=load_ms, bytes_loaded=loaded, bytes_searched=(resident() - before) / count)


if __name__ == "__main__":
    main()
