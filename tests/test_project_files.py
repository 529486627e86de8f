"""Files of the project: changelog, citation, workflow, hooks and templates say what is so."""

import importlib.util
import re
import shlex
import stat
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".github").exists(), reason="a source distribution has no .github")

spec = importlib.util.spec_from_file_location("release_notes", ROOT / "tools/release_notes.py")
assert spec is not None and spec.loader is not None
release_notes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release_notes)


def version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_changelog_and_citation_have_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, released, *_ = release_notes.sections(text)
    assert (first, released) == ("Unreleased", version())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version()
    assert f"## {version()} ({citation['date-released']})" in text


def test_notes_of_a_tag_are_its_section(capsys):
    assert release_notes.sections("# C\n\n## Unreleased\n\n- b\n\n## 1.0.0 (2026-01-01)\n\n- a\n") == {
        "Unreleased": "- b",
        "1.0.0": "- a",
    }
    assert release_notes.main(f"v{version()}") == 0
    assert capsys.readouterr().out.startswith("- ")
    assert release_notes.main("v9.9.9") == 1
    assert f"v{version()}" in capsys.readouterr().err


def test_the_workflow_runs_what_ci_run_runs():
    path = ROOT / ".ci/run"
    assert path.stat().st_mode & stat.S_IXUSR
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in workflow["jobs"].items()}
    assert commands == {"test": [".ci/run"], "slow": ["make test-slow"]}
    oldest = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert oldest is not None and workflow["jobs"]["test"]["strategy"]["matrix"]["python"][0] == oldest[1]
    assert re.search(r"^test-slow:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_hooks_fetch_nothing():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert len(hooks) >= 3
    for hook in hooks:
        assert hook["language"] == "system"
        program, *rest = shlex.split(hook["entry"])
        assert program.startswith(".venv/bin/"), "a hook runs a program of the environment that make makes"
        for word in rest:
            assert not word.endswith(".py") or (ROOT / word).is_file(), word


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_an_issue_form_has_fields(name):
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in form["body"])
