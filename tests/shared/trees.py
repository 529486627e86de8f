"""Trees of files: what a folder holds, to compare it with what it held."""


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
