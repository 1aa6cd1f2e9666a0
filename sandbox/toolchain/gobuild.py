"""One Go module of this folder → its programs in the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact, content_key
from sandbox.paths import CACHE, LOGS
from sandbox.toolchain.languages import find_go

_ONE_AT_A_TIME = threading.Lock()
"""One Go build uses every core; two at once only need twice the memory."""

_FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false")
"""No paths of this machine; and no debugging data, which the linker would drop: a tenth less to compile."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A Go module (a folder with go.mod, go.sum and perhaps sources) and what to build from it."""

    folder: Path
    within: str = ""
    """Where the sources are, in a module that several parts share."""
    label: str = ""
    """What it is called where that is not the folder's name."""
    programs: Mapping[str, str]
    """File name → Go package."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Go variables the linker sets, such as a version."""
    copies: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """File name → (Go module, path in it) of scripts which are used as they are."""
    scripts: Mapping[str, str] = field(default_factory=dict)
    """File name → file of the folder itself, also used as it is."""
    embedded: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """File name → (Go module, path in it) of data that the sources embed."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Package of a dependency, or one file of it, by import path → file of the sources that takes its place."""

    @property
    def name(self) -> str:
        return self.label or self.within or self.folder.name

    @property
    def sources(self) -> Path:
        return self.folder / self.within

    def ldflags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.variables.items())])


def module_version(folder: Path, module: str) -> str:
    """The version of `module` that `folder/go.mod` pins, with its leading v."""
    file = folder / "go.mod"
    match = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", file.read_text(), re.MULTILINE)
    if not match:
        raise ui.SandboxError(f"{file} does not require {module}; add `require {module} vX.Y.Z`.")
    return match[1]


def build(part: Part) -> Path:
    """The folder with the part's programs."""

    def compile_into(target: Path) -> None:
        with _sources(part) as (folder, flags):
            for file, package in part.programs.items():
                words = ["build", *flags, *_FLAGS, "-ldflags", part.ldflags(), "-o", str(target / file), package]
                run_go(part, words, folder=folder)
        for file, (module, path) in part.copies.items():
            _install(module_path(part, module, path), target / file)
        for file, source in part.scripts.items():
            _install(part.sources / source, target / file)

    return artifact(part.name, _inputs(part), compile_into)


@contextmanager
def _sources(part: Part) -> Iterator[tuple[Path, list[str]]]:
    """The folder to compile in, and the flags for it: the part's own, or a copy with what is embedded or replaced.

    Go takes no other file in the place of one in its module cache; in a copy that carries its dependencies it does.
    """
    if not part.embedded and not part.replaced:
        yield part.sources, []
        return
    with tempfile.TemporaryDirectory(prefix=f"runbook-{part.name}-") as scratch:
        module = Path(scratch, part.folder.name)
        folder = module / part.within
        shutil.copytree(part.sources, folder)
        for file in _module_files(part):
            shutil.copyfile(file, module / file.name)
        for file, (where, path) in part.embedded.items():
            shutil.copyfile(module_path(part, where, path), folder / file)
        run_go(part, ["mod", "vendor"], folder=module)
        for what, source in part.replaced.items():
            _replace(module / "vendor" / what, part.sources / source)
        yield folder, ["-mod=vendor"]


def _module_files(part: Part) -> list[Path]:
    return [file for file in (part.folder / "go.mod", part.folder / "go.sum") if file.exists()]


def _replace(what: Path, source: Path) -> None:
    """Put one file in the place of another, or of all sources of a package."""
    if what.is_dir():
        for file in what.glob("*.go"):
            file.unlink()
        shutil.copyfile(source, what / source.name)
    elif what.is_file():
        shutil.copyfile(source, what)
    else:
        raise ui.SandboxError(f"{what}: the module has no such file to replace by {source}; adapt the part to it.")


def module_path(part: Part, module: str, path: str) -> Path:
    """A file or folder of a module that the part pins, downloaded with it."""
    listed = run_go(part, ["mod", "download", "-json", f"{module}@{module_version(part.folder, module)}"])
    return Path(json.loads(listed)["Dir"], path)


def is_built(part: Part) -> bool:
    return (CACHE / part.name / content_key(_inputs(part))).is_dir()


def fetch(*parts: Part) -> None:
    """Download the sources of parts that are not built yet, in the background; `build` reports what goes wrong."""
    missing = [part for part in parts if not is_built(part)]

    def download() -> None:
        for part in missing:
            command = [find_go(), "list", "-e", "-deps", *part.programs.values()]
            subprocess.run(command, cwd=part.sources, env=_environment(), capture_output=True, check=False)

    threading.Thread(target=download, daemon=True).start()


def _install(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o755)


def test(part: Part) -> Path:
    """Run the module's own Go tests, once per content; the folder holds their output."""

    def run_tests(target: Path) -> None:
        # As built and unvetted: either would mean a second look at a thousand dependencies.
        with _sources(part) as (folder, flags):
            output = run_go(part, ["test", *flags, *_FLAGS, "-vet=off", "./..."], folder=folder)
        (target / "output.txt").write_text(output)

    return artifact(f"test-{part.name}", ["test", *_inputs(part, tests=True)], run_tests)


def _inputs(part: Part, *, tests: bool = False) -> list[Path | str]:
    return [_compiler(), *_source_inputs(part, tests=tests)]


def _source_inputs(part: Part, *, tests: bool) -> list[Path | str]:
    """Everything a build depends on besides the compiler, and no absolute path."""
    inputs: list[Path | str] = [
        part.ldflags(),
        *(
            repr(sorted(what.items()))
            for what in (part.programs, {**part.copies, **part.scripts}, {**part.embedded, **part.replaced})
        ),
    ]
    for file in sorted({*part.sources.rglob("*"), *_module_files(part)}):
        relative = file.relative_to(part.folder).as_posix()
        for_tests = file.name.endswith("_test.go") or "testdata" in file.parts
        for_people = file.suffix == ".md" or file.name.startswith(".")
        if file.is_file() and not for_people and (tests or not for_tests):
            inputs += [relative, file]
    return inputs


@cache
def _compiler() -> str:
    return ui.run([find_go(), "env", "GOVERSION", "GOOS", "GOARCH"], env=_environment())


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "GOROOT": "",  # the toolchain's own, whatever another Go left in the environment
        "GOFLAGS": "-buildvcs=false -mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",  # no C compiler needed, and programs that run in any root file system
        # The compiler collects garbage only where memory would run short: a tenth less time than at GOGC=400.
        "GOGC": os.environ.get("GOGC", "off"),
        "GOMEMLIMIT": os.environ.get("GOMEMLIMIT", "1GiB"),
    }


def run_go(part: Part, arguments: Sequence[str], *, folder: Path | None = None) -> str:
    """Run the Go command in the part's folder or a copy; its messages go to the part's build log as they come."""
    log = LOGS / f"build-{part.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(find_go()), *arguments]
    # The second try is for registries that drop a connection: what was downloaded or compiled is kept.
    for last_try in (False, True):
        with _ONE_AT_A_TIME, log.open("a") as sink:
            sink.write(f"$ {' '.join(command)}\n")
            sink.flush()
            start = log.stat().st_size
            done = subprocess.run(
                command,
                cwd=folder or part.sources,
                env=_environment(),
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                check=False,
            )
            sink.write(done.stdout)
        if done.returncode == 0:
            return done.stdout
        if last_try or arguments[0] == "test":
            break
    with log.open() as source:
        source.seek(start)
        lines = [line for line in source.read().splitlines() if not line.startswith("go: downloading")]
    tail = "\n".join(lines[-20:])
    raise ui.SandboxError(f"`go {arguments[0]}` of {part.name} failed:\n{tail}\nWhole output: {log}")
