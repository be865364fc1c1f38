"""The default filter by what it does: a program makes the calls, through all three entrances of x86_64.

The child that executes it is root of its own user and mount namespace with every capability, so that
what is refused is refused by the filter; the same calls without a filter show that the kernel would
not have said the same. What this kernel refuses anyway (x32 where it is not built in, AF_ALG where the
module is missing) is covered by tests/unit/test_seccomp_profile.py, which interprets the program.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from rdock.container import seccomp_default
from rdock.container.capability_sets import DEFAULT
from rdock.linux import capabilities, idmap, seccomp
from rdock.linux.libc import libc

CLONE_NEWUSER = 0x10000000
CLONE_NEWNS = 0x00020000
SIGCHLD = 17
OK = 0

SOURCE = os.path.join(os.path.dirname(__file__), os.pardir, "payload", "syscalls.c")


class Call(NamedTuple):
    """A call as tests/payload/syscalls.c reads it, its errno under the filter, and without."""

    what: str
    text: str
    filtered: int
    unfiltered: int | None = None


# The same call by its two numbers. The third column is the errno under the default filter, the fourth
# what the kernel says without one, where that is certain.
REFUSED = [
    Call("unshare user", "64:272:0x10000000", errno.EPERM, OK),
    Call("unshare user", "32:310:0x10000000", errno.EPERM, OK),
    Call("unshare mount", "64:272:0x20000", errno.EPERM, OK),
    Call("mount tmpfs", "64:165:s,s,s,0,0", errno.EPERM, errno.ENOENT),
    Call("mount tmpfs", "32:21:s,s,s,0,0", errno.EPERM, errno.ENOENT),
    Call("umount", "64:166:p,0", errno.EPERM),
    Call("umount2", "32:52:p,0", errno.EPERM),
    Call("fsopen", "64:430:s,0", errno.EPERM),
    Call("fsopen", "32:430:s,0", errno.EPERM),
    Call("fsconfig", "64:431:99,0,p,p,0", errno.EPERM),
    Call("fsmount", "64:432:99,0,0", errno.EPERM, errno.EBADF),
    Call("move_mount", "64:429:99,p,99,p,0", errno.EPERM),
    Call("open_tree", "64:428:99,p,0", errno.EPERM),
    Call("mount_setattr", "64:442:99,p,0,p,32", errno.EPERM),
    Call("pivot_root", "64:155:p,p", errno.EPERM, errno.ENOENT),
    Call("setns", "64:308:99,0", errno.EPERM, errno.EBADF),
    Call("setns", "32:346:99,0", errno.EPERM, errno.EBADF),
    Call("keyctl get keyring", "64:250:0,0xfffffffd,1", errno.EPERM),
    Call("keyctl get keyring", "32:288:0,0xfffffffd,1", errno.EPERM),
    Call("add_key", "64:248:s,s,p,1,0xfffffffd", errno.EPERM),
    Call("request_key", "64:249:s,s,p,0", errno.EPERM),
    Call("bpf", "64:321:0,p,48", errno.EPERM),
    Call("bpf", "32:357:0,p,48", errno.EPERM),
    Call("perf_event_open", "64:298:p,0,0,0,0", errno.EPERM),
    Call("perf_event_open", "32:336:p,0,0,0,0", errno.EPERM),
    Call("userfaultfd", "64:323:1", errno.EPERM),
    Call("userfaultfd", "32:374:1", errno.EPERM),
    Call("open_by_handle_at", "64:304:99,p,0", errno.EPERM),
    Call("open_by_handle_at", "32:342:99,p,0", errno.EPERM),
    Call("kexec_load", "64:246:0,0,p,0", errno.EPERM),
    Call("init_module", "64:175:p,0,p", errno.EPERM),
    Call("finit_module", "32:350:99,p,0", errno.EPERM),
    Call("swapon", "64:167:p,0", errno.EPERM),
    Call("acct", "64:163:p", errno.EPERM),
    Call("quotactl", "64:179:0,p,0,p", errno.EPERM),
    Call("fanotify_init", "64:300:0,0", errno.EPERM),
    Call("pidfd_getfd", "64:438:99,0,0", errno.EPERM, errno.EBADF),
    Call("move_pages", "64:279:0,0,p,p,p,0", errno.EPERM, OK),
    # Unknown to the table, so that whoever asks does without.
    Call("io_uring_setup", "64:425:1,p", errno.ENOSYS),
    Call("io_uring_setup", "32:425:1,p", errno.ENOSYS),
    Call("io_uring_enter", "64:426:99,0,0,0,p,0", errno.ENOSYS),
    Call("io_uring_register", "64:427:99,0,p,0", errno.ENOSYS),
    Call("clone3", "64:435:p,0", errno.ENOSYS, errno.EINVAL),
    Call("clone3", "32:435:p,0", errno.ENOSYS, errno.EINVAL),
    Call("no such call", "64:9999", errno.ENOSYS, errno.ENOSYS),
    Call("no such call", "32:9999", errno.ENOSYS, errno.ENOSYS),
    # By argument; the upper half of an int's register must make no difference.
    Call("clone newuser", f"64:56:{CLONE_NEWUSER | SIGCHLD}", errno.EPERM, OK),
    Call("clone newuser", f"64:56:{1 << 32 | CLONE_NEWUSER | SIGCHLD}", errno.EPERM, OK),
    Call("clone newuser", f"32:120:{CLONE_NEWUSER | SIGCHLD}", errno.EPERM, OK),
    Call("clone newpid and newnet", f"64:56:{0x60000000 | SIGCHLD}", errno.EPERM, OK),
    Call("clone newns", f"32:120:{CLONE_NEWNS | SIGCHLD}", errno.EPERM, OK),
    Call("TIOCSTI", "64:16:99,0x5412,p", errno.EPERM, errno.EBADF),
    Call("TIOCSTI", "64:16:99,0x100005412,p", errno.EPERM, errno.EBADF),
    Call("TIOCSTI", "64:16:99,0xffffffff00005412,p", errno.EPERM, errno.EBADF),
    Call("TIOCSTI", "32:54:99,0x5412,p", errno.EPERM, errno.EBADF),
    Call("TIOCLINUX", "64:16:99,0x541c,p", errno.EPERM, errno.EBADF),
    Call("TIOCLINUX", "64:16:99,0x10000541c,p", errno.EPERM, errno.EBADF),
    Call("TIOCLINUX", "32:54:99,0x541c,p", errno.EPERM, errno.EBADF),
    Call("personality no aslr", "64:135:0x40000", errno.ENOSYS, OK),
    Call("personality read implies exec", "32:136:0x400000", errno.ENOSYS, OK),
    Call("AF_ALG", "64:41:38,5,0", errno.EAFNOSUPPORT),
    Call("AF_ALG", "64:41:0x100000026,5,0", errno.EAFNOSUPPORT),
    Call("AF_ALG", "32:359:38,5,0", errno.EAFNOSUPPORT),
    Call("AF_ALG by socketcall", "32:102:1,[38;5;0]", errno.EPERM),
    Call("AF_VSOCK", "64:41:40,1,0", errno.EAFNOSUPPORT),
    Call("AF_VSOCK", "64:41:0x100000028,1,0", errno.EAFNOSUPPORT),
    Call("AF_VSOCK", "32:359:40,1,0", errno.EAFNOSUPPORT),
    Call("AF_VSOCK by socketcall", "32:102:1,[40;1;0]", errno.EPERM),
    Call("AF_XDP", "64:41:44,3,0", errno.EAFNOSUPPORT),
    Call("AF_INET by socketcall", "32:102:1,[2;1;0]", errno.EPERM, OK),
    Call("socketpair AF_ALG", "64:53:38,5,0,p", errno.EOPNOTSUPP),
    Call("socketpair AF_ALG by socketcall", "32:102:8,[38;5;0;0]", errno.EPERM),
]

# x32: refused whatever it is, also what is allowed by its own number.
X32 = ["39", "41:2,1,0", "41:38,5,0", "41:40,1,0", "272:0x10000000", "56:17", "520:p,p,p", "0:99,p,1"]

ALLOWED = [
    Call("getpid", "64:39", OK),
    Call("getpid", "32:20", OK),
    Call("AF_UNIX", "64:41:1,1,0", OK),
    Call("AF_INET", "64:41:2,1,0", OK),
    Call("AF_INET, garbage above the int", "64:41:0xabcdef0100000002,1,0", OK),
    Call("AF_INET", "32:359:2,1,0", OK),
    Call("AF_NETLINK", "64:41:16,3,0", OK),
    Call("AF_UNSPEC", "64:41:0,1,0", errno.EAFNOSUPPORT),
    Call("socketpair", "64:53:1,1,0,p", OK),
    Call("socketpair", "32:360:1,1,0,p", OK),
    Call("clone", f"64:56:{SIGCHLD}", OK),
    Call("clone", f"32:120:{SIGCHLD}", OK),
    Call("fork", "64:57", OK),
    Call("fork", "32:2", OK),
    Call("personality query", "64:135:0xffffffff", OK),
    Call("personality query, sign-extended", "64:135:0xffffffffffffffff", OK),
    Call("personality PER_LINUX32", "64:135:8", OK),
    Call("personality back", "32:136:0", OK),
    Call("ioctl", "64:16:99,0x5413,p", errno.EBADF),
    Call("ioctl, a neighbour", "64:16:99,0x5411,p", errno.EBADF),
    Call("ioctl, sign-extended", "64:16:99,0xffffffff80045430,p", errno.EBADF),
    Call("ioctl", "32:54:99,0x541b,p", errno.EBADF),
    Call("chroot", "64:161:p", errno.ENOENT),
    Call("ptrace an unknown process", "64:101:16,0x7ffffffe,0,0", errno.ESRCH),
    Call("membarrier query", "64:324:0,0,0", OK),
    Call("get_mempolicy", "64:239:0,0,0,0,0", OK),
    Call("memfd_create", "64:319:s,0", OK),
    Call("epoll_create1", "64:291:0", OK),
    Call("shmget", "64:29:0,4096,0x380", OK),
    Call("shmget by ipc", "32:117:23,0,4096,0x380,0,0", OK),
    Call("close_range", "64:436:90,99,0", OK),
    Call("mknod", "64:133:p,0,0", errno.ENOENT),
    Call("exit_group", "32:252:0", OK),
]

# With a capability, the calls that belong to it come to the kernel.
WITH_CAPABILITY = {
    "CAP_SYS_ADMIN": [
        Call("unshare", "64:272:0x20000", OK),
        Call("mount", "64:165:s,p,s,0,0", errno.ENOENT),
        Call("clone newns", f"64:56:{CLONE_NEWNS | SIGCHLD}", OK),
        Call("clone3", "64:435:p,0", errno.EINVAL),
        Call("setns", "64:308:99,0", errno.EBADF),
        Call("fsmount", "64:432:99,0,0", errno.EBADF),
    ],
    "CAP_SYS_PTRACE": [Call("pidfd_getfd", "64:438:99,0,0", errno.EBADF)],
    "CAP_SYS_NICE": [Call("move_pages", "64:279:0,0,p,p,p,0", OK)],
}


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if os.uname().machine != "x86_64":
        pytest.skip("the payload is written for x86_64")
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("gcc is not installed, so the program that makes the calls cannot be built")
    target = str(tmp_path_factory.mktemp("payload") / "syscalls")
    flags = ["-O1", "-nostdlib", "-static", "-no-pie", "-fno-stack-protector", "-mno-red-zone", "-fcf-protection=none"]
    subprocess.run([compiler, *flags, SOURCE, "-o", target], check=True)
    yield target


@pytest.fixture(scope="module")
def default_program() -> bytes:
    return compiled(DEFAULT)


def compiled(names: Sequence[str], **options: bool) -> bytes:
    try:
        return seccomp.compile_profile(seccomp_default.profile(names, **options))
    except FileNotFoundError:
        pytest.skip("libseccomp is not installed")


def run(argv: Sequence[str], program: bytes | None, *, namespace: bool = True) -> tuple[int, str]:
    """Execute argv, by default as root of a new user and mount namespace, under a filter; status and output."""
    single = idmap.plan("single", uid=os.geteuid(), gid=os.getegid())
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(write_end, 1)
            if namespace:
                if libc.unshare(ctypes.c_int(CLONE_NEWUSER | CLONE_NEWNS)) < 0:
                    os._exit(77)
                idmap.write("self", single)
            if program is not None:
                capabilities.set_no_new_privileges()
                seccomp.install(program)
            os.execv(argv[0], argv)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 77:
        pytest.skip("no user namespaces here")
    return status, text


def errnos(payload: str, program: bytes | None, texts: Sequence[str]) -> list[int]:
    """The errno of each call, each made by a process of its own."""
    found = []
    for text in texts:
        status, output = run([payload, text], program)
        assert status == 0, f"{text}: the process ended with {status}"
        found.append(int(output) if output else OK)
    return found


def compare(payload: str, program: bytes | None, calls: Sequence[Call], *, filtered: bool = True) -> None:
    seen = errnos(payload, program, [call.text for call in calls])
    wrong = [
        f"{call.what} ({call.text}): {errno.errorcode.get(got, got)}"
        for call, got in zip(calls, seen, strict=True)
        if got != (call.filtered if filtered else call.unfiltered)
    ]
    assert not wrong


def test_refused(payload: str, default_program: bytes) -> None:
    compare(payload, default_program, REFUSED)


def test_the_kernel_alone_would_not_refuse(payload: str) -> None:
    compare(payload, None, [call for call in REFUSED if call.unfiltered is not None], filtered=False)


def test_allowed(payload: str, default_program: bytes) -> None:
    compare(payload, default_program, ALLOWED)


def test_x32_is_dead(payload: str, default_program: bytes) -> None:
    assert errnos(payload, default_program, [f"x32:{call}" for call in X32]) == [errno.ENOSYS] * len(X32)


def test_every_family_but_six_is_refused(payload: str, default_program: bytes) -> None:
    others = [family for family in range(64) if family not in (0, 1, 2, 10, 16, 17)]
    for abi, number in (("64", 41), ("32", 359)):
        for kind in (1, 2, 3):
            texts = [f"{abi}:{number}:{family},{kind},0" for family in others]
            status, output = run([payload, *texts], default_program)
            assert status == 0
            assert [int(line) for line in output.split()] == [errno.EAFNOSUPPORT] * len(others)


@pytest.mark.parametrize("capability", WITH_CAPABILITY)
def test_with_capability(payload: str, capability: str) -> None:
    calls = WITH_CAPABILITY[capability]
    compare(payload, compiled([*DEFAULT, capability]), calls)
    assert errnos(payload, compiled(DEFAULT), [c.text for c in calls]) != [c.filtered for c in calls]


def test_socketcall_for_who_asks(payload: str) -> None:
    program = compiled(DEFAULT, allow_socketcall=True)
    assert errnos(payload, program, ["32:102:1,[2;1;0]", "64:41:40,1,0", "32:359:40,1,0"]) == [
        OK,
        errno.EAFNOSUPPORT,
        errno.EAFNOSUPPORT,
    ]


BUSY = """
import asyncio, fcntl, mmap, multiprocessing, os, select, signal, socket, subprocess, sys, tempfile, threading, time

def work(queue):
    queue.put(os.getpid())

threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
queue = multiprocessing.SimpleQueue()
child = multiprocessing.Process(target=work, args=(queue,)); child.start(); child.join()
assert queue.get() == child.pid and child.exitcode == 0
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept(); client.sendall(b"x"); assert peer.recv(1) == b"x"
a, b = socket.socketpair(); socket.send_fds(a, [b"f"], [0]); assert socket.recv_fds(b, 1, 1)[1]
poll = select.epoll(); poll.register(b)
with tempfile.TemporaryFile() as file:
    file.write(b"y" * 8192); file.flush(); fcntl.flock(file, fcntl.LOCK_EX)
    memory = mmap.mmap(file.fileno(), 8192); memory.madvise(mmap.MADV_DONTNEED)
    os.posix_fallocate(file.fileno(), 0, 16384); os.fsync(file.fileno())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, 0.01); signal.sigwait([signal.SIGALRM])
async def main():
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "ls / | cat | wc -l", stdout=-1)
    assert int((await process.communicate())[0]) > 3
asyncio.run(main())
assert subprocess.run(["/bin/sh", "-c", "ulimit -n; nice true; (sleep 0.01 & wait)"], stdout=-1).returncode == 0
os.sched_getaffinity(0); os.getrandom(8); os.memfd_create("m"); os.pidfd_open(os.getpid())
print("done")
"""


def test_ordinary_programs_run(default_program: bytes) -> None:
    status, output = run([sys.executable, "-I", "-c", BUSY], default_program, namespace=False)
    assert (status, output) == (0, "done\n")


def test_install_needs_a_right(default_program: bytes) -> None:
    """Without no_new_privs a filter could fool a setuid program, so the kernel says EACCES."""
    if capabilities.has_no_new_privileges():
        pytest.skip("no_new_privs is set already")
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setresuid(65534, 65534, 65534)
            seccomp.install(default_program)
            os._exit(0)
        except OSError as e:
            os._exit(e.errno or 1)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EACCES
