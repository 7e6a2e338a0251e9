# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A forge's runner, as far as the example workflows need one: plays a job's steps in a directory.

Shell steps are run as GitHub does (bash --noprofile --norc -eo pipefail); the few actions are
functions. Outputs, paths and the summary go through the same files.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass
class Job:
    """One run of a job. `caches` outlives it: key -> directories with their paths."""

    workflow: dict
    workspace: Path
    # where what is cached is kept
    store: Path
    # of actions/checkout: path in the workspace -> puts it there
    checkouts: dict
    caches: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)
    # what it left behind
    outputs: dict = field(default_factory=dict)
    log: list = field(default_factory=list)
    stdout: str = ""
    uploaded: list = field(default_factory=list)
    failed: str = ""
    _paths: list = field(default_factory=list)
    _after: list = field(default_factory=list)

    @property
    def summary(self):
        path = self.workspace / "_summary"
        return path.read_text() if path.exists() else ""

    def run(self):
        """Play the only job; returns itself."""
        (job,) = self.workflow["jobs"].values()
        self.env = {k: str(v) for k, v in self.workflow.get("env", {}).items()} | self.env
        for step in job["steps"]:
            if not self._wanted(step.get("if", "success()")):
                continue
            play = self._shell if "run" in step else self._action
            outcome = play(step)
            if "id" in step:
                self.outputs.setdefault(step["id"], {})
                self.outputs[step["id"], "outcome"] = "success" if outcome else "failure"
            self.log.append((step["name"], outcome))
            if not outcome and not self.failed:
                self.failed = step["name"]
        if not self.failed:
            for save in self._after:
                save()
        return self

    def _wanted(self, condition):
        words = [part.strip() for part in condition.split("&&")]
        return all(self._holds(word) for word in words) and (not self.failed or "always()" in words)

    def _holds(self, word):
        if word in ("always()", "success()"):
            return True
        left, operator, right = re.fullmatch(r"(\S+) (==|!=) '([^']*)'", word).groups()
        return (self.value(left) == right) == (operator == "==")

    def value(self, expression):
        """What an expression of the few kinds that are used stands for."""
        kind, _, rest = expression.partition(".")
        if kind == "env":
            return self.env[rest]
        if expression == "github.ref":
            return "refs/pull/1/merge"
        step, what, *name = rest.split(".")
        assert kind == "steps", expression
        if what == "outcome":
            return self.outputs.get((step, "outcome"), "skipped")
        return self.outputs.get(step, {}).get(name[0], "")

    def filled(self, text):
        """`text` with its expressions replaced."""
        return _EXPRESSION.sub(lambda match: self.value(match[1]), str(text))

    def _shell(self, step):
        files = {name: self.workspace / f"_{name}" for name in ("output", "path", "summary")}
        environment = (
            os.environ
            | self.env
            | {
                "GITHUB_WORKSPACE": str(self.workspace),
                "GITHUB_OUTPUT": str(files["output"]),
                "GITHUB_PATH": str(files["path"]),
                "GITHUB_STEP_SUMMARY": str(files["summary"]),
                "PATH": ":".join([*reversed(self._paths), os.environ["PATH"]]),
            }
        )
        files["output"].write_text("")
        files["path"].write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.workspace,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.stdout += done.stdout + done.stderr
        self._paths += files["path"].read_text().split("\n")[:-1]
        if "id" in step:
            self.outputs[step["id"]] = read_outputs(files["output"].read_text())
        return done.returncode == 0

    def _action(self, step):
        name = step["uses"].partition("@")[0]
        given = {key: self.filled(value) for key, value in step.get("with", {}).items()}
        if name == "actions/checkout":
            self.checkouts[given.get("path", ".")](self.workspace / given.get("path", "."))
        elif name.startswith("actions/cache"):
            self._cache(step, name, given)
        elif name == "actions/upload-artifact":
            place = self.workspace / given["path"]
            self.uploaded = sorted(p.name for p in place.iterdir()) if place.is_dir() else []
        else:
            raise AssertionError(f"no action {name}")
        return True

    def _cache(self, step, name, given):
        paths = [Path(line) for line in given["path"].split("\n")]
        assert given["key"]
        assert all(path.is_absolute() for path in paths)

        def save():
            # as the real one: what is there is not written again, and nothing makes no cache
            if given["key"] in self.caches or not any(path.exists() for path in paths):
                return
            self.caches[given["key"]] = kept = {}
            for path in paths:
                if path.exists():
                    kept[path] = Path(tempfile.mkdtemp(dir=self.store)) / path.name
                    shutil.copytree(path, kept[path], symlinks=True)

        if name.endswith("/save"):
            save()
            return
        like = given.get("restore-keys")
        known = [given["key"]] * (given["key"] in self.caches)
        known += [key for key in reversed(self.caches) if like and key.startswith(like)]
        for path, content in self.caches[known[0]].items() if known else ():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(content, path, symlinks=True)
        if "id" in step:
            self.outputs[step["id"]] = {"cache-hit": str(given["key"] in known[:1]).lower()}
        if not name.endswith("/restore"):
            self._after.append(save)


def read_outputs(text):
    """The file $GITHUB_OUTPUT: NAME=VALUE lines, and NAME<<END ... END."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        block = re.fullmatch(r"([\w-]+)<<(.+)", line)
        if block:
            inner = []
            while (each := next(lines)) != block[2]:
                inner.append(each)
            found[block[1]] = "\n".join(inner)
        elif line:
            name, equals, value = line.partition("=")
            assert equals, line
            found[name] = value
    return found
