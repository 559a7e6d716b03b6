"""vLLM's own HTTP server on a CPU, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.ports import held_port, number

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
ARGUMENTS = (
    *("--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "32", "--enforce-eager"),
    *("--kv-cache-memory-bytes", str(256 << 20), "--skip-mm-profiling"),
    *("--limit-mm-per-prompt", '{"image":1,"video":0}'),
    *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--enable-scale-out"),
    *("--worker-extension-cls", "zreward.sampling.cpu_worker.CpuWorker"),
)


@contextmanager
def serving(model: Path, log: Path, *options: str) -> Iterator[str]:
    """The address of a server with the model of a folder, until the block ends. What it says goes into `log`."""
    held = held_port()
    address = f"http://127.0.0.1:{number(held)}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    with log.open("w") as said:
        server = subprocess.Popen(
            [*command, "--port", str(number(held)), *ARGUMENTS, *options],
            cwd=ROOT,
            env=os.environ | SETTINGS,
            stdout=said,
            stderr=said,
        )
    try:
        _wait(server, address, log)
        yield address
    finally:
        server.terminate()
        server.wait(60)
        held.close()


def _wait(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{address}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])
