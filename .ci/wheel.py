"""Fails unless the distributions in the folder named can be published: their size, and which files the wheel holds."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

LIMIT = 30 * 10**6
"""Bytes of a distribution."""
BUNDLED = ("digits", "features", "shapes", "two-moons")
"""The folders of the zoo whose weights are installed."""


def bundled(file: PurePosixPath) -> PurePosixPath | None:
    """Where the wheel has a file of the repository: None for one that it leaves out."""
    room, depth = file.parts[0], len(file.parts)
    if room == "vaebench":
        return file
    if room == "model_zoo" and depth == 3 and (file.suffix == ".toml" or file.parts[1] in BUNDLED):
        return PurePosixPath("vaebench/_model_zoo", *file.parts[1:])
    if room == "leaderboards" and depth < 4 and file.suffix in (".csv", ".parquet"):
        return PurePosixPath("vaebench/_leaderboards", *file.parts[1:])
    return None


def main(folder: Path) -> None:
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    tracked = [PurePosixPath(name) for name in listed.split("\0") if name]
    wanted = {str(place) for file in tracked if (place := bundled(file)) is not None}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    with tarfile.open(source) as archive:
        kept = {PurePosixPath(*PurePosixPath(member.name).parts[1:]) for member in archive.getmembers()}
    faults = [f"{path.name} has {path.stat().st_size} bytes" for path in (wheel, source) if path.stat().st_size > LIMIT]
    faults += [f"the wheel lacks {name}" for name in sorted(wanted - found)]
    faults += [f"the wheel should not hold {name}" for name in sorted(found - wanted)]
    faults += [f"the sdist lacks {file}" for file in tracked if bundled(file) is not None and file not in kept]
    newest = ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"]
    tag = subprocess.run(newest, capture_output=True, text=True, check=False).stdout.strip()
    if tag not in ("", f"v{wheel.name.split('-')[1]}"):
        faults.append(f"{wheel.name} is not of the newest tag, {tag}")
    print(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size} bytes")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
