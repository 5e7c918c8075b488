#!/usr/bin/env python3
"""Post what the check of a submission has printed as a comment on its pull request, or renew that comment.

    .ci/comment.py REPORT

Runs with a token that may write comments, on a report that a stranger may have written: REPORT is text in a code block
and nothing else. Which pull request it is comes from GitHub, not from the report. A pull request that changes anything
outside of model_zoo/ and leaderboards/ gets no comment: it could have changed the check itself.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PLACES = ("model_zoo/", "leaderboards/")
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


def comment(report: Path, passed: bool) -> str:
    """The report in a code block that it cannot end, for it holds no backtick."""
    content = report.read_bytes() if report.is_file() and not report.is_symlink() else b"no report"
    text = "".join(c for c in content.decode(errors="replace") if c == "\n" or (c.isprintable() and c != "`"))
    verdict = "Nothing is wrong with the files" if passed else "Something is wrong"
    told = f"{verdict}; the rows are unverified until a maintainer runs `vaebench verify`."
    return f"{MARK}\n{told}\n\n```text\n{text[:LONGEST]}\n```\n"


def is_submission(changed: list[Any]) -> bool:
    """Whether the files of a pull request, as GitHub lists them, are a submission's, and add a card."""
    names = [file["filename"] for file in changed]
    cards = [f for f in changed if f["status"] == "added" and re.fullmatch(r"model_zoo/.+\.toml", f["filename"])]
    return bool(cards) and all(name.startswith(PLACES) for name in names)


def main(report: Path) -> None:
    repository, sha = os.environ["REPOSITORY"], os.environ["HEAD_SHA"]
    head = f"{os.environ['HEAD_OWNER']}:{os.environ['HEAD_BRANCH']}"
    open_pulls = pages(f"repos/{repository}/pulls", "-f", "state=open", "-f", f"head={head}")
    for number in [pull["number"] for pull in open_pulls if pull["head"]["sha"] == sha]:
        if not is_submission(pages(f"repos/{repository}/pulls/{number}/files")):
            sys.stdout.write(f"pull request {number} is no submission\n")
            continue
        body = comment(report, os.environ["CONCLUSION"] == "success")
        there = pages(f"repos/{repository}/issues/{number}/comments")
        own = [c["id"] for c in there if c["user"]["type"] == "Bot" and c["body"].startswith(MARK)]
        if own:
            github(f"repos/{repository}/issues/comments/{own[0]}", "--method", "PATCH", body=body)
        else:
            github(f"repos/{repository}/issues/{number}/comments", "--method", "POST", body=body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
