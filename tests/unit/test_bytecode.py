"""The file of all modules' byte code: what comes from it is what Python would have loaded itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A program with a package of its own that uses the importer; prints what it found and from where.
_PROGRAM = """
import sys
sys.path.append({root!r})
sys.path.insert(0, {checkout!r})
from rdock.bytecode import Importer
importer = Importer({root!r} + "/pack")
importer.read()
sys.meta_path.insert(0, importer)
{meanwhile}
import pack.inner.first
first = pack.inner.first
print(first.VALUE, type(first.__spec__.loader).__name__, first.__file__, pack.inner.__path__)
importer.update()
"""
_CHECKOUT = str(Path(__file__).resolve().parents[2])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inner = tmp_path / "pack" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "first.py").write_text("from __future__ import annotations\nVALUE = 1\n")
    return tmp_path


def run(root: Path, *flags: str, meanwhile: str = "") -> list[str]:
    code = _PROGRAM.format(root=str(root), checkout=_CHECKOUT, meanwhile=meanwhile)
    done = subprocess.run([sys.executable, "-I", *flags, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def table(root: Path) -> Path:
    found = list((root / "pack" / "__pycache__").glob("start.*"))
    assert len(found) == 1
    return found[0]


def test_descriptors_closed_meanwhile_are_not_read(root: Path) -> None:
    """A forked process closes all it does not know, and then has other files at the same numbers."""
    run(root)
    others = "import os; os.closerange(3, 99); [os.open('/dev/zero', os.O_RDONLY) for _ in range(9)]"
    assert run(root, meanwhile=others)[:2] == ["1", "Importer"]


@pytest.mark.parametrize("place", [30, -40])
def test_damaged_inside(root: Path, place: int) -> None:
    """The index or a module's code: Python finds the modules itself then, and the file is made anew."""
    run(root)
    content = bytearray(table(root).read_bytes())
    content[place : place + 30 if place > 0 else None] = b"\xff" * len(
        content[place : place + 30 if place > 0 else None]
    )
    table(root).write_bytes(content)
    assert run(root)[:2] == ["1", "SourceFileLoader"]
    assert run(root)[:2] == ["1", "Importer"]


def test_file_replaced_meanwhile(root: Path) -> None:
    """The index is that of another file then, in which the places are other modules'."""
    run(root)
    new = f"import os, shutil; shutil.copy({str(table(root))!r}, 'new'); os.rename('new', {str(table(root))!r})"
    assert run(root, meanwhile=f"import os; os.chdir({str(root)!r}); {new}")[:2] == ["1", "SourceFileLoader"]
    assert run(root)[:2] == ["1", "Importer"]


def test_the_second_start_comes_from_the_file(root: Path) -> None:
    assert run(root)[:2] == ["1", "SourceFileLoader"]
    value, loader, file, path = run(root)
    assert (value, loader) == ("1", "Importer")
    assert file == str(root / "pack" / "inner" / "first.py")
    assert path == f"['{root}/pack/inner']"


def test_a_changed_source_is_seen_at_once_and_taken_in(root: Path) -> None:
    run(root)
    source = root / "pack" / "inner" / "first.py"
    before = source.stat()
    # of the same size, and a nanosecond later: Python's own files would not notice
    source.write_text(source.read_text().replace("1", "2"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 2_000_000_000))
    assert run(root)[:2] == ["2", "SourceFileLoader"]
    assert run(root)[:2] == ["2", "Importer"]


def test_a_source_that_is_gone_is_not_found(root: Path) -> None:
    run(root)
    (root / "pack" / "inner" / "first.py").unlink()
    with pytest.raises(subprocess.CalledProcessError) as e:
        run(root)
    assert "ModuleNotFoundError" in e.value.stderr


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_none_and_made_anew(root: Path, damage: bytes | None) -> None:
    run(root)
    whole = table(root).read_bytes()
    table(root).write_bytes(whole[:-1] if damage is None else damage)
    assert run(root)[:2] == ["1", "SourceFileLoader"]
    assert run(root)[:2] == ["1", "Importer"]
    assert sorted(file.name for file in (root / "pack" / "__pycache__").iterdir() if "start" in file.name) == [
        table(root).name
    ]


def test_a_checkout_that_moves_takes_its_file_along(root: Path) -> None:
    run(root)
    moved = root.with_name("moved")
    root.rename(moved)
    _, loader, file, _ = run(moved)
    assert (loader, file) == ("Importer", str(moved / "pack" / "inner" / "first.py"))


def test_nothing_is_written_where_python_may_not(root: Path) -> None:
    assert run(root, "-B")[:2] == ["1", "SourceFileLoader"]
    assert not (root / "pack" / "__pycache__").exists()


def test_other_modules_stay_in_the_file(root: Path) -> None:
    run(root)
    size = table(root).stat().st_size
    (root / "pack" / "inner" / "first.py").write_text("import pack.second\nVALUE = 1\n")
    (root / "pack" / "second.py").write_text("LONG = '''" + "x" * 5000 + "'''\n")
    run(root)
    assert table(root).stat().st_size > size + 5000
    assert run(root)[:2] == ["1", "Importer"]
