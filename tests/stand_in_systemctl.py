"""What stands in for `systemctl` where PID 1 is not systemd: starts services as their units say; a tool of tests.

It reads units and drop-ins where systemd does, and applies what a process can be given from outside: users and groups,
capabilities, folders of state, a user namespace, hidden paths, and with confined.py beside it a file system that can be
written where the unit allows it only, system calls, and no network where the unit has none. It does not apply what only
systemd and control groups can: limits of memory and tasks, addresses (IPAddressDeny), restarts, and the rest of
SystemCallFilter. Timers are only noted; a path unit is watched.

Sources: systemd.unit(5), systemd.service(5), systemd.exec(5); setpriv(1), unshare(1).
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDERS = [Path("/etc/systemd/system"), Path("/lib/systemd/system")]
STATE = Path("/run/stand-in")
CONFINED = str(Path(__file__).with_name("confined.py"))
PATIENCE_S = 60.0
TURN_S = 0.1

Unit = dict[str, list[str]]


def load(name: str) -> Unit:
    """Returns each directive of a unit with its values in order; an empty assignment forgets those before it."""
    template, instance = re.sub(r"@[^.]*", "@", name), name.partition("@")[2].partition(".")[0]
    main = next((folder / template for folder in FOLDERS if (folder / template).is_file()), None)
    if main is None:
        sys.exit(f"Failed to start {name}: Unit {name} not found.")
    drop_ins = sorted(
        (path for folder in FOLDERS for path in folder.glob(f"{template}.d/*.conf")), key=lambda p: p.name
    )
    unit: Unit = {}
    for file in [main, *drop_ins]:
        for line in file.read_text("utf-8").replace("\\\n", " ").splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or line.startswith(("#", ";")):
                continue
            value = value.strip().replace("%i", instance)
            unit[key] = [*unit.get(key, []), value] if value else []
    return unit


def last(unit: Unit, key: str, default: str = "") -> str:
    return unit.get(key, [])[-1] if unit.get(key) else default


def arguments(unit: Unit, line: str) -> list[str]:
    """Returns the words of an Exec line, with the variables of EnvironmentFile."""
    words = shlex.split(line)
    for file in unit.get("EnvironmentFile", []):
        for assigned in shlex.split(Path(file.lstrip("-")).read_text("utf-8"), comments=True):
            key, _, value = assigned.partition("=")
            place = words.index(f"${key}") if f"${key}" in words else None
            if place is not None:
                words[place : place + 1] = value.split()
    return words


def confinement(unit: Unit) -> list[str]:
    """Returns the command in front of a service's own."""
    user = pwd.getpwnam("nobody" if last(unit, "DynamicUser") == "yes" else last(unit, "User", "root"))
    around: list[str] = []
    hidden = [path.lstrip("-") for path in unit.get("InaccessiblePaths", []) if Path(path.lstrip("-")).exists()]
    if hidden:
        mounts = "".join(f"mount --bind {STATE / 'nothing'} {shlex.quote(path)}; " for path in hidden)
        around += ["unshare", "--mount", "sh", "-ec", f'{mounts}exec "$@"', "hide"]
    around += ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--inh-caps=-all"]
    groups = unit.get("SupplementaryGroups")
    around += [f"--groups={','.join(groups)}"] if groups else ["--init-groups"] if user.pw_uid else ["--clear-groups"]
    if "CapabilityBoundingSet" in unit:
        kept = [f"+{name.removeprefix('CAP_').lower()}" for name in " ".join(unit["CapabilityBoundingSet"]).split()]
        around += [f"--bounding-set={','.join(['-all', *kept])}"]
    if last(unit, "NoNewPrivileges") == "yes":
        around += ["--no-new-privs"]
    if last(unit, "PrivateUsers") == "yes":
        around += ["unshare", "--user", "--map-current-user"]
    if last(unit, "MemoryDenyWriteExecute") == "yes":
        alone = last(unit, "PrivateNetwork") == "yes" and last(unit, "RestrictAddressFamilies") in ("none", "AF_UNIX")
        around += [sys.executable, CONFINED, "silent" if alone else "firm"]
    if last(unit, "ProtectSystem") == "strict":
        writable = ["/tmp", "/dev", *(f"/var/lib/{name}" for name in unit.get("StateDirectory", []))]
        writable += " ".join(unit.get("ReadWritePaths", [])).split()
        around += [sys.executable, CONFINED, "blind", "-r", "/", "-w", *writable, "--"]
    return around


def run(unit: Unit, line: str, name: str) -> int:
    """Runs one line of a unit to its end, and returns its status."""
    ready = line.lstrip("-+!:@")
    around = [] if "+" in line[: len(line) - len(ready)] else confinement(unit)
    with log_of(name).open("ab") as log:
        done = subprocess.run(
            [*around, *arguments(unit, ready)], stdout=log, stderr=log, umask=umask(unit), check=False
        )
    return 0 if line.startswith("-") else done.returncode


def umask(unit: Unit) -> int:
    return int(last(unit, "UMask", "0022"), 8)


def log_of(name: str) -> Path:
    return STATE / f"{name}.log"


def pid_of(name: str) -> int | None:
    """Returns the main process of a service, if it runs."""
    try:
        pid = int((STATE / f"{name}.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else pid


def start(name: str) -> None:
    """Starts a unit: a service runs (a oneshot: has run), a path is watched, a timer is noted."""
    unit = load(name)
    if name.endswith(".timer"):
        load(last(unit, "Unit", name.replace(".timer", ".service")))
        return
    if name.endswith(".path"):
        service = name.replace(".path", ".service")
        command = [sys.executable, __file__, "watch", last(unit, "PathExists"), service]
        subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return
    if pid_of(name) or any(not Path(path).exists() for path in unit.get("ConditionPathExists", [])):
        return
    for folder in unit.get("StateDirectory", []):
        path = Path("/var/lib") / folder
        path.mkdir(exist_ok=True)
        path.chmod(int(last(unit, "StateDirectoryMode", "0755"), 8))
        owner = pwd.getpwnam(last(unit, "User", "root"))
        os.chown(path, owner.pw_uid, owner.pw_gid)
    failed = f"Job for {name} failed; see {log_of(name)}"
    if any(run(unit, line, name) for line in unit.get("ExecStartPre", [])):
        sys.exit(failed)
    if last(unit, "Type") == "oneshot":
        if any(run(unit, line, name) for line in [*unit["ExecStart"], *unit.get("ExecStartPost", [])]):
            sys.exit(failed)
        return
    with log_of(name).open("ab") as log:
        process = subprocess.Popen(
            [*confinement(unit), *arguments(unit, unit["ExecStart"][-1])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            umask=umask(unit),
            start_new_session=True,
        )
    (STATE / f"{name}.pid").write_text(str(process.pid))


def stop(name: str) -> None:
    """Asks a service to end, and waits until it has."""
    pid = pid_of(name)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    patience = time.monotonic() + PATIENCE_S
    while pid_of(name):
        if time.monotonic() > patience:
            sys.exit(f"{name} does not end; see {log_of(name)}")
        time.sleep(TURN_S)


def watch(path: Path, service: str) -> None:
    """Starts a service whenever a path is there."""
    while True:
        if path.exists():
            subprocess.run([sys.executable, __file__, "start", service], check=False)
        time.sleep(TURN_S)


def main() -> None:
    STATE.mkdir(exist_ok=True)
    (STATE / "nothing").touch(mode=0)
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    verb, names = words[0], [name if "." in name else f"{name}.service" for name in words[1:]]
    if verb == "watch":
        watch(Path(words[1]), names[1])
    for name in names:
        if verb in ("stop", "restart") or (verb.startswith("try-") and pid_of(name)) or verb == "disable":
            was = pid_of(name)
            if verb == "try-reload-or-restart" and "ExecReload" in load(name) and was:
                os.kill(was, signal.SIGHUP)
                continue
            stop(name)
            if verb.startswith("try-") and was:
                start(name)
        if verb in ("start", "restart") or (verb == "enable" and "--now" in sys.argv):
            start(name)
        if verb == "reload":
            os.kill(pid_of(name) or sys.exit(f"{name} is not active"), signal.SIGHUP)
        if verb == "is-active" and not pid_of(name):
            sys.exit(3)
        if verb == "status":
            print(f"{name}: {'active' if pid_of(name) else 'inactive'}")


if __name__ == "__main__":
    main()
