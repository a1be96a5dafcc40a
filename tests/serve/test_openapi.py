"""schemathesis against the OpenAPI document: generated requests, valid and not, and every answer as documented."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def run_schemathesis(service, num_examples, folder):
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    options = ["--checks", CHECKS, "--max-examples", str(num_examples), "--seed", "1", "--generation-database", "none"]
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"http://127.0.0.1:{service.port}/openapi.json",
        *options,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert service.process.poll() is None


@pytest.mark.slow
def test_answers_are_as_documented(service, tmp_path):
    run_schemathesis(service, 100, tmp_path)  # it writes a cache into the current folder


def test_answers_are_as_documented_in_short(service, tmp_path):
    run_schemathesis(service, 3, tmp_path)
