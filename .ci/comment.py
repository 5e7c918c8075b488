#!/usr/bin/env python3
"""Post what the check of a submission has printed as a comment on its pull request, or renew that comment.

    .ci/comment.py REPORT

Runs with a token that may write comments, on a report that a stranger may have written: REPORT is text in a code block
and nothing else. Which pull request it is comes from GitHub, not from the report. A pull request that changes anything
outside of the folders of `vaebench/submission/tree.py`, were it by giving it another name, gets no comment: it could
have changed the check itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package of this checkout, which is not installed
from vaebench.submission import tree

MARK = "<!-- submission -->"
LONGEST = 60_000  # characters; GitHub takes 65,536


def github(path: str, *options: str, body: str | None = None) -> Any:
    """The answer of GitHub's interface; `body` is sent as the comment's."""
    sent = None if body is None else json.dumps({"body": body})
    more = ["--input", "-"] if sent is not None else []
    command = ["gh", "api", path, *options, *more]
    return json.loads(subprocess.run(command, input=sent, stdout=subprocess.PIPE, text=True, check=True).stdout)


def pages(path: str, *options: str) -> list[Any]:
    return [item for page in github(path, "--method", "GET", "--paginate", "--slurp", *options) for item in page]


def comment(report: Path, passed: bool, faults: Mapping[str, str]) -> str:
    """The report in a code block that it cannot end, for it holds no backtick.

    Nothing is wrong where the check has passed and has looked at a submission, and GitHub's list of files has no fault.
    """
    content = report.read_bytes() if report.is_file() and not report.is_symlink() else b""
    content = "".join(f"{path!a} {text}\n" for path, text in faults.items()).encode() + content
    text = "".join(c for c in content.decode(errors="replace") if c == "\n" or (c.isprintable() and c != "`"))
    if not text.strip() or "no submission" in text.splitlines():
        told = "Nothing was checked: the check has seen no submission, or has broken down."
    elif passed and not faults:
        told = "Nothing is wrong with the files; the rows are unverified until a maintainer runs `vaebench verify`."
    else:
        told = "Something is wrong; the rows are unverified until a maintainer runs `vaebench verify`."
    return f"{MARK}\n{told}\n\n```text\n{text[:LONGEST]}\n```\n"


def changes(listed: list[Any]) -> list[tree.Change]:
    """The files of a pull request, as GitHub lists them."""
    return [tree.Change(file["filename"], file["status"], file.get("previous_filename")) for file in listed]


def main(report: Path) -> None:
    repository, sha = os.environ["REPOSITORY"], os.environ["HEAD_SHA"]
    head = f"{os.environ['HEAD_OWNER']}:{os.environ['HEAD_BRANCH']}"
    open_pulls = pages(f"repos/{repository}/pulls", "-f", "state=open", "-f", f"head={head}")
    for number in [pull["number"] for pull in open_pulls if pull["head"]["sha"] == sha]:
        found = changes(pages(f"repos/{repository}/pulls/{number}/files"))
        if not tree.is_submission(found):
            sys.stdout.write(f"pull request {number} is no submission\n")
            continue
        body = comment(report, os.environ["CONCLUSION"] == "success", tree.faults(found))
        there = pages(f"repos/{repository}/issues/{number}/comments")
        own = [c["id"] for c in there if c["user"]["type"] == "Bot" and c["body"].startswith(MARK)]
        if own:
            github(f"repos/{repository}/issues/comments/{own[0]}", "--method", "PATCH", body=body)
        else:
            github(f"repos/{repository}/issues/{number}/comments", "--method", "POST", body=body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
