"""Runs a command with less than root's or the user's rights, by the kernel's own filters; no test, a tool of tests.

`confined.py silent COMMAND…`: no socket but AF_UNIX (any other kills), no memory both writable and executable, no
question about the clock, as in murmure-sense.service; and where the user may make one in a network namespace without an
interface.
`confined.py firm COMMAND…`: the same, but any socket: what a service with a network has left.
`confined.py blind [-r PATH…] [-w PATH…] [-l PATH…] -- COMMAND…`: no file or device but those below the paths, by
Landlock; what is below the last ones may be listed and not opened.

Sources: seccomp(2), linux/bpf_common.h, landlock(7), syscall tables of x86_64 and aarch64.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

X86_64 = platform.machine() == "x86_64"
AUDIT_ARCH = 0xC000003E if X86_64 else 0xC00000B7
SOCKET, MMAP, MPROTECT, PKEY_MPROTECT = (41, 9, 10, 329) if X86_64 else (198, 222, 226, 288)
# adjtimex, clock_adjtime, settimeofday, clock_settime; and mbind, which an allocator asks for and can do without.
REFUSED = (159, 305, 164, 227, 237) if X86_64 else (171, 266, 170, 112, 235)
IO_URING_SETUP = 425
AF_UNIX, PROT_WRITE, PROT_EXEC = 1, 2, 4
LOAD, AND, EQUALS, ANY_SET, RETURN = 0x20, 0x54, 0x15, 0x45, 0x06  # a word at an offset; two jumps; the verdict
ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
NUMBER_AT, ARCH_AT, ARG0_AT, ARG2_AT = 0, 4, 16, 32
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
CLONE_NEWNET = 0x40000000

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ, LIST = 0b1101, 0b1000  # execute, read a file, read a folder; the last alone
EVERYTHING = 0x1FFF  # all rights of the first version
FILES_ONLY = 0b111  # execute, write, read: what a plain file can have
PATH_BENEATH = 1

libc = ctypes.CDLL(None, use_errno=True)


def demand(result: int, what: str) -> int:
    if result < 0:
        sys.exit(f"confined: {what}: {os.strerror(ctypes.get_errno())}")
    return result


def filtered(network: bool) -> None:
    """Loads the filter, having left the network if there is to be none."""
    if not network:
        libc.unshare(CLONE_NEWNET)  # an ordinary user may not; the filter alone does it as well
    program: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCH_AT), (EQUALS, 1, 0, AUDIT_ARCH), (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (EQUALS, 0, 1, IO_URING_SETUP), (RETURN, 0, 0, KILL),
    ]  # fmt: skip
    if not network:
        program += [(EQUALS, 0, 4, SOCKET), (LOAD, 0, 0, ARG0_AT), (EQUALS, 0, 1, AF_UNIX)]
        program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL)]
    for number in REFUSED:
        program += [(EQUALS, 0, 1, number), (RETURN, 0, 0, EPERM)]
    for number in (MPROTECT, PKEY_MPROTECT):
        program += [(EQUALS, 0, 4, number), (LOAD, 0, 0, ARG2_AT), (ANY_SET, 0, 1, PROT_EXEC), (RETURN, 0, 0, EPERM)]
        program += [(RETURN, 0, 0, ALLOW)]
    program += [
        (EQUALS, 0, 4, MMAP), (LOAD, 0, 0, ARG2_AT), (AND, 0, 0, PROT_WRITE | PROT_EXEC),
        (EQUALS, 0, 1, PROT_WRITE | PROT_EXEC), (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
    ]  # fmt: skip
    code = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    demand(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    demand(libc.prctl(PR_SET_SECCOMP, FILTER, filters, 0, 0), "seccomp")


def blind(readable: list[Path], writable: list[Path], listed: list[Path]) -> None:
    """Leaves nothing of the file system but these paths."""
    rights = struct.pack("Q", EVERYTHING)
    ruleset = demand(libc.syscall(CREATE_RULESET, rights, len(rights), 0), "Landlock")
    rules = [(path, READ) for path in readable]
    rules += [(path, EVERYTHING) for path in writable] + [(path, LIST) for path in listed]
    for path, allowed in rules:
        beneath = os.open(path, os.O_PATH)
        rule = struct.pack("=Qi", allowed if path.is_dir() else allowed & FILES_ONLY, beneath)
        demand(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0), str(path))
        os.close(beneath)
    demand(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    demand(libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")


def main() -> None:
    if sys.argv[1] in ("silent", "firm"):
        filtered(network=sys.argv[1] == "firm")
        command = sys.argv[2:]
    else:
        split = sys.argv.index("--")
        parser = argparse.ArgumentParser()
        parser.add_argument("-r", type=Path, nargs="*", default=[])
        parser.add_argument("-w", type=Path, nargs="*", default=[])
        parser.add_argument("-l", type=Path, nargs="*", default=[])
        paths = parser.parse_args(sys.argv[2:split])
        blind(paths.r, paths.w, paths.l)
        command = sys.argv[split + 1 :]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
