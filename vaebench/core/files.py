"""Files: where things are, hashes, and writing that never leaves half a file."""

import glob
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from vaebench.core.errors import DataError, UserError

LEFT_SECONDS = 3600.0  # a temporary file of this age is of a writer that was killed
_PLACE = re.compile(r"(?<![\w./:\\~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"()\[\]]+[/\\])+([^\s/\\:;,'\"()\[\]]*)")
_PACKAGE = Path(__file__).resolve().parent.parent
_ZOO = "VAEBENCH_ZOO"


def _shipped(name: str) -> Path:
    """A top-level folder of the project: inside the installed package, else beside it in a checkout."""
    inside = _PACKAGE / f"_{name}"
    return inside if inside.is_dir() else _PACKAGE.parent / name


def zoo() -> Path:
    """The folder of shipped cards, and of the weights that are shipped with them: in a checkout, of all."""
    return _shipped("model_zoo")


def zoos() -> list[Path]:
    """The folders that hold weights of the zoo, first to last: the shipped one, $VAEBENCH_ZOO, `model_zoo` here.

    Raises UserError if $VAEBENCH_ZOO is not a folder.
    """
    named = [Path(folder)] if (folder := os.environ.get(_ZOO)) else []
    for each in named:
        if not each.is_dir():
            raise UserError(f"{_ZOO} = {each} is not a folder; name one that holds weights, or unset it")
    return [zoo(), *named, Path("model_zoo")]


@contextmanager
def zoo_at(folder: Path) -> Iterator[None]:
    """Within the block $VAEBENCH_ZOO is `folder`, in this process and in those that it starts."""
    before = os.environ.get(_ZOO)
    os.environ[_ZOO] = str(folder)
    try:
        yield
    finally:
        del os.environ[_ZOO]
        os.environ |= {} if before is None else {_ZOO: before}


def shipped_boards() -> Path:
    """The folder of shipped leaderboards."""
    return _shipped("leaderboards")


def own_boards() -> Path:
    """The folder of one's own leaderboards: $VAEBENCH_RESULTS, else `results` here."""
    return Path(os.environ.get("VAEBENCH_RESULTS") or "results")


def cache() -> Path:
    """Where downloads and finished blocks are kept: $VAEBENCH_CACHE, else the user's cache folder."""
    return Path(os.environ.get("VAEBENCH_CACHE") or platformdirs.user_cache_dir("vaebench"))


def default_data() -> Path:
    """The torchvision root used when none is named: $VAEBENCH_DATA, else a folder of the cache."""
    return Path(os.environ.get("VAEBENCH_DATA") or cache() / "data")


def check_plain(path: Path) -> int:
    """The bytes of a file, which is not opened for it.

    Raises DataError if it is a pipe or a device; OSError if absent.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        raise DataError(f"cannot read {path}: it is not a regular file")
    return about.st_size


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex. Raises DataError if it cannot be read."""
    try:
        check_plain(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def unplaced(text: str) -> str:
    """`text` without the folders of this machine: of an absolute path its last name is left.

    Home, the working folder and the cache are known by name, whatever signs they hold; others by their look.
    """
    for folder in sorted({str(Path.home()), str(Path.cwd()), str(cache().absolute())}, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(rf"(?<![\w./-]){re.escape(folder + os.sep)}", "", text)
    return _PLACE.sub(lambda found: found[1] or "/", text)


def check_writable(folder: Path) -> None:
    """Raises UserError if `folder` could not be made or written to; changes nothing. Said before hours of work."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise UserError(f"cannot write in {folder}: {there} is not a folder; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write in {folder}: no permission on {there}; choose another folder")


def move(file: Path, path: Path) -> None:
    """Rename `file`, which is on disk, to `path` of the same folder; on disk once this returns. OSError."""
    os.replace(file, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a machine that dies, sees the old file or the new, whole.

    Temporary file in the same folder, fsync, rename, fsync of the folder; the temporary files that writers of `path`
    left more than an hour ago, when they were killed, go. Raises UserError if it cannot be written; the old file is
    then untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
            with suppress(OSError):  # another writer may remove it first
                if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                    left.unlink()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        move(Path(temporary), path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_changed(path: Path, content: bytes) -> None:
    """`write_atomic`, but a file that holds `content` already is left untouched."""
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)


def under(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file at any depth below `folder`, but for locks; none where there is no such folder."""
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may remove it first
            if stat.S_ISREG((status := path.lstat()).st_mode) and path.suffix != ".lock":
                yield path, status


def prune(found: Iterable[tuple[Path, os.stat_result]], max_bytes: int) -> int:
    """Remove the files of `found` touched longest ago until at most `max_bytes` are left; the bytes removed."""
    oldest_first = sorted(found, key=lambda each: (each[1].st_mtime_ns, each[0].name))
    excess, removed = sum(status.st_size for _, status in oldest_first) - max_bytes, 0
    for path, status in oldest_first:
        if removed >= excess:
            break
        with suppress(OSError):
            path.unlink()
            removed += status.st_size
    return removed
