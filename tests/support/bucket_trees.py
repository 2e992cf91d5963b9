"""What a set holds, in a folder or a bucket."""

from pathlib import Path

from bokehsynth.stores import StoredPath


def tree(root: StoredPath) -> dict[str, bytes]:
    """The files or objects below `root` by their path in it, without logs and locks."""
    if isinstance(root, Path):
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    else:
        folders, files = [root.key], {}
        while folders:
            for key in root.bucket.list_folder(folders.pop()):
                try:
                    files[key.removeprefix(f"{root.key}/")] = root.bucket.read(key, 1 << 30)[0]
                except FileNotFoundError:
                    folders.append(key)
    return {name: data for name, data in files.items() if not name.startswith("logs/") and not name.endswith(".lock")}
