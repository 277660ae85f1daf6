"""Packaging: twistd finds the plugins, and the wheel holds the package and nothing else."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from importlib.metadata import version
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

import p2pshare
import twisted

PROJECT = Path(__file__).parents[1]
TAPS = {"p2pregistry", "p2ppeer"}
TWISTD_HELP = ["-c", "from twisted.scripts.twistd import run; run()", "--help"]
PATIENCE = 120.0  # seconds
SETUPTOOLS_MIN = 77
COMPILED = shutil.ignore_patterns("__pycache__")
USUAL = {
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "run", "sbin",
    "srv", "sys", "tmp", "usr", "var",
}  # fmt: skip
"""Folders of the Filesystem Hierarchy Standard, which any machine may have."""


def listed_by_twistd(*options: str, env: dict[str, str] | None = None) -> set[str]:
    """Return our commands that `twistd --help` lists when it runs outside the project's folder."""
    said = subprocess.run(
        [sys.executable, *options, *TWISTD_HELP],
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return TAPS.intersection(said.stdout.split())


class PluginTests(unittest.TestCase):
    """The project's own folder."""

    def test_no_package_of_our_own(self) -> None:
        """`twisted/` belongs to Twisted's namespace: an `__init__.py` in it would hide Twisted."""
        self.assertEqual(list(PROJECT.joinpath("twisted").rglob("__init__.py")), [])

    def test_plugins(self) -> None:
        """Twisted's plugin system finds both services."""
        found = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
        self.assertLessEqual(TAPS, found)

    def test_twistd(self) -> None:
        """From any folder, twistd finds both services."""
        self.assertEqual(listed_by_twistd(), TAPS)


class MetadataTests(unittest.TestCase):
    """The project's metadata and documents."""

    def test_version(self) -> None:
        """setup.cfg reads the version from the module that the program uses."""
        setup = configparser.ConfigParser()
        setup.read(PROJECT / "setup.cfg")
        self.assertEqual(setup["metadata"]["version"], "attr: p2pshare._version.__version__")
        self.assertEqual(p2pshare.__version__, p2pshare._version.__version__)
        self.assertRegex(p2pshare.__version__, r"^\d+\.\d+\.\d+$")

    def test_modules_in_documents(self) -> None:
        """Modules and packages that documents for developers name exist."""
        for name in ("design.md", "development.md"):
            text = (PROJECT / "docs" / name).read_text()
            named = set(re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", text))
            self.assertGreater(len(named), 10, name)
            missing = {
                each
                for each in named
                if not (PROJECT / "p2pshare" / each).exists() and not (PROJECT / each).exists()
            }
            self.assertEqual(missing, set(), name)

    def test_no_paths_of_this_machine(self) -> None:
        """Documents name no folder of the machine on which they were written."""
        own = [
            PROJECT,
            Path.home(),
            *(path for path in Path("/").iterdir() if path.name not in USUAL),
        ]
        paths = re.compile(
            rf"(?<![\w~.{{}}/-])(?:{'|'.join(re.escape(str(path)) for path in own)})/"
        )
        documents = [
            *PROJECT.glob("*.md"),
            *PROJECT.joinpath("docs").rglob("*.md"),
            *PROJECT.joinpath("newsfragments").glob("*.md"),
        ]
        self.assertTrue(documents)
        for document in documents:
            self.assertIsNone(paths.search(document.read_text()), document)
        self.assertIsNotNone(paths.search(f"see `{PROJECT}/README.md`"))


class MakeTests(unittest.TestCase):
    """The set-up that every target of the Makefile performs."""

    @unittest.skipUnless(shutil.which("make"), "there is no make")
    def test_no_virtual_environments(self) -> None:
        """If Python has no module for virtual environments, make names the package to install and leaves no files."""
        with tempfile.TemporaryDirectory() as name:
            python = Path(name, "python")
            python.write_text("#!/bin/sh\nexit 1\n")
            python.chmod(0o755)
            command = ["make", "-C", str(PROJECT), "demo", f"PYTHON={python}", f"VENV={name}/venv"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("python3-venv", done.stderr)
            self.assertFalse(Path(name, "venv").exists())

    @unittest.skipUnless(shutil.which("make"), "there is no make")
    def test_half_made(self) -> None:
        """A virtual environment without pip, left by an interrupted set-up, is created again."""
        with tempfile.TemporaryDirectory() as name:
            tools = Path(name, "venv", "bin")
            tools.mkdir(parents=True)
            python = Path(name, "python")
            demo = f"echo echo the demo > {tools}/p2pshare; chmod +x {tools}/p2pshare"
            script = f'#!/bin/sh\n[ "$2" != venv ] || {{ cp $0 {tools}/python; {demo}; }}\n'
            for path, text in ((python, script), (tools / "python", "#!/bin/sh\nexit 1\n")):
                path.write_text(text)
                path.chmod(0o755)
            command = ["make", "-C", str(PROJECT), "demo", f"PYTHON={python}", f"VENV={name}/venv"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("the demo", done.stdout)


class WheelTests(unittest.TestCase):
    """A wheel, built from a copy of the project so that no file is left behind."""

    def setUp(self) -> None:
        if int(version("setuptools").split(".")[0]) < SETUPTOOLS_MIN:
            raise unittest.SkipTest(f"this setuptools is older than {SETUPTOOLS_MIN}")
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_wheel(self) -> None:
        """The wheel holds the package and the plugins and nothing else. Once unpacked, twistd finds both services."""
        wheel = self.build()
        self.check_contents(wheel)
        self.check_unpacked(wheel)

    def build(self) -> Path:
        source = self.folder / "source"
        for folder in ("p2pshare", "twisted", "tests", "docs"):
            shutil.copytree(PROJECT / folder, source / folder, ignore=COMPILED)
        for file in PROJECT.iterdir():
            if file.is_file() and not file.name.startswith((".", "_")):
                shutil.copy(file, source)
        # As pip does, without its search for another setuptools, for which it needs a network.
        build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
        built = subprocess.run(
            [sys.executable, "-c", build, str(self.folder)],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        (wheel,) = self.folder.glob("*.whl")
        return wheel

    def check_contents(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as opened:
            names = set(opened.namelist())
        information = f"p2pshare-{p2pshare.__version__}.dist-info/"
        sources = {
            str(path.relative_to(PROJECT))
            for pattern in (
                "p2pshare/**/*.py",
                "p2pshare/registry/page/*",
                "p2pshare/**/assets/**/*",
            )
            for path in PROJECT.glob(pattern)
            if path.is_file()
        }
        self.assertEqual(
            {name for name in names if not name.startswith(information)},
            {*sources, "p2pshare/py.typed", "twisted/plugins/p2pshare_plugins.py"},
        )

    def check_unpacked(self, wheel: Path) -> None:
        """Unpacking is all that an installer does for a package without compiled parts, besides writing its scripts."""
        target = self.folder / "unpacked"
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(target)
        # -S: no .pth file is read, so that an editable installation of this folder is not seen.
        packages = Path(twisted.__file__).parents[1]
        environ = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{packages}"}
        self.assertEqual(listed_by_twistd("-S", env=environ), TAPS)
        seen = "import importlib.util as util; print(util.find_spec('p2pshare').origin)"
        said = subprocess.run(
            [sys.executable, "-S", "-c", seen], env=environ, cwd="/", capture_output=True, text=True
        )
        self.assertEqual(said.stdout, f"{target / 'p2pshare' / '__init__.py'}\n")
