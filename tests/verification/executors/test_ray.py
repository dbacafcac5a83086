"""The Ray executor on a cluster of one machine; skipped without Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sse_diffusion.core.errors import ConfigError, EngineError
from sse_diffusion.verification.executors.ray_cluster import RayConfig, RayExecutor
from sse_diffusion.verification.executors.task import build_executor


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="needs Ray") as caught:
        build_executor("ray")
    assert "sse-diffusion[ray]" in caught.value.hint


def test_resources_of_stages():
    config = RayConfig(num_cpus=2, memory_GB=4.0, retries=1, stages={"md_gate": {"num_gpus": 1, "num_cpus": 1}})
    assert config.resources("relax") == {"num_cpus": 2, "num_gpus": 0, "memory": 4_000_000_000, "max_retries": 1}
    assert config.resources("md_gate") == {"num_cpus": 1, "num_gpus": 1, "memory": 4_000_000_000, "max_retries": 1}
    with pytest.raises(ConfigError, match="gpus"):
        RayConfig(stages={"relax": {"gpus": 1}}).resources("relax")


@pytest.mark.slow
def test_no_cluster_is_one_clear_error():
    pytest.importorskip("ray")
    with pytest.raises(EngineError, match="no Ray cluster") as caught:
        RayExecutor(RayConfig(address="auto"))
    assert "ray start --head" in caught.value.hint


SCRIPT = """
import os, sys
os.environ["RAY_ADDRESS"] = ""
sys.path.insert(0, sys.argv[2])
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000,
         runtime_env={"env_vars": {"PYTHONPATH": sys.argv[2]}})
from pathlib import Path
from pymatgen.core import Lattice, Structure
from sse_diffusion.core.candidate import Candidate
from sse_diffusion.verification.executors.task import build_executor
from sse_diffusion.verification.funnel import FunnelConfig, build_stages, run_funnel
from sse_diffusion.verification.stage import FunnelContext
from sse_diffusion.verification.verify import engine_and_hull
out = Path(sys.argv[1])
log = out / "log"
log.mkdir(parents=True)
def salt(a, cation):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, "Cl"], [[0, 0, 0], [0.5] * 3]).get_primitive_structure()
candidates = [Candidate(f"c{k}", salt(4.8 + 0.1 * k, "Na" if k == 2 else "Li")) for k in range(5)]
engine = {"name": "ase", "calculator": "deadly:Deadly",
          "kwargs": {"sigma": 2.3, "epsilon": 0.05, "rc": 6.0, "smooth": True, "log": str(log), "kills": 1}}
def run(folder, executor):
    stages = build_stages(FunnelConfig(order=("structure", "relax"), stages={"relax": {"protocol": {"max_steps": 2}}}))
    report = run_funnel(candidates, stages, FunnelContext(out_dir=folder, **engine_and_hull(engine, "none")), executor=executor)
    return {m.id: {k: v for k, v in m.values.items() if "seconds" not in k} for m in report.members}
from_ray = run(out / "ray", build_executor({"name": "ray", "address": "local", "retries": 2}))
assert len(list(log.iterdir())) == 1, "one worker was killed"
assert from_ray == run(out / "serial", None)
assert len(list((out / "ray" / "stages" / "relax").iterdir())) == 5
print("same")
"""


@pytest.mark.slow
def test_ray_gives_the_same_values_and_survives_a_killed_worker(tmp_path, deadly_module):
    pytest.importorskip("ray")
    arguments = [str(tmp_path / "out"), str(deadly_module)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert done.stdout.strip().endswith("same"), done.stdout[-2000:] + done.stderr[-4000:]
