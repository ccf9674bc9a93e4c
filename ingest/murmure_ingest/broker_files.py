"""The texts that `murmure broker init` writes: mosquitto's configuration, its rights, and systemd's units."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from murmure_ingest.config import IngestConfig

if TYPE_CHECKING:
    from murmure_ingest.broker import Settings

PACKET_LIMIT = 20_480
"""A sealed policy of 16 KiB with its signatures, topic and headers; bytes of one MQTT packet."""
WINDOW = 3000
"""Unacknowledged messages in flight to one client. The centre acknowledges after the commit of a batch (1000 at most):
mosquitto's own 20 would stall it for ever."""

_CONF = """\
# Written by 'murmure broker init', which overwrites it: settings are options of that command.
listener {port}{listen}
cafile {folder}/authority.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
crlfile {folder}/authority.crl
# TLS 1.2 is the least, not the only one.
tls_version tlsv1.2
require_certificate true
# Who somebody is says the certificate alone: without the second line one gateway throws another out by its client id.
use_identity_as_username true
use_username_as_clientid true

allow_anonymous false
acl_file {folder}/acl
user {user}

# A gateway keeps a message until the centre's signed receipt for it comes: what a broker loses is sent again.
persistence true
persistence_location {folder}/state/
autosave_interval 30

max_packet_size {packet}
max_inflight_messages {window}
max_queued_messages 100000
max_queued_bytes 134217728
queue_qos0_messages false
allow_zero_length_clientid false
max_keepalive 3600
persistent_client_expiration 14d
sys_interval 0

log_dest stderr
log_type error
log_type warning
log_type notice
"""

_ACL = """\
# Written by 'murmure broker init'. %u is the common name of the certificate.
pattern write murmure/v1/+/%u/release
pattern write murmure/v1/+/%u/health
pattern read murmure/v1/+/%u/policy
pattern read murmure/v1/+/%u/receipt
"""
_CENTRE = """\

user {name}
topic read murmure/v1/+/+/release
topic read murmure/v1/+/+/health
topic write murmure/v1/+/+/receipt
topic write murmure/v1/+/+/policy
"""
_TAIL = """\

user tail
topic read murmure/v1/+/+/release
topic read murmure/v1/+/+/health
"""
_REVOKED = """\

user {name}
topic deny #
"""

_CONFINED = """\
CapabilityBoundingSet={capabilities}
AmbientCapabilities=
NoNewPrivileges=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateMounts=yes
PrivateTmp=yes
PrivateIPC=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
LimitCORE=0
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
"""

_DROP_IN = """\
# Confines Debian's mosquitto and gives it the town's configuration.
# Copy to /etc/systemd/system/mosquitto.service.d/murmure.conf

[Service]
ExecStartPre=
ExecStart=
ExecStart=/usr/sbin/mosquitto -c {folder}/mosquitto.conf
User={user}
Group={group}
Restart=always
RestartSec=2
UMask=0077
LimitNOFILE=65536
# mosquitto bounds neither subscriptions nor retained topics of one client: whoever has a gateway's key can fill it, and
# must not fill the machine.
MemoryMax=50%
MemorySwapMax=0
TasksMax=16
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
PrivateUsers=yes
ReadWritePaths={folder}/state
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
{confined}"""

_SERVICE = """\
# Renews what the broker reads; murmure-broker.timer runs it every day, murmure-broker.path when a gateway is revoked.

[Unit]
Description=Murmure: revocation list and certificates of the broker
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStartPre=/bin/rm -f {data_dir}/broker.renew
ExecStart={program} broker init {folder} --config {config}
# A revoked gateway's open connection ends with a restart only; everything else is read anew while connections stay.
ExecStartPost=+/bin/sh -c 'if [ -e {folder}/restart ]; then systemctl try-restart mosquitto && rm {folder}/restart; \
else systemctl try-reload-or-restart mosquitto; fi'
UMask=0077
PrivateNetwork=yes
RestrictAddressFamilies=none
IPAddressDeny=any
ReadWritePaths={folder} {data_dir}
SystemCallFilter=@system-service
SystemCallFilter=~@resources @obsolete
{confined}"""

_TIMER = """\
[Unit]
Description=Murmure: daily renewal of the broker's revocation list

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""

_PATH = """\
[Unit]
Description=Murmure: a gateway was revoked

[Path]
PathExists={data_dir}/broker.renew

[Install]
WantedBy=paths.target
"""


def mosquitto_conf(settings: Settings, folder: Path, user: str) -> str:
    """Returns mosquitto.conf: for Debian's 2.0.11; 2.1 knows every line of it too."""
    return _CONF.format(
        port=settings.port,
        listen=f" {settings.listen}" if settings.listen else "",
        folder=folder,
        user=user,
        packet=PACKET_LIMIT,
        window=WINDOW,
    )


def acl(workers: Sequence[str], revoked: Sequence[str]) -> str:
    """Returns who may write and read what, by common name. Who is revoked may nothing, whatever his certificate."""
    centre = "".join(_CENTRE.format(name=name) for name in workers)
    return _ACL + centre + _TAIL + "".join(_REVOKED.format(name=name) for name in revoked)


def denied(text: str) -> set[str]:
    """Returns whom a text of `acl` denies every topic."""
    return set(re.findall(_REVOKED.strip().format(name="(.+)"), text))


def units(folder: Path, config: IngestConfig, user: pwd.struct_passwd, program: str) -> dict[str, str]:
    """Returns systemd's files by name: mosquitto's drop-in, and what renews."""
    data_dir, source = config.data_dir.resolve(), Path(config.source).resolve()
    own = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"
    return {
        "mosquitto.service.d/murmure.conf": _DROP_IN.format(
            folder=folder,
            user=user.pw_name,
            group=grp.getgrgid(user.pw_gid).gr_name,
            confined=_CONFINED.format(capabilities=""),
        ),
        "murmure-broker.service": _SERVICE.format(
            folder=folder,
            data_dir=data_dir,
            config=source,
            program=program,
            confined=_CONFINED.format(capabilities=own),
        ),
        "murmure-broker.timer": _TIMER,
        "murmure-broker.path": _PATH.format(data_dir=data_dir),
    }
