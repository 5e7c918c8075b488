"""What CI does with a pull request that submits a model: files are copied as data, and the report is text."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vaebench.submission import tree

ROOT = Path(__file__).parents[2]
COLLECT, COMMENT = (ROOT / ".ci" / name for name in ("collect.py", "comment.py"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a hook
WORKFLOWS = ROOT / ".github" / "workflows"
CARD, WEIGHTS, ROWS = (
    "model_zoo/digits/mine.toml",
    "model_zoo/digits/mine.safetensors",
    "leaderboards/digits/mine.parquet",
)
BOARD = "leaderboards/digits.csv"
GOOD = {
    CARD: "card",
    WEIGHTS: "weights",
    ROWS: "rows",
    "leaderboards/digits/mine/likelihood/values-0.parquet": "v",
}


class Repository:
    """A repository with one commit, to which a second is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q")
        self.commit({BOARD: "vae\n", "model_zoo/digits/vae.toml": "vae", "README.md": "read"})

    def git(self, *arguments: str, text: str | None = None) -> str:
        names = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        command = ("git", *names, *arguments)
        done = subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout

    def add(self, path: str, text: str, mode: str = "100644") -> None:
        """Add to the index, whatever a file system makes of `path` and `mode`."""
        blob = self.git("hash-object", "-w", "--stdin", text=text).strip()
        self.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")

    def commit(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            self.add(path, text)
        self.git("commit", "-q", "-m", "x")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def collect(repository: Repository, out: Path) -> tuple[int, str]:
    """The exit code and the output for the newest commit."""
    command = [sys.executable, COLLECT, "HEAD", out]
    done = subprocess.run(command, cwd=repository.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_submitted_files_are_copied_as_they_are(repository: Repository, tmp_path: Path) -> None:
    repository.commit(GOOD)
    assert collect(repository, tmp_path / "out") == (0, "")
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_text() for p in (tmp_path / "out").rglob("*.*")}
    assert found == GOOD


@pytest.mark.parametrize("path", ["README.md", ".github/workflows/submission.yml", ".gitattributes", "vaebench/x.py"])
def test_a_change_elsewhere_makes_it_no_submission(path: str, repository: Repository, tmp_path: Path) -> None:
    repository.commit({**GOOD, path: "x"})
    assert collect(repository, tmp_path / "out") == (0, "no submission\n")
    assert not (tmp_path / "out").exists()


def test_a_core_file_that_is_renamed_into_the_zoo_is_no_submission(repository: Repository, tmp_path: Path) -> None:
    repository.git("rm", "-q", "--cached", "README.md")
    repository.commit({**GOOD, "model_zoo/digits/read.md": "read"})
    assert collect(repository, tmp_path / "out") == (0, "no submission\n")


@pytest.mark.parametrize("name", ["con.toml", "aux", "com1.safetensors", "mine."])
def test_names_that_windows_cannot_hold(name: str, repository: Repository, tmp_path: Path) -> None:
    repository.commit({**GOOD, f"model_zoo/digits/{name}": "x"})
    told = f"'model_zoo/digits/{name}' has a name that Windows cannot hold\n"
    assert collect(repository, tmp_path / "out") == (1, told)


def test_rows_without_a_card_are_no_submission(repository: Repository, tmp_path: Path) -> None:
    repository.commit({BOARD: "x", "model_zoo/digits/vae.toml": "x"})
    assert collect(repository, tmp_path / "out") == (0, "no submission\n")


MODES = {"120000": "/etc/passwd", "100755": "#!/bin/sh", "160000": "x"}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_plain_file(mode: str, repository: Repository, tmp_path: Path) -> None:
    """A symbolic link, an executable and a submodule."""
    repository.add(CARD, "card")
    if mode == "160000":
        head = repository.git("rev-parse", "HEAD").strip()
        repository.git("update-index", "--add", "--cacheinfo", f"{mode},{head},{WEIGHTS}")
    else:
        repository.add(WEIGHTS, MODES[mode], mode)
    repository.git("commit", "-q", "-m", "x")
    code, told = collect(repository, tmp_path / "out")
    assert (code, told) == (1, f"'{WEIGHTS}' has mode {mode}; only plain files, not executable, can be submitted\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["modified", "deleted"])
def test_what_belongs_to_others_is_not_changed(change: str, repository: Repository, tmp_path: Path) -> None:
    if change == "deleted":
        repository.git("rm", "-q", "--cached", "model_zoo/digits/vae.toml")
    else:
        repository.add("model_zoo/digits/vae.toml", "other")
    repository.commit(GOOD)
    code, told = collect(repository, tmp_path / "out")
    assert code == 1
    assert told.startswith("'model_zoo/digits/vae.toml' is changed or removed")
    assert told.count("\n") == 1


ODD = [".x", "a b", "a\nb", "-x", "Mine.toml", "$(x).parquet", "\x1b[31m", "\u202e"]


@pytest.mark.parametrize("name", ODD)
def test_names_are_plain(name: str, repository: Repository, tmp_path: Path) -> None:
    path = f"model_zoo/digits/{name}"
    repository.commit({**GOOD, path: "x"})
    assert collect(repository, tmp_path / "out") == (
        1,
        f"{path!a} has a name that is not of a-z, 0-9, '.', '_' and '-'\n",
    )
    assert not (tmp_path / "out").exists()


def test_files_beyond_the_limit_are_not_copied(repository: Repository, tmp_path: Path) -> None:
    repository.commit({CARD: "card", WEIGHTS: "0" * (50 * 2**20 + 1)})
    assert collect(repository, tmp_path / "out") == (1, f"'{WEIGHTS}' has 52428801 bytes, more than 52428800\n")
    assert not (tmp_path / "out").exists()


def test_filters_and_attributes_of_the_pull_request_have_no_effect(repository: Repository, tmp_path: Path) -> None:
    repository.git("config", "filter.evil.smudge", f"touch {tmp_path / 'executed'}")
    repository.commit({**GOOD, "model_zoo/digits/.gitattributes": "* filter=evil"})
    assert collect(repository, tmp_path / "out")[0] == 1
    assert not (tmp_path / "executed").exists()


# --- the comment --------------------------------------------------------------------------------------------------

GH = """#!{python}
import json, sys
answers = json.load(open({answers!r}))
with open({log!r}, "a") as log:
    body = json.load(sys.stdin)["body"] if "--input" in sys.argv else None
    log.write(json.dumps([sys.argv[2:], body]) + "\\n")
print(json.dumps(answers.get(sys.argv[2], {{}})))
"""
PULL = {"number": 7, "head": {"sha": "abc"}}
MOVED = {"filename": "model_zoo/digits/vae-x.toml", "status": "renamed"}
ADDED = [{"filename": name, "status": "added"} for name in (CARD, WEIGHTS)]


def comment(
    tmp_path: Path,
    report: bytes | None,
    files: list[dict[str, str]] = ADDED,
    comments: list[Any] | None = None,
    sha: str = "abc",
) -> list[tuple[list[str], str]]:
    """What is written to GitHub: the arguments and the text of each comment."""
    answers, log, folder = tmp_path / "answers.json", tmp_path / "log", tmp_path / "bin"
    pages = {"pulls": [[PULL]], "pulls/7/files": [files[:1], files[1:]], "issues/7/comments": [comments or []]}
    answers.write_text(json.dumps({f"repos/me/vaebench/{path}": page for path, page in pages.items()}))
    folder.mkdir(exist_ok=True)
    (folder / "gh").write_text(GH.format(python=sys.executable, answers=str(answers), log=str(log)))
    (folder / "gh").chmod(0o755)
    if report is not None:
        (tmp_path / "report.txt").write_bytes(report)
    about = {
        "REPOSITORY": "me/vaebench",
        "HEAD_SHA": sha,
        "HEAD_OWNER": "you",
        "HEAD_BRANCH": "a;b",
        "CONCLUSION": "success",
    }
    environment = {**os.environ, **about, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, COMMENT, tmp_path / "report.txt"], env=environment, check=True, timeout=60)
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert "head=you:a;b" in calls[0][0]
    return [(arguments, body) for arguments, body in calls if body is not None]


def test_the_report_is_posted_as_a_code_block(tmp_path: Path) -> None:
    ((arguments, body),) = comment(tmp_path, "│ mine │ 1. 2.6 ± 0.1 │\n".encode())
    assert arguments[:3] == ["repos/me/vaebench/issues/7/comments", "--method", "POST"]
    assert body.endswith("\n\n```text\n│ mine │ 1. 2.6 ± 0.1 │\n\n```\n")
    assert "Nothing is wrong with the files; the rows are unverified" in body


def test_the_report_cannot_leave_its_block(tmp_path: Path) -> None:
    evil = b"```\n@everyone ![](https://example.org/x)\n\x1b[31m~~~\r\n" + b"\xff" * 9 + b"`" * 9 + b"x" * 10**6
    ((_, body),) = comment(tmp_path, evil)
    _, opening, rest = body.partition("```text\n")
    inside, closing, end = rest.rpartition("```")
    assert (opening, closing, end) == ("```text\n", "```", "\n")
    assert "`" not in inside
    assert "\x1b" not in inside
    assert len(body) < 65_536


def test_an_earlier_comment_is_renewed_and_nobody_elses(tmp_path: Path) -> None:
    comments = [
        {"id": 1, "user": {"type": "User"}, "body": "<!-- submission -->"},
        {"id": 2, "user": {"type": "Bot"}, "body": "<!-- submission -->\nold"},
        {"id": 3, "user": {"type": "Bot"}, "body": "other"},
    ]
    ((arguments, _),) = comment(tmp_path, b"new", comments=comments)
    assert arguments[:3] == ["repos/me/vaebench/issues/comments/2", "--method", "PATCH"]


@pytest.mark.parametrize(
    ("files", "sha"),
    [
        ([*ADDED, {"filename": ".github/workflows/submission.yml", "status": "modified"}], "abc"),
        ([*ADDED, {"filename": "model_zoo_/x", "status": "added"}], "abc"),
        ([*ADDED, {**MOVED, "previous_filename": "vaebench/core/model.py"}], "abc"),
        ([*ADDED, {**MOVED, "previous_filename": ".ci/comment.py", "status": "added"}], "abc"),
        ([{"filename": CARD, "status": "modified"}], "abc"),
        ([], "abc"),
        (ADDED, "of an older commit"),
    ],
)
def test_what_is_no_submission_gets_no_comment(files: list[dict[str, str]], sha: str, tmp_path: Path) -> None:
    assert comment(tmp_path, b"x", files=files, sha=sha) == []


@pytest.mark.parametrize("report", [b"no submission\n", b"", b"\n", None])
def test_what_has_not_been_checked_is_not_called_right(report: bytes | None, tmp_path: Path) -> None:
    ((_, body),) = comment(tmp_path, report)
    assert "Nothing is wrong" not in body
    assert "Nothing was checked" in body


CHANGED = [
    {"filename": "model_zoo/digits/vae.toml", "status": "modified"},
    {"filename": "model_zoo/digits/vae.toml", "status": "removed"},
    {"filename": "leaderboards/digits/vae.parquet", "status": "modified"},
    {"filename": "model_zoo/digits/x.toml", "status": "renamed", "previous_filename": "model_zoo/digits/vae.toml"},
    {"filename": "model_zoo/digits/x.toml", "status": "added", "previous_filename": "model_zoo/digits/vae.toml"},
    {"filename": "model_zoo/digits/con.toml", "status": "added"},
    {"filename": "model_zoo/digits/x.", "status": "added"},
    {"filename": "model_zoo/digits/Mine.toml", "status": "added"},
    {"filename": "leaderboards/coins.csv", "status": "added"},
    {"filename": "leaderboards/digits/ood-detection.csv", "status": "added"},
]


@pytest.mark.parametrize("changed", CHANGED)
def test_a_passed_check_does_not_excuse_what_github_lists(changed: dict[str, str], tmp_path: Path) -> None:
    ((_, body),) = comment(tmp_path, b"fine", files=[*ADDED, changed])
    assert "Something is wrong" in body
    assert changed["filename"] in body


# --- the workflows ------------------------------------------------------------------------------------------------


def steps(name: str) -> str:
    """A workflow without its comments."""
    return re.sub(r"(^|\s)#.*", "", (WORKFLOWS / name).read_text())


def test_the_tree_of_a_submission_is_written_once() -> None:
    """GitHub's own filter cannot read it, and says the same."""
    (paths,) = re.findall(r"paths: \[(.*)\]", steps("submission.yml"))
    assert paths == ", ".join(f'"{root}/**"' for root in tree.ROOTS)
    for script in (COLLECT, COMMENT):
        assert not re.search("model_zoo|leaderboards", script.read_text())
        assert "from vaebench.submission import tree" in script.read_text()


def test_the_scripts_need_no_package_but_this_checkout() -> None:
    code = "import sys; sys.modules.update(dict.fromkeys(['click', 'numpy', 'pyarrow', 'torch'])); "
    for script in (COLLECT, COMMENT):
        run = f"{code}import runpy; runpy.run_path({str(script)!r})"
        subprocess.run([sys.executable, "-I", "-S", "-c", run], check=True, timeout=60)


def test_actions_are_pinned_by_commit() -> None:
    used = [use for path in WORKFLOWS.glob("*.yml") for use in re.findall(r"uses: (.*)", path.read_text())]
    assert len(used) >= 7
    for use in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


def test_the_check_can_only_read_and_the_comment_executes_nothing_submitted() -> None:
    check, post = steps("submission.yml"), steps("submission-comment.yml")
    for workflow in (check, post):
        assert "pull_request_target" not in workflow
        assert "secrets." not in workflow
        assert all("persist-credentials: false" in part for part in workflow.split("actions/checkout")[1:])
        for script in re.findall(r"run: (?:\|\n((?:\s{10,}.*\n)+)|(.*))", workflow):
            assert "${{" not in "".join(script)  # else a branch could be named as a command
    assert re.findall(r"permissions:\n((?:  .*\n)+)", check) == ["  contents: read\n"]
    assert "write" not in check
    assert re.findall(r": write", post) == [": write"]
    assert "pull-requests: write" in post
    assert "ref:" not in post
