"""LangGraph with its SQLite checkpointer: a graph of five trivial nodes, a durable checkpoint after each; one line of JSON.

Usage: langgraph_steps.py DATABASE RUNS
"""

import json
import operator
import os
import sys
import time
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

NODES = 5


class State(TypedDict):
    n: int
    log: Annotated[list, operator.add]


def node(number):
    return lambda state: {"n": state["n"] + 1, "log": [f"step {number} done"]}


def main(database, runs):
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(database + suffix):
            os.remove(database + suffix)
    graph = StateGraph(State)
    for number in range(NODES):
        graph.add_node(f"n{number}", node(number))
    names = [START, *(f"n{number}" for number in range(NODES)), END]
    for before, after in zip(names, names[1:]):
        graph.add_edge(before, after)
    with SqliteSaver.from_conn_string(database) as checkpointer:
        checkpointer.setup()
        # What survives a power cut is compared, as Skerry has it.
        checkpointer.conn.execute("pragma synchronous = full")
        app = graph.compile(checkpointer=checkpointer)

        def run(thread):
            config = {"configurable": {"thread_id": thread}}
            done = app.invoke({"n": 0, "log": []}, config, durability="sync")
            assert done["n"] == NODES

        for number in range(5):
            run(f"warm{number}")
        began = time.perf_counter()
        for number in range(runs):
            run(f"run{number}")
        seconds = time.perf_counter() - began
    steps = NODES * runs
    print(json.dumps({"steps": steps, "seconds": seconds, "steps_s": steps / seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
