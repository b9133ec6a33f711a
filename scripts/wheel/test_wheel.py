"""The wheel as its users have it: built, installed into a fresh environment, used from another folder.

    CRIADERO_BINARY=target/debug/criadero python3 -m unittest discover --quiet -s scripts/wheel

torch itself is not installed, which is a download of gigabytes: stand_in.py's package is, with the libtorch that the binary was linked
with as its libraries. With CRIADERO_WHEEL_TORCH=1 it is the real one.
"""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import build
import stand_in

TINY = build.CHECKOUT / "tests" / "goldens" / "tiny-llama"
# Variables by which a checkout or a shell would help.
OURS = ["LD_LIBRARY_PATH", "LIBTORCH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CRIADERO_PYTHON"]


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.dir = Path(temporary.name)
        binary = Path(os.environ["CRIADERO_BINARY"]).resolve()
        cls.wheel = build.build(binary, cls.dir / "dist")
        patchelf = build.tools() / "bin" / "patchelf"
        cls.libtorch = subprocess.check_output([patchelf, "--print-rpath", binary], text=True).strip()
        cls.env = {name: value for name, value in os.environ.items() if name not in OURS}
        cls.python = cls.dir / "env" / "bin" / "python"
        tools = {**cls.env, "PYTHONPATH": str(build.tools())}
        build.run([sys.executable, "-m", "virtualenv", "--quiet", cls.dir / "env"], env=tools)
        cls.pip("install", "--no-deps", cls.wheel)

    @classmethod
    def pip(cls, *arguments):
        build.run([cls.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], env=cls.env)

    def criadero(self, *arguments, **environment):
        """Exit code, output and complaints of the installed command."""
        command = [str(part) for part in [self.python.with_name("criadero"), *arguments]]
        done = subprocess.run(command, cwd=self.dir, env={**self.env, **environment}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def torch(self, version):
        """A package that is found as torch."""
        stand_in.install(self.python, self.libtorch, version)

    def test_1_the_version_needs_no_torch_and_comes_at_once(self):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            code, output, _ = self.criadero("--version")
            times.append(time.perf_counter() - start)
            self.assertEqual((code, output), (0, f"criadero {self.wheel.name.split('-')[1]}\n"))
        self.assertLess(min(times), 0.05, times)

    def test_2_without_torch_it_says_what_to_install(self):
        code, _, complaint = self.criadero("inspect", "tiny")
        self.assertEqual(code, 1)
        self.assertRegex(complaint, r"error: torch 2\.11 not found by .*python.* -m pip install 'torch==2\.11\.\*'")
        self.assertEqual(len(complaint.splitlines()), 1)

    def test_3_another_torch_is_refused(self):
        self.torch("2.10.1")
        code, _, complaint = self.criadero("inspect", "tiny")
        self.assertEqual(code, 1)
        self.assertIn("found version 2.10.1", complaint)

    def test_4_it_searches_and_exports(self):
        if os.environ.get("CRIADERO_WHEEL_TORCH"):
            self.pip("install", "torch==2.11.*")
        else:
            self.torch("2.11.0+cpu")
            # pip finds the dependency satisfied.
            self.pip("install", "--no-index", self.wheel)
        rows = "".join(f'{{"context": "{i} and", "choices": ["one", "two"], "gold": {i % 2}}}\n' for i in range(40))
        (self.dir / "mine.jsonl").write_text(rows, encoding="utf-8")
        search = ["search", "tiny", "--model", TINY, "--objective", "choice_nll:mine.jsonl", "--objective", "params", "--limit", 16,
                  "--held-out", 16, "--evals", 12, "--population", 6, "--algorithm", "nsga2", "--seed", 1, "--out", "run"]
        code, output, complaint = self.criadero(*search)
        self.assertEqual(code, 0, complaint)
        self.assertIn("over all budgets", output)
        code, _, complaint = self.criadero("export", "run", "--pick", "params<=100M", "--format", "hf", "--out", "small")
        self.assertEqual(code, 0, complaint)
        self.assertTrue((self.dir / "small" / "model.safetensors").is_file())
        by_module = subprocess.run([self.python, "-m", "criadero", "inspect", "tiny"], cwd=self.dir, env=self.env, capture_output=True, text=True, check=False)
        self.assertEqual(by_module.returncode, 0, by_module.stderr)
        self.assertEqual(by_module.stdout, self.criadero("inspect", "tiny")[1])

    def test_5_arguments_and_exit_codes_are_the_programs(self):
        self.torch("2.11.0")
        self.assertEqual(self.criadero("inspect")[0], 2)
        code, _, complaint = self.criadero("export", "no such run", "--pick", "knee", "--format", "hf", "--out", "x")
        self.assertEqual(code, 1)
        self.assertIn("no such run", complaint)

    def test_6_what_the_demo_needs_is_fetched(self):
        self.torch("2.11.0")
        code, output, complaint = self.criadero("fetch", "demo", CRIADERO_CACHE=str(build.cache_dir()))
        self.assertEqual(code, 0, complaint)
        self.assertIn("assets: ", output)
        code, _, complaint = self.criadero("fetch", "demo", CRIADERO_PYTHON="/no/python")
        self.assertEqual(code, 1)
        self.assertIn("/no/python", complaint)

    def test_7_a_newcomer_follows_the_readme_and_the_guide(self):
        script = build.CHECKOUT / "tests" / "newcomer.sh"
        environment = {**self.env, "PYTHON": sys.executable, "NEWCOMER_LIBTORCH": self.libtorch}
        done = subprocess.run([script, self.wheel], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        # How long it took to the first front and the first file.
        print(done.stdout, end="")

    def test_8_openais_client_is_answered(self):
        self.torch("2.11.0")
        self.pip("install", "openai==2.*")
        script = build.CHECKOUT / "tests" / "openai_client.py"
        done = subprocess.run([self.python, script, self.python.with_name("criadero"), TINY], cwd=self.dir, env=self.env,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
