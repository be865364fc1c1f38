"""The default seccomp profile: which system calls a container may make, as a table by subject.

Three answers: what ordinary programs need is allowed; what is known and refused gives EPERM, as if the
kernel's own permission check had said it; what the table does not know gives ENOSYS, so that a C
library newer than this table falls back as on an older kernel. Some calls come with a capability, since
without it the kernel would refuse them anyway and only its attack surface remains. `--privileged` and
`seccomp=unconfined` have no profile at all; neither is decided here.

The profile is the OCI object, compiled by `linux/seccomp.py` or by an external runtime, both through
libseccomp. That library cannot express "everything but this value", hence `_all_but`; and it compares
64 bits where the kernel looks at the lower 32, hence MASKED_EQ wherever the argument is an int: with a
plain comparison a stray upper bit passes a refused value (CVE-2026-123876, CVE-2019-10063).
"""

from __future__ import annotations

import os
from errno import EAFNOSUPPORT, ENOSYS, EOPNOTSUPP, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any, TypeAlias

Rule: TypeAlias = "dict[str, Any]"

_INT = 0xFFFFFFFF

# A process of one of these may also make the calls of the second, smaller architecture. x32 is left
# out on purpose: it has hardly any users and makes every call reachable by a second number.
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
}

# -- allowed -------------------------------------------------------------------------------------
# The names are those of all architectures together; one that a machine has not costs nothing.

_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3
    faccessat faccessat2 fadvise64 fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64
    fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 lchown lchown32
    link linkat lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat newfstatat
    open openat openat2 oldfstat oldlstat oldstat pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
    read readahead readdir readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64
    splice stat stat64 statfs statfs64 statx symlink symlinkat
    sync sync_file_range sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64
    umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev cachestat
    name_to_handle_at statmount listmount
    getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    file_getattr file_setattr
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
"""

_MEMORY = """
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
    mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap
    pkey_alloc pkey_free pkey_mprotect remap_file_pages get_mempolicy
"""

_PROCESSES = """
    execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill
    pidfd_open pidfd_send_signal process_mrelease
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32
    getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setreuid setreuid32
    setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
    setgroups setgroups32 capget capset prctl seccomp
    landlock_create_ruleset landlock_add_rule landlock_restrict_self
    lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    getpriority setpriority nice ioprio_get ioprio_set getrlimit ugetrlimit setrlimit prlimit64 getrusage times
    sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
    sched_rr_get_interval sched_rr_get_interval_time64 sched_yield
    set_tid_address get_robust_list set_robust_list rseq getcpu restart_syscall uname sysinfo getrandom
    ptrace process_vm_readv process_vm_writev
"""
# The last line is safe since Linux 4.8, where a tracer no longer gets around the filter (seccomp(2));
# it is what debuggers, strace and sanitizers need, within the limits of ptrace(2).

_MACHINE = """
    arch_prctl modify_ldt get_thread_area set_thread_area set_tls get_tls breakpoint cacheflush
    riscv_flush_icache riscv_hwprobe uretprobe uprobe
"""

_SYNCHRONISATION = """
    futex futex_time64 futex_wait futex_wake futex_waitv futex_requeue eventfd eventfd2
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
    poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64
    ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
    mq_open mq_unlink mq_notify mq_getsetattr
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
"""

_SIGNALS_AND_TIME = """
    pause sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend
    ssetmask sgetmask rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    alarm getitimer setitimer nanosleep time gettimeofday adjtimex clock_adjtime clock_adjtime64
    clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""

# Which address families there are is the business of `socket`, below.
_NETWORK = """
    accept accept4 bind connect listen getpeername getsockname getsockopt setsockopt shutdown
    recv recvfrom recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto
"""

# -- allowed with a capability, any of those named, and refused with EPERM without ----------------

_WITH_CAPABILITY = (
    (
        ("CAP_SYS_ADMIN",),
        # Namespaces and mounts, by the old calls and the new: the longest list of kernel holes found
        # through user namespaces. pivot_root belongs to them, for engines that run inside.
        """
        mount umount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr
        mount_setattr setns unshare sethostname setdomainname quotactl quotactl_fd fanotify_init
        """,
    ),
    (("CAP_SYS_ADMIN", "CAP_BPF"), "bpf"),
    (("CAP_SYS_ADMIN", "CAP_PERFMON"), "perf_event_open"),
    (("CAP_SYS_ADMIN", "CAP_SYSLOG"), "syslog"),
    (("CAP_SYS_CHROOT",), "chroot"),
    (("CAP_SYS_PTRACE",), "kcmp pidfd_getfd process_madvise"),
    # Reopens any file of a file system by number, whatever directory it is in: "Shocker", 2014.
    (("CAP_DAC_READ_SEARCH",), "open_by_handle_at"),
    (("CAP_SYS_NICE",), "mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages"),
    (("CAP_SYS_TIME",), "settimeofday stime clock_settime clock_settime64"),
    (("CAP_SYS_MODULE",), "init_module finit_module delete_module"),
    (("CAP_SYS_BOOT",), "reboot"),
    (("CAP_SYS_RAWIO",), "iopl ioperm"),
    (("CAP_SYS_PACCT",), "acct"),
    (("CAP_SYS_TTY_CONFIG",), "vhangup"),
)

# -- refused always ------------------------------------------------------------------------------

# Kernel keyrings are of the user, not of the container; userfaultfd stops the kernel in the middle of
# a copy, which makes races winnable; the rest belongs to the machine, or to no program of this century.
_REFUSED = """
    keyctl add_key request_key userfaultfd kexec_load kexec_file_load swapon swapoff
    lookup_dcookie sysfs ustat uselib vm86 vm86old nfsservctl
"""
# Not in the table, thus ENOSYS, on purpose: io_uring_setup, _enter and _register, whose operations pass
# every filter (IORING_OP_SOCKET makes sockets of any family); each of its users has another way, taken
# on ENOSYS as on an old kernel. And clone3, see `_clone`.

# -- allowed by their arguments ------------------------------------------------------------------

# sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)

# PER_LINUX, PER_LINUX32, each also with UNAME26, and "which one is it?"; none weakens the address space
# (READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_AF_UNIX = 1
# UNSPEC, UNIX, INET, INET6, NETLINK, PACKET. Every other family is code that containers do not need and
# that any of them can have loaded; AF_ALG (CVE-2026-31431) and AF_VSOCK, the way to the hypervisor, are
# merely the best known. NETLINK and PACKET remain subject to capabilities over the network namespace.
_FAMILIES = (0, _AF_UNIX, 2, 10, 16, 17)

# TIOCSTI and TIOCLINUX type into the terminal, which outlives the container if it is the caller's own.
_TERMINAL_INJECTION = (0x5412, 0x541C)


def profile(capabilities: Collection[str], *, allow_socketcall: bool = False) -> dict[str, Any]:
    """The OCI seccomp object for a container with this bounding set, in the kernel's spelling.

    `allow_socketcall` is for 32-bit programs of x86 that open sockets in the old way (see `_socket`); it
    opens all address families to all 32-bit programs, so only the user may ask for it, never an image.
    """
    allowed: list[str] = []
    for names in (_FILES, _MEMORY, _PROCESSES, _MACHINE, _SYNCHRONISATION, _SIGNALS_AND_TIME, _NETWORK):
        allowed += names.split()
    refused = _REFUSED.split()
    for any_of, names in _WITH_CAPABILITY:
        (allowed if not set(any_of).isdisjoint(capabilities) else refused).extend(names.split())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": _ARCHITECTURES.get(os.uname().machine, []),
        "syscalls": [
            # Must stand first: _socket.
            _allow(["socketcall"]) if allow_socketcall else _refuse(["socketcall"]),
            _allow(allowed),
            _refuse(refused),
            *_clone("CAP_SYS_ADMIN" in capabilities),
            *_socket(),
            *(_allow(["personality"], _equals(0, value)) for value in _PERSONALITIES),
            *(_allow(["ioctl"], argument) for argument in _all_but(1, _TERMINAL_INJECTION)),
            *(_refuse(["ioctl"], _equals(1, value)) for value in _TERMINAL_INJECTION),
        ],
    }


def _clone(with_namespaces: bool) -> list[Rule]:
    """clone(2) without the flags that make namespaces. clone3(2) has them in memory, where no filter can
    look, so it does not exist (ENOSYS) and the C library takes clone instead."""
    if with_namespaces:
        return [_allow(["clone", "clone3"])]
    return [
        _allow(["clone"], _masked(0, sum(_NAMESPACES), 0)),
        *(_refuse(["clone"], _masked(0, flag, flag)) for flag in _NAMESPACES),
    ]


def _socket() -> list[Rule]:
    """socket(2) and socketpair(2) by address family.

    The 32-bit socketcall(2) of x86 has the family in memory, where no filter can look. For each rule
    about socket, libseccomp would allow all of socketcall(SYS_SOCKET) as its equivalent, and takes no
    other rule for that afterwards; only an earlier rule for the whole of socketcall keeps it away, which
    must not be the default action either, as those are dropped. So socketcall is refused as a whole.
    musl tries the direct calls (Linux 4.3) first; glibc for i386 has socketcall only.
    """
    last = max(_FAMILIES)
    others = [family for family in range(last) if family not in _FAMILIES]
    return [
        *(_allow(["socket"], _equals(0, family)) for family in _FAMILIES),
        *(_refuse(["socket"], _equals(0, family), EAFNOSUPPORT) for family in others),
        _refuse(["socket"], {"index": 0, "value": last, "op": "SCMP_CMP_GT"}, EAFNOSUPPORT),
        # It makes both sockets before it asks the family whether it knows pairs; only this one is of use.
        _allow(["socketpair"], _equals(0, _AF_UNIX)),
        _refuse(["socketpair"], {"index": 0, "value": _AF_UNIX, "op": "SCMP_CMP_GT"}, EOPNOTSUPP),
    ]


# -- rules ---------------------------------------------------------------------------------------


def _allow(names: list[str], argument: Rule | None = None) -> Rule:
    return {"names": names, "action": "SCMP_ACT_ALLOW", **({"args": [argument]} if argument else {})}


def _refuse(names: list[str], argument: Rule | None = None, number: int = EPERM) -> Rule:
    rule: Rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number}
    return {**rule, "args": [argument]} if argument else rule


def _masked(index: int, mask: int, value: int) -> Rule:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _equals(index: int, value: int) -> Rule:
    return _masked(index, _INT, value)


def _all_but(index: int, values: Iterable[int]) -> list[Rule]:
    """Masks that together match each 32-bit value except these.

    The values are the leaves of a binary tree over their bits, from the highest; every branch that leads
    to none of them is one mask.
    """
    rules = []
    branches = {0: set(values)}
    for bit in range(31, -1, -1):
        mask = _INT >> bit << bit
        below: dict[int, set[int]] = {}
        for prefix, inside in branches.items():
            for branch in (prefix, prefix | 1 << bit):
                left = {value for value in inside if value & mask == branch}
                if left:
                    below[branch] = left
                else:
                    rules.append(_masked(index, mask, branch))
        branches = below
    return rules
