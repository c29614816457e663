import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
_OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment of its own that borrows the libraries of the one that runs the tests."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def site_packages(self) -> Path:
        return next(self.folder.rglob("site-packages"))

    def run(self, *arguments: str | Path, variables: Mapping[str, str] | None = None) -> str:
        """Run the interpreter as a user would who exported nothing but `variables`; give what it printed."""
        inherited = {k: v for k, v in os.environ.items() if k not in {"nnUNet_extTrainer", "PYTHONPATH"}}
        command = [str(self.python), *map(str, arguments)]
        environment = {**inherited, **(variables or {})}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def answer(self, code: str, *, variables: Mapping[str, str] | None = None):
        """Run a piece of code and read the JSON of its last line."""
        return json.loads(self.run("-c", code, variables=variables).splitlines()[-1])

    def pip(self, command: str, *options: str | Path) -> None:
        offline = () if command == "uninstall" else _OFFLINE
        self.run("-m", "pip", command, "--quiet", "--disable-pip-version-check", *offline, *options)


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory):
    """Build environments in which nnunet-cascade is not installed, whatever the outer one holds."""

    def build(name: str) -> Environment:
        environment = Environment(folder=tmp_path_factory.mktemp(name))
        venv.create(environment.folder, with_pip=False, symlinks=os.name != "nt")
        borrowed = environment.folder / "borrowed"
        borrowed.mkdir()
        for folder in dict.fromkeys(p for p in sys.path if Path(p).name in {"site-packages", "dist-packages"}):
            for entry in Path(folder).iterdir():
                link, ours = borrowed / entry.name, "nnunet_cascade" in entry.name
                if not ours and entry.suffix != ".pth" and not link.exists():
                    link.symlink_to(entry, target_is_directory=entry.is_dir())
        # a name that sorts last: what is installed here goes before what is borrowed
        (environment.site_packages / "zz_borrowed.pth").write_text(f"{borrowed}\n")
        return environment

    return build


@pytest.fixture(scope="session")
def wheel(new_environment):
    """The wheel of this checkout."""
    environment = new_environment("wheel")
    environment.pip("wheel", "--wheel-dir", environment.folder, CHECKOUT)
    return next(environment.folder.glob("*.whl"))
