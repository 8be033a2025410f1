"""`illava serve --engine vllm` on two nodes: here two programs of one machine, each with its own worker."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager

import openai
import pytest

from illava_cli.vllm.server import answered, free_port
from tests.in_vllm.test_server import ILLAVA, SMALL, asked, checkpoint, served  # noqa: F401 - a fixture
from tests.processes import Process

pytestmark = pytest.mark.needs("two cores")


@contextmanager
def nodes(checkpoint, *flags):  # noqa: F811
    """The first node, the second, and a client of the first."""
    port, meeting = free_port(), free_port()
    command = [*ILLAVA, "serve", "--engine", "vllm", "-m", checkpoint, "--dtype", "float32", *flags]
    command += ["--served-name", "small", "--port", str(port), "--", *SMALL]
    command += ["--tensor-parallel-size", "2", "--nnodes", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(meeting)]
    with Process([*command, "--node-rank", "0"], stderr=subprocess.DEVNULL) as first:  # noqa: SIM117
        with Process([*command, "--node-rank", "1", "--headless"], stderr=subprocess.DEVNULL) as second:
            answered(first, f"http://127.0.0.1:{port}/health")
            assert second.poll() is None
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
            yield first, second, client


def test_two_nodes_answer_as_one_does_and_fail_together(checkpoint):  # noqa: F811
    wishes = [{}, {"keep": 0.5}, {"preset": "off"}]
    with served(checkpoint, "--preset", "auto") as client:
        alone = [_told(asked(client, 1, **wish)) for wish in wishes]
    with nodes(checkpoint, "--preset", "auto") as (first, second, client):
        assert [_told(asked(client, 1, **wish)) for wish in wishes] == alone
        os.killpg(second.pid, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            asked(client, 2)
        assert first.wait(120) == 0  # a worker that is gone ends vLLM, whose code is the command's


def _told(answer):
    return answer.choices[0].message.content, answer.usage.prompt_tokens
