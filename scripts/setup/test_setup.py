"""Set-up against broken downloads, half-made trees and wrong machines, without a network."""

import contextlib
import hashlib
import io
import os
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import assets
import calibration
import libtorch
import tree
import wheels

GOOD = b"the right bytes"
WHEEL = wheels.Wheel("some_pkg-1.2-py3-none-manylinux_2_17_x86_64.whl", hashlib.sha256(GOOD).hexdigest(), 1)


class InTemporaryDirectory(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.said = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))


class Downloads(InTemporaryDirectory):
    def server(self, *answers):
        """A download that leaves these contents one after the other; None is a failure."""
        left = list(answers)

        def download(wheel, directory):
            content = left.pop(0)
            (directory / wheel.filename).write_bytes(b"half" if content is None else content)
            return 1 if content is None else 0

        return download

    def fetch(self, *answers):
        return wheels.fetch(WHEEL, self.dir, self.server(*answers), pause_s=0)

    def test_a_good_file_is_not_downloaded_again(self):
        (self.dir / WHEEL.filename).write_bytes(GOOD)
        self.assertEqual(self.fetch().read_bytes(), GOOD)

    def test_a_truncated_file_is_replaced(self):
        (self.dir / WHEEL.filename).write_bytes(GOOD[:4])
        self.assertEqual(self.fetch(GOOD).read_bytes(), GOOD)
        self.assertIn("broken", self.said.getvalue())

    def test_a_failing_download_is_tried_again_and_leaves_nothing_behind(self):
        (self.dir / ".partial-of-a-killed-run").mkdir()
        self.assertEqual(self.fetch(None, None, GOOD).read_bytes(), GOOD)
        self.assertEqual(os.listdir(self.dir), [WHEEL.filename])

    def test_gives_up_with_the_place_to_put_the_file(self):
        with self.assertRaisesRegex(wheels.SetupError, f"{WHEEL.filename}.*network.*{self.dir}"):
            self.fetch(None, None, None)
        self.assertEqual(os.listdir(self.dir), [])

    def test_refuses_another_file_under_the_right_name(self):
        with self.assertRaisesRegex(wheels.SetupError, "expected " + WHEEL.sha256):
            self.fetch(b"something else")
        self.assertEqual(os.listdir(self.dir), [])

    def test_pip_is_told_the_tags_of_the_pinned_file_and_not_those_of_this_python(self):
        options = " ".join(libtorch.TORCH.pip_tags())
        self.assertEqual(
            options, "--python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64"
        )
        self.assertEqual(libtorch.TORCH.requirement, "torch==2.11.0")

    def test_says_how_to_get_pip(self):
        with mock.patch("wheels.subprocess.run", return_value=mock.Mock(returncode=1)):
            with self.assertRaisesRegex(wheels.SetupError, "apt install python3-pip"):
                wheels.fetch(WHEEL, self.dir)

    def test_every_pinned_wheel_has_a_digest(self):
        pinned = [libtorch.TORCH, libtorch.CUDA_RUNTIME, libtorch.CUPTI, libtorch.NVRTC, *libtorch.CUDA_ONLY]
        pinned += [wheel for wheel, _ in assets.TREES.values()]
        for wheel in pinned:
            self.assertRegex(wheel.sha256, "^[0-9a-f]{64}$", wheel.filename)
        self.assertEqual(len({wheel.sha256 for wheel in pinned}), len(pinned))

    def test_the_cache_follows_the_environment(self):
        with mock.patch.dict(os.environ, {"CRIADERO_CACHE": "", "XDG_CACHE_HOME": "/xdg"}):
            self.assertEqual(wheels.cache_dir(), Path("/xdg/criadero"))
        with mock.patch.dict(os.environ, {"CRIADERO_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg"}):
            self.assertEqual(wheels.cache_dir(), Path("/mine"))


class Trees(InTemporaryDirectory):
    def fill(self, new):
        (new / "lib").mkdir()
        (new / "lib" / "a.so").write_bytes(b"12345")

    def build(self, recipe="r1", fill=None):
        return tree.build(self.dir / "t", recipe, fill or self.fill)

    def test_a_whole_tree_is_left_alone(self):
        self.assertTrue(self.build())
        self.assertFalse(self.build())

    def test_a_truncated_or_missing_file_or_a_new_recipe_makes_it_anew(self):
        library = self.dir / "t" / "lib" / "a.so"
        self.build()
        library.write_bytes(b"123")
        self.assertTrue(self.build())
        library.unlink()
        self.assertTrue(self.build())
        self.assertTrue(self.build(recipe="r2"))
        self.assertEqual(library.read_bytes(), b"12345")
        self.assertEqual(os.listdir(self.dir), ["t"])

    def test_a_tree_without_a_list_of_its_files_is_not_trusted(self):
        (self.dir / "t" / "lib").mkdir(parents=True)
        self.assertTrue(self.build())

    def test_stopping_half_way_leaves_the_old_tree_and_the_next_run_cleans_up(self):
        self.build()
        (self.dir / ".t-killed").mkdir()

        def stop(new):
            (new / "half").write_bytes(b"")
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.build(recipe="r2", fill=stop)
        self.assertEqual((self.dir / "t" / "lib" / "a.so").read_bytes(), b"12345")
        self.build(recipe="r2")
        self.assertEqual(os.listdir(self.dir), ["t"])

    def test_unzip_keeps_modes_and_refuses_a_recipe_that_matches_nothing(self):
        archive = self.dir / "w.whl"
        with zipfile.ZipFile(archive, "w") as made:
            library = zipfile.ZipInfo("torch/lib/libx.so")
            library.external_attr = 0o755 << 16
            made.writestr(library, b"elf")
            made.writestr("torch/include/a/b.h", b"// b")
            made.writestr("torch/other", b"")
        tree.unzip(archive, self.dir / "t", {"torch/lib/libx.so": "lib/libx.so", "torch/include/": "include"})
        self.assertEqual((self.dir / "t/include/a/b.h").read_bytes(), b"// b")
        self.assertEqual((self.dir / "t/lib/libx.so").stat().st_mode & 0o777, 0o755)
        self.assertFalse((self.dir / "t/torch").exists())
        with self.assertRaisesRegex(ValueError, "nothing under torch/gone/"):
            tree.unzip(archive, self.dir / "t", {"torch/gone/": "x"})


class Libtorch(InTemporaryDirectory):
    def make(self, version=libtorch.VERSION):
        directory = self.dir / "libtorch"
        for name in ["lib/libtorch_cpu.so", "lib/libc10.so", "include/torch/csrc/api/include/torch/torch.h"]:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(b"")
        libtorch.link_stub(directory / "lib" / "libtorch.so")
        (directory / "build-version").write_text(version + "\n")
        return directory

    def test_names_what_a_directory_lacks(self):
        self.assertIsNone(libtorch.problem_of(self.make()))
        self.assertIsNone(libtorch.problem_of(self.make("2.11.0+cu130")))
        self.assertEqual(libtorch.problem_of(self.make("2.5.1+cpu")), "is version 2.5.1+cpu")
        self.assertEqual(libtorch.problem_of(self.dir), "has no lib/libtorch_cpu.so")

    def test_other_machines_are_told_what_to_set(self):
        with mock.patch("libtorch.platform.machine", return_value="aarch64"):
            with self.assertRaisesRegex(wheels.SetupError, "Linux on aarch64.*LIBTORCH"):
                libtorch.check_platform()
        with mock.patch("libtorch.platform.libc_ver", return_value=("", "")):
            with self.assertRaisesRegex(wheels.SetupError, "glibc 2.28.*LIBTORCH"):
                libtorch.check_platform()

    def test_the_link_moves_in_one_step_and_never_over_a_directory(self):
        link = self.dir / ".libtorch"
        libtorch.point(link, self.dir / "one")
        libtorch.point(link, self.dir / "two")
        self.assertEqual(os.readlink(link), str(self.dir / "two"))
        link.unlink()
        link.mkdir()
        with self.assertRaisesRegex(wheels.SetupError, "move it away"):
            libtorch.point(link, self.dir / "one")

    def test_a_pytorch_that_is_not_there_is_named(self):
        with mock.patch("libtorch.subprocess.run", side_effect=FileNotFoundError("no such file: python3")):
            with self.assertRaisesRegex(wheels.SetupError, "must import torch 2.11.0.*no such file"):
                libtorch.check_pytorch()


class CalibrationText(InTemporaryDirectory):
    def test_does_not_depend_on_the_order_of_the_passages(self):
        text = calibration.compose(["a  b\n\n c", "second", "third"])
        self.assertEqual(text, calibration.compose(["third", "a  b\n\n c", "second"]))
        self.assertEqual(sorted(text.strip().split("\n\n")), ["a b\nc", "second", "third"])

    def test_other_task_data_is_refused(self):
        with mock.patch("calibration.passages", return_value=["edited"]):
            with self.assertRaisesRegex(wheels.SetupError, "expected " + calibration.EXPECTED_SHA256):
                calibration.write(self.dir, self.dir / "calibration.txt")
        self.assertFalse((self.dir / "calibration.txt").exists())


if __name__ == "__main__":
    unittest.main()
