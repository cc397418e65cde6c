"""Run a program with little: `python -I confined.py '{"folder": …}' program arguments…`.

Started as a script of its own, so that limits are set after the fork by a process without threads; it imports
nothing of Tintype's. On Linux the program gets no network at all (seccomp, and a network namespace where one may
be made), no capabilities, and may write below `folder` only (Landlock). Elsewhere only the limits on memory, time
and files hold. What was put in force is one line of JSON on the file descriptor `report`.
"""

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 1, 38, 22, 2
# Calls by their numbers in Linux: socket, socketpair, ptrace, process_vm_readv, process_vm_writev, io_uring_setup.
ARCHITECTURES = {
    "x86_64": (0xC000003E, (41, 53, 101, 310, 311, 425)),
    "aarch64": (0xC00000B7, (198, 199, 117, 270, 271, 425)),
}
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
# linux/landlock.h: every right that changes the file system, by the version of the interface that knows it.
WRITES = {1: sum(1 << bit for bit in (1, *range(4, 13))), 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}


def main() -> None:
    """Confine this process as its first argument says, then become the program in the others."""
    wanted = json.loads(sys.argv[1])
    limit(wanted)
    report = {"namespace": False, "network": False, "writes": False}
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        report["namespace"] = leave_network(libc)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        report["writes"] = write_below(libc, wanted["folder"])
        report["network"] = refuse_calls(libc)
    os.write(wanted["report"], json.dumps(report).encode() + b"\n")
    os.close(wanted["report"])
    os.chdir(wanted["folder"])
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is what is wanted


def limit(wanted: dict[str, int | None]) -> None:
    """Cap memory, processor time, the size of a file, open files; no core dumps."""
    for what, most in (
        (resource.RLIMIT_AS, wanted["memory_bytes"] if sys.platform == "linux" else None),  # macOS refuses it
        (resource.RLIMIT_CPU, wanted["cpu_s"]),
        (resource.RLIMIT_FSIZE, wanted["file_bytes"]),
        (resource.RLIMIT_NOFILE, wanted["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        if most is not None:
            _, hard = resource.getrlimit(what)
            allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (allowed, allowed))


def leave_network(libc: ctypes.CDLL) -> bool:
    """Go where there is no network, and where root's capabilities count for nothing; containers may forbid it."""
    return any(
        libc.unshare(flags) == 0
        for flags in (CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC, CLONE_NEWNET | CLONE_NEWIPC, CLONE_NEWNET)
    )


def write_below(libc: ctypes.CDLL, folder: str) -> bool:
    """Let nothing outside `folder` be changed from here on; False where the kernel has no Landlock."""
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = sum(bits for since, bits in WRITES.items() if since <= version)
    # From version 6 on also no TCP (bind, connect) and nothing sent outside: abstract sockets, signals.
    handled = struct.pack("=QQQ", rights, 3, 3) if version >= 6 else struct.pack("=Q", rights)
    ruleset = libc.syscall(LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return False
    allowed = True
    for path, granted in ((folder, rights), ("/dev/null", rights & (1 << 1 | 1 << 14))):
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", granted, beneath), 12)
        allowed = libc.syscall(LANDLOCK_ADD, ruleset, 1, rule, 0) == 0 and allowed
        os.close(beneath)
    restricted = allowed and libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return restricted


def refuse_calls(libc: ctypes.CDLL) -> bool:
    """Answer the calls of this machine's list with "not permitted"; False on a processor without a list."""
    if platform.machine() not in ARCHITECTURES:
        return False
    architecture, calls = ARCHITECTURES[platform.machine()]
    load, equal, greater, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(greater, 0, 1, 0x40000000), (answer, 0, 0, refuse)]  # calls of the x32 kind, numbered anew
    for call in calls:
        steps += [(equal, 0, 1, call), (answer, 0, 0, refuse)]
    steps.append((answer, 0, 0, allow))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filtered = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filtered, 0, 0) == 0


if __name__ == "__main__":
    main()
