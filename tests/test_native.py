"""The object code: what it wants from its process, that it is the same for all, what loader and cache refuse."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import Mock

import pytest

import commands
import shmtrace
from shmtrace import native
from shmtrace.layout import CONTROL
from shmtrace.native.loader import SYMBOLS, UNPROVED, ObjectCodeError, load
from shmtrace.segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="reads relocations of x86-64")

SYMTAB, RELA = 2, 4
ENTRIES = {
    "producer": {"channel_event", "thread_ended", "read_clocks"},
    "collector": {"pump", "discard", "depart", "enable", "settle", "reclaim", "sweep"},
}


class Section(NamedTuple):
    """Of an ELF file; `at` is where its header stands."""

    at: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int


class Symbol(NamedTuple):
    """Of an ELF file."""

    name: str
    name_at: int  # in the file
    section: int


def sections(code: bytes) -> list[Section]:
    table, size, count = struct.unpack_from("<Q10xHH", code, 40)
    found = []
    for number in range(count):
        at = table + number * size
        _, kind, flags, _, offset, length, link, info, _, _ = struct.unpack_from("<IIQQQQIIQQ", code, at)
        found.append(Section(at, kind, flags, offset, length, link, info))
    return found


def symbols(code: bytes) -> list[Symbol]:
    (table,) = [section for section in sections(code) if section.kind == SYMTAB]
    strings = sections(code)[table.link].offset
    found = []
    for name, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", code[table.offset : table.offset + table.size]):
        at = strings + name
        found.append(Symbol(code[at : code.index(b"\0", at)].decode(), at, section))
    return found


def undefined(code: bytes) -> set[str]:
    return {symbol.name for symbol in symbols(code) if symbol.section == 0 and symbol.name}


def patched(code: bytes, at: int, data: bytes) -> bytes:
    return code[:at] + data + code[at + len(data) :]


def python(program: str, **environment: str) -> str:
    """What a program prints."""
    result = commands.run("-c", textwrap.dedent(program), command=[sys.executable], cwd=None, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the code of both units."""
    directory = native.warmup()
    assert directory is not None
    copy = tmp_path_factory.mktemp("cache")
    copy.chmod(0o700)
    for unit in native.UNITS:
        shutil.copy(code_file(Path(directory), unit), copy)
    return copy


def code_file(directory: Path, unit: str) -> Path:
    return directory / f"{unit}-{native.code_key(unit)}.o"


@pytest.fixture(params=["producer", "collector"])
def unit(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def code(cache: Path, unit: str) -> bytes:
    return code_file(cache, unit).read_bytes()[native.DIGEST_BYTES :]


# -- what is in it


def test_it_wants_nothing_that_is_not_on_the_loaders_list(code: bytes) -> None:
    assert undefined(code) <= SYMBOLS


def test_nothing_stands_on_the_list_that_no_code_wants(cache: Path) -> None:
    wanted = {
        name for unit in native.UNITS for name in undefined(code_file(cache, unit).read_bytes()[native.DIGEST_BYTES :])
    }
    assert SYMBOLS - wanted <= {"memset", *UNPROVED}, "memset: where numba is told to compile for a simpler cpu only"


def test_nothing_of_the_runtime_of_numba_is_in_it(code: bytes) -> None:
    assert b"NRT_" not in code
    assert b"numba_" not in code


def test_the_functions_are_the_only_global_symbols(code: bytes, unit: str) -> None:
    placed = set(load(code))
    assert placed >= ENTRIES[unit]
    assert not {name for name in placed if "shmtrace" in name or "$" in name}


ROOMS = """define i64 @caller(i64 %.1) {
B0:
  %.room = alloca i64, align 8
  %.other = alloca i64, align 8
  %.source = alloca i64, align 8
  store i64 0, ptr %.room, align 8
  store i64 0, ptr %.other, align 8
  store i64 0, ptr %.source, align 8
  br i1 true, label %B1, label %B2

B1:
  call fastcc void @_ZN6callee(ptr nonnull %.room, i64 %.1)
  %.2 = load i64, ptr %.room, align 8
  call fastcc void @_ZN6callee(ptr nonnull %.other, i64 %.1)
  call void @taker(ptr nonnull %.source)
  ret i64 %.2

B2:
  %.3 = load i64, ptr %.other, align 8
  ret i64 %.3
}"""


@pytest.mark.parametrize("kind", ["i64", "i8"])
def test_zeros_go_that_nobody_reads_and_no_others(kind: str) -> None:
    from shmtrace.native.compiler import without_zeros

    rooms = re.sub("(alloca|store|load) i64", rf"\1 {kind}", ROOMS)
    zeros = f"  store {kind} 0, ptr %.room, align 8\n"
    assert zeros in rooms
    assert without_zeros(f"; a module\n{rooms}\n{rooms}\n") == f"; a module\n{rooms}\n{rooms}\n".replace(zeros, "")


CALLS = """define i64 @entry(i64 %0) {
  %2 = call fastcc i64 @_ZN4hotB1$(i64 %0) #1
  %3 = tail call fastcc i64 @_ZN4coldB1$(i64 %2)
  %4 = call i64 @_ZN4coldB1$(i64 %3) #2
  ret i64 %4
}

define internal fastcc i64 @_ZN4coldB1$(i64 %0) local_unnamed_addr #0 {
  ret i64 %0
}

define internal fastcc i64 @_ZN4hotB1$(i64 %0) local_unnamed_addr #1 {
  ret i64 %0
}

attributes #0 = { cold noinline }
attributes #1 = { noinline }
attributes #2 = { cold }
"""


def test_cold_functions_and_no_others_save_the_registers_of_their_callers() -> None:
    import llvmlite.binding as llvm

    from shmtrace.native.compiler import keeping_registers

    kept = keeping_registers(CALLS)
    assert re.findall(r"(\w+) i64 @_ZN4(\w+)B1", kept) == [
        ("fastcc", "hot"), ("preserve_mostcc", "cold"), ("preserve_mostcc", "cold"), ("preserve_mostcc", "cold"),
        ("fastcc", "hot"),
    ]  # fmt: skip
    llvm.parse_assembly(kept).verify()


def test_two_processes_compile_the_same_bytes_and_place_them_elsewhere(cache: Path, tmp_path: Path) -> None:
    assert Path("/proc/sys/kernel/randomize_va_space").read_text() != "0\n"
    program = "from shmtrace.native import functions; print(functions('producer')['channel_event'])"
    (tmp_path / "fresh").mkdir(mode=0o700)
    other = "import numba; numba.njit('i8(i8)')(lambda number: number); "  # was compiled before
    first = python(other + program, SHMTRACE_CACHE=str(tmp_path / "fresh"))
    assert code_file(tmp_path / "fresh", "producer").read_bytes() == code_file(cache, "producer").read_bytes()
    assert len({first, python(program, SHMTRACE_CACHE=str(cache)), python(program, SHMTRACE_CACHE=str(cache))}) == 3


@pytest.fixture
def recording(channel_name: str) -> Iterator[shmtrace.Channel]:
    """A channel whose switch is on without a collector."""
    with shmtrace.create_channel(channel_name, page_size=4096, pages=16) as channel:
        segment = open_segment(channel_name)
        segment.set_u32(CONTROL.recording, 1)
        yield channel
        segment.unmap()
        shmtrace.remove_channel(channel_name)


EVENT = "import shmtrace, sys; print(shmtrace.attach().event(b'x'), 'numba' in sys.modules)"


def test_code_of_another_process_works(recording: shmtrace.Channel, cache: Path) -> None:
    for _ in range(3):
        assert python(EVENT, SHMTRACE=recording.name, SHMTRACE_CACHE=str(cache)) == "True False\n"
    assert recording.stats()["writers"] == 3


def test_code_is_never_writable_and_executable_at_once(recording: shmtrace.Channel, cache: Path) -> None:
    program = """
        import shmtrace
        from shmtrace.native import functions
        shmtrace.attach().event(b"x")
        entry = functions("producer")["channel_event"]
        for line in open("/proc/self/maps"):
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            permissions = line.split()[1]
            if begin <= entry < end:
                print(permissions)
            assert not ("w" in permissions and "x" in permissions), line
    """
    assert python(program, SHMTRACE=recording.name, SHMTRACE_CACHE=str(cache)) == "r-xp\n"


# -- what the loader refuses


def test_a_symbol_that_is_not_on_the_list(code: bytes) -> None:
    symbol = next(symbol for symbol in symbols(code) if symbol.name in {"sem_trywait", "sem_getvalue"})
    renamed = b"system".ljust(len(symbol.name), b"_")
    with pytest.raises(ObjectCodeError, match=r"'system_+', which is not on the list"):
        load(patched(code, symbol.name_at, renamed))


@pytest.mark.parametrize("kind", [0, 2, 4, 10, 24, 42])
def test_a_relocation_that_is_not_absolute(code: bytes, kind: int) -> None:
    everything = sections(code)
    relocations = next(s for s in everything if s.kind == RELA and everything[s.info].flags & 4)  # of code
    at = relocations.offset + 8  # type and symbol of the first one
    with pytest.raises(ObjectCodeError, match=f"type {kind}"):
        load(patched(code, at, kind.to_bytes(4, "little")))


@pytest.mark.parametrize("place", [-1, -8, 1 << 40, 1 << 63])
def test_a_relocation_outside_its_section(code: bytes, place: int) -> None:
    everything = sections(code)
    relocations = next(s for s in everything if s.kind == RELA and everything[s.info].flags & 4)
    with pytest.raises(ObjectCodeError, match="outside"):
        load(patched(code, relocations.offset, (place % (1 << 64)).to_bytes(8, "little")))


@pytest.mark.parametrize(
    ("at", "data"),
    [(0, b"\x7fELG"), (4, b"\1"), (5, b"\2"), (16, b"\2\0"), (16, b"\3\0"), (18, (183).to_bytes(2, "little"))],
    ids=["magic", "32 bits", "big-endian", "a program", "a library", "aarch64"],
)
def test_another_kind_of_file(code: bytes, at: int, data: bytes) -> None:
    with pytest.raises(ObjectCodeError, match="not a relocatable object for x86-64"):
        load(patched(code, at, data))


def test_a_file_that_was_cut_off(cache: Path, unit: str) -> None:
    """In a process of its own: it may raise, and nothing else."""
    program = f"""
        from shmtrace.native.loader import ObjectCodeError, load
        code = open({str(code_file(cache, unit))!r}, "rb").read()[{native.DIGEST_BYTES}:]
        for size in [*range(70), *range(70, len(code), 997), len(code) - 1]:
            try:
                load(code[:size])
            except ObjectCodeError:
                pass
            else:
                print(size)
    """
    assert python(program) == ""


def test_what_is_refused_leaves_no_mapping_behind(code: bytes) -> None:
    everything = sections(code)
    relocations = next(s for s in everything if s.kind == RELA and everything[s.info].flags & 4)
    wrong = patched(code, relocations.offset + 8, bytes(4))

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0])

    with pytest.raises(ObjectCodeError):
        load(wrong)
    before = mapped()
    for _ in range(50):
        with pytest.raises(ObjectCodeError):
            load(wrong)
    assert mapped() - before < 50


# -- the cache


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "code":
            path.write_bytes(patched(content, len(content) // 2, bytes([content[len(content) // 2] ^ 1])))
        case "digest":
            path.write_bytes(patched(content, 0, bytes(8)))
        case "cut off":
            path.write_bytes(content[:-100])
        case "empty":
            path.write_bytes(b"")
        case "not ours to read":
            path.chmod(0o622)
        case "a link":
            shutil.move(path, path.with_suffix(".real"))
            path.symlink_to(path.with_suffix(".real"))
        case "a directory":
            path.unlink()
            path.mkdir()


@pytest.mark.parametrize("how", ["code", "digest", "cut off", "empty", "not ours to read", "a link", "a directory"])
def test_a_cached_file_that_is_wrong_in_any_way_is_not_used(cache: Path, tmp_path: Path, how: str) -> None:
    directory = Path(shutil.copytree(cache, tmp_path / "cache"))
    damage(code_file(directory, "producer"), how)
    program = (
        "from shmtrace import native; print(native._from_cache('producer'), native._from_cache('collector') is None)"
    )
    assert python(program, SHMTRACE_CACHE=str(directory)) == "None False\n"


def test_a_damaged_cache_is_rebuilt(recording: shmtrace.Channel, cache: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(cache, tmp_path / "cache"))
    path = code_file(directory, "producer")
    damage(path, "code")
    assert python(EVENT, SHMTRACE=recording.name, SHMTRACE_CACHE=str(directory)) == "True True\n"
    assert path.read_bytes() == code_file(cache, "producer").read_bytes()
    assert python(EVENT, SHMTRACE=recording.name, SHMTRACE_CACHE=str(directory)) == "True False\n"


def test_a_cache_that_others_can_write_is_not_used(recording: shmtrace.Channel, cache: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(cache, tmp_path / "cache"))
    directory.chmod(0o777)
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    result = commands.run(
        "-c", EVENT, command=[sys.executable], cwd=None, SHMTRACE=recording.name, SHMTRACE_CACHE=str(directory)
    )
    assert (result.returncode, result.stdout) == (0, "True True\n")
    assert result.stderr.startswith("shmtrace: compiled code cannot be kept, ")
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


@pytest.mark.parametrize("make", ["symlink", "file", "foreign", "read-only parent"])
def test_a_cache_that_is_no_private_directory_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    path = tmp_path / "cache"
    match make:
        case "symlink":
            (tmp_path / "real").mkdir(mode=0o700)
            path.symlink_to(tmp_path / "real")
        case "file":
            path.touch()
        case "foreign":
            if os.geteuid() != 0:
                pytest.skip("only root can make it")
            path.mkdir(mode=0o700)
            os.chown(path, 65_534, 65_534)
        case _:
            path = Path("/proc/nothing/here")
    monkeypatch.setenv("SHMTRACE_CACHE", str(path))
    assert native.cache_directory() is None


def test_the_key_follows_the_sources(tmp_path: Path) -> None:
    """A copy of the package with one character more in a comment does not use the code of this one."""
    package = Path(native.__file__).parent.parent
    copy = Path(shutil.copytree(package, tmp_path / "shmtrace", ignore=shutil.ignore_patterns("__pycache__")))
    (copy / "wire.py").write_text((copy / "wire.py").read_text() + "#\n")
    program = "from shmtrace import native; print(native.__file__, *(native.code_key(unit) for unit in native.UNITS))"
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    where, *keys = result.stdout.split()
    assert where.startswith(str(tmp_path))
    assert not set(keys) & {native.code_key(unit) for unit in native.UNITS}


@pytest.mark.parametrize("damage", ["none", "cut", "wrong", "writable", "link"])
def test_the_digest_of_the_sources_is_kept_and_believed_only_if_it_is_whole_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("SHMTRACE_CACHE", str(tmp_path))
    tmp_path.chmod(0o700)
    key = native.code_key("producer")
    (kept,) = tmp_path.iterdir()
    match damage:
        case "cut":
            kept.write_bytes(kept.read_bytes()[:-1])
        case "wrong":
            content = kept.read_bytes()
            kept.write_bytes(patched(content, len(content) - 1, bytes([content[-1] ^ 1])))
        case "writable":
            kept.chmod(0o666)
            kept.write_bytes(b"?" * 16)
        case "link":
            kept.rename(tmp_path / "other")
            kept.symlink_to("other")
    read = Mock(side_effect=native._read)
    monkeypatch.setattr(native, "_read", read)
    assert native.code_key("producer") == key
    assert any(call.args[0].endswith("layout.py") for call in read.mock_calls) == (damage != "none")


def test_the_key_does_not_follow_what_is_imported() -> None:
    """A unit's module must not take the place of a name with which the key is made: both live in one package."""
    program = """
        from shmtrace import native
        before = [native.code_key(unit) for unit in native.UNITS]
        for module, _ in native.UNITS.values():
            __import__(f"shmtrace.native.{module}")
        assert before == [native.code_key(unit) for unit in native.UNITS]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_processes_that_compile_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    """Storing is atomic: whoever reads meanwhile finds the old file, the new one, or none."""
    path = tmp_path / "cache" / "unit.o"
    path.parent.mkdir(mode=0o700)
    contents = [bytes([number]) * 100_000 for number in range(4)]
    children = []
    for content in contents:
        child = os.fork()
        if child == 0:
            for _ in range(50):
                native._store(str(path), content)
            os._exit(0)
        children.append(child)
    seen: set[bytes] = set()
    while children:
        if path.exists():
            seen.add(path.read_bytes())
        if os.waitpid(children[0], os.WNOHANG)[0]:
            children.pop(0)
    assert seen <= set(contents)
    assert list(path.parent.iterdir()) == [path]


def test_of_processes_that_start_at_once_with_a_cold_cache_one_compiles(tmp_path: Path) -> None:
    program = """
from unittest import mock
from shmtrace import native
import shmtrace.native.compiler
with mock.patch.object(shmtrace.native.compiler, "compile_object", wraps=shmtrace.native.compiler.compile_object) as it:
    native.functions("producer")
print(it.call_count)
"""
    environment = {**os.environ, "SHMTRACE_CACHE": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    printed = [process.communicate(timeout=100)[0] for process in processes]
    assert sorted(printed) == ["0\n", "0\n", "0\n", "1\n"]


def test_where_code_cannot_be_kept_it_is_compiled_and_that_is_said(recording: shmtrace.Channel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {**os.environ, "SHMTRACE_CACHE": str(tmp_path / "file" / "cache"), "SHMTRACE": recording.name}
    result = subprocess.run([sys.executable, "-c", EVENT], env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout) == (0, "True True\n")
    assert result.stderr.startswith("shmtrace: compiled code cannot be kept, so each process ")
    assert result.stderr.count("\n") == 1


def test_with_a_cold_cache_a_channel_that_is_not_there_costs_no_compiler_until_it_is(
    new_name: Callable[[], str], tmp_path: Path
) -> None:
    name = new_name()
    program = f"""
import sys
import shmtrace
channel = shmtrace.attach()
print("numba" in sys.modules)
other = shmtrace.create_channel({name!r})
print(channel.event(b"nobody reads"), channel.name, channel.stats() != {{}})
print(channel.event.__class__.__name__)
shmtrace.remove_channel({name!r})
"""
    environment = {**os.environ, "SHMTRACE_CACHE": str(tmp_path / "cache"), "SHMTRACE": name}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100
    )
    assert (result.stdout, result.stderr) == (f"False\nFalse {name} True\nbuiltin_function_or_method\n", "")
