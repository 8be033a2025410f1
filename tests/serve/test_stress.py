"""Many clients at once, in small: `scripts/stress_serve.py` is the whole of it, to be run by hand."""

from __future__ import annotations

import json
import sys

from stress.plan import BREAKS, Media, broken, planned

from tests.processes import ROOT, run


def test_each_of_many_clients_is_answered_as_if_it_were_alone():
    program = ROOT / "scripts" / "stress_serve.py"
    found = run([sys.executable, program, "--clients", "24", "--seed", "5", "--rounds", "1"])
    report = json.loads(found.stdout)
    assert (found.returncode, found.stderr) == (0, ""), report
    (only,) = report["rounds"]
    assert only["clients"] == {"staying": 17, "leaving": 5, "broken": 2}
    assert only["wrong"] == only["errors"] == []
    assert only["refused"] == {"400": 2}
    assert only["answers"] > 17
    assert not any(only["left_in_server"].values())
    assert only["held"]["children"] <= 3  # one that was ended may be there yet


def test_a_plan_is_the_seeds_and_has_its_shares():
    media = Media(1)
    clients = planned(200, 1, media)
    assert clients == planned(200, 1, media) != planned(200, 2, media)
    assert sum(client.leaves is not None for client in clients) == 40
    assert sum(bool(client.broken) for client in clients) == 20
    assert {len(client.turns) for client in clients} == {0, 1, 3}
    assert all(broken(name, media) for name in BREAKS)
