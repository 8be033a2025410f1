"""200 clients of `illava serve` at once: is each answered as if it were alone, and does nothing of them stay?

    python scripts/stress_serve.py [--clients 200] [--seed 1] [--rounds 3] [--url URL --key KEY] [-- FLAGS]

Mixed media, conversations, streams and whole answers; a fifth of the clients leaves midway, a tenth sends
what must be refused. Each answer of the others must be a session's in this process (greedy, `tiny`). Several
rounds go to one server: its memory must not grow from one to the next. Prints JSON; exit code 1 where
something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from contextlib import nullcontext
from typing import Any

from stress.clients import Clients, Fate
from stress.plan import Client, Media, planned
from stress.watch import REST, Watched, started

from illava_cli.config import resolve
from illava_cli.engine.opening import load
from illava_cli.engine.session import Session

GROWTH_MB = 64  # of the server, from the round before the last one to the last


def expected(session: Session, client: Client, known: dict[Any, list[str]]) -> list[str]:
    """What a client must be answered."""
    key = client.turns, tuple(client.options.items())
    if key not in known:
        own = session.updated([f"media.{name}={value}" for name, value in client.options.items()])
        chat = own.chat()
        known[key] = [
            chat.ask(turn.prompt, list(turn.images), list(turn.videos)).text for turn in client.turns
        ]
    return known[key]


def share(values: list[float], part: float) -> float | None:
    """The value below which so many lie."""
    return round(sorted(values)[min(len(values) - 1, int(part * len(values)))], 3) if values else None


def judged(fates: list[Fate], session: Session, known: dict[Any, list[str]]) -> dict[str, Any]:
    """How the clients of a round fared."""
    staying = [f for f in fates if not f.client.broken and f.client.leaves is None]
    wrong = []
    for fate in staying:
        right = expected(session, fate.client, known)
        if fate.answers != right:
            wrong.append({"client": fate.client.number, "answers": fate.answers, "expected": right})
    first = [seconds for fate in staying for seconds in fate.first_s]
    return {
        "clients": {
            "staying": len(staying),
            "leaving": sum(f.client.leaves is not None for f in fates),
            "broken": sum(bool(f.client.broken) for f in fates),
        },
        "answers": sum(len(fate.answers) for fate in staying),
        "wrong": wrong,
        "errors": [{"client": f.client.number, "errors": f.errors} for f in fates if f.errors],
        "refused": dict(Counter(status for fate in fates for status in fate.statuses)),
        "told_to_come_again": sum(fate.retries for fate in fates),
        "later_turns_from_cache": sum(tokens > 0 for fate in staying for tokens in fate.cached[1:]),
        "first_piece_s": {"p50": share(first, 0.5), "p95": share(first, 0.95)},
    }


def round_of(server: Watched, arguments: argparse.Namespace, number: int, session: Session, known: dict):
    """One round."""
    media = Media(arguments.seed)  # the same pictures: what is kept of them does not grow
    clients = planned(arguments.clients, arguments.seed + 1000 * number, media)
    endless = dict.fromkeys(map(str, sorted(session.family.end_ids)), -100)
    began = time.perf_counter()
    fates = asyncio.run(Clients(server.url, server.key, media, endless).run(clients))
    seconds = time.perf_counter() - began
    figures = server.at_rest()
    return {
        "seconds": round(seconds, 1),
        "load": [round(load, 1) for load in os.getloadavg()],
        **judged(fates, session, known),
        "left_in_server": {name: figures[name] for name in REST},
        "conversations_mb": round(figures["conversations_bytes"] / 2**20, 1),
        "held": server.held(),
    }


def is_right(rounds: list[dict[str, Any]]) -> bool:
    """Whether nothing is wrong in any of them."""
    for one in rounds:
        if one["wrong"] or one["errors"] or any(one["left_in_server"].values()):
            return False
    held = [one["held"]["rss_mb"] - one["conversations_mb"] for one in rounds if one["held"]]
    return len(held) < 3 or held[-1] - held[-2] < GROWTH_MB


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="of a server that runs; else one is started")
    parser.add_argument("--key", default="")
    parser.add_argument("flags", nargs="*", help="of the server that is started, after --")
    arguments = parser.parse_args()
    running = Watched(arguments.url.rstrip("/"), arguments.key) if arguments.url else None
    session = load(config=resolve("tiny", settings=["model.device=cpu"], environ={}))
    known: dict[Any, list[str]] = {}
    with nullcontext(running) if running else started(arguments.flags) as server:
        begun = server.held()
        rounds = [round_of(server, arguments, number, session, known) for number in range(arguments.rounds)]
    report = {
        "clients": arguments.clients,
        "seed": arguments.seed,
        "cores": os.cpu_count(),
        "held_at_first": begun,
        "rounds": rounds,
        "right": is_right(rounds),
    }
    print(json.dumps(report, indent=2))
    return 0 if report["right"] else 1


if __name__ == "__main__":
    sys.exit(main())
