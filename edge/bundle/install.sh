#!/bin/sh
# Installs, renews or removes Murmure on a gateway, as root and without any network. What it asks and does:
# docs/gateway.md. Each version has a folder of its own in /opt; the link /opt/murmure says which one runs, and is
# changed in one step when the new one has passed its self-test, so that a power cut leaves one that works.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

LINK=/opt/murmure
PREVIOUS=/opt/murmure.previous
UNITS="murmure-sense.service murmure-send.service"
DROP_IN=/etc/systemd/system/murmure-send.service.d/network.conf
HEX=[0-9a-f]
# By its name alone: a power cut leaves folders that were half made or half removed, with nothing else to know them by.
VERSIONS="$LINK-*-$HEX$HEX$HEX$HEX$HEX$HEX$HEX$HEX"
NEEDED_MB=500

case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in fr*) french=1 ;; *) french="" ;; esac

say() { # ENGLISH FRENCH
    if [ -n "$french" ]; then printf '%s\n' "$2"; else printf '%s\n' "$1"; fi
}

stop() { # STATUS ENGLISH FRENCH
    printf 'murmure: install.sh: ' >&2
    say "$2" "$3" >&2
    exit "$1"
}

usage() {
    say "usage: sh install.sh [--rollback | --uninstall | --allow ADDRESS...]
  (nothing)     installs this version, or renews an older one
  --rollback    goes back to the version before; again, and it is this one
  --uninstall   removes the software; keys and ledger stay, 'murmure edge wipe' removes them
  --allow       lets 'send' speak to these addresses (broker and resolver) and to no others" \
        "usage : sh install.sh [--rollback | --uninstall | --allow ADRESSE...]
  (rien)        installe cette version, ou remplace une plus ancienne
  --rollback    revient à la version d'avant ; une seconde fois, à celle-ci
  --uninstall   retire le logiciel ; clés et registre restent, « murmure edge wipe » les efface
  --allow       laisse « send » parler à ces adresses (courtier et résolveur) et à aucune autre"
}

running_systemd() {
    [ -d /run/systemd/system ]
}

check_archive() {
    sha256sum --check --strict --status SHA256SUMS 2>/dev/null ||
        stop 1 "the archive is damaged or incomplete; copy and unpack it again" \
            "l'archive est abîmée ou incomplète ; la copier et la décompresser de nouveau"
    version="" architecture=""
    # shellcheck source=/dev/null
    . ./BUNDLE
}

check_machine() {
    [ "$(uname -m)" = "$architecture" ] ||
        stop 2 "this machine is $(uname -m), the archive is for $architecture; take the other archive" \
            "cette machine est $(uname -m), l'archive est pour $architecture ; prendre l'autre archive"
    [ "$(getconf LONG_BIT)" = 64 ] ||
        stop 2 "the system has 32 bits; write a 64-bit Debian or Raspberry Pi OS to the card" \
            "le système est en 32 bits ; mettre sur la carte un Debian ou Raspberry Pi OS en 64 bits"
    ID="" ID_LIKE="" VERSION_ID=""
    # shellcheck source=/dev/null
    [ ! -r /etc/os-release ] || . /etc/os-release
    case " $ID $ID_LIKE " in
        *" debian "*) ;;
        *) stop 2 "this is no Debian; the archive is for Debian 12 and 13 and for Raspberry Pi OS" \
            "ce n'est pas un Debian ; l'archive est pour Debian 12 et 13 et pour Raspberry Pi OS" ;;
    esac
    if [ "$ID" = debian ] && [ "${VERSION_ID:-99}" -lt 12 ]; then
        stop 2 "Debian $VERSION_ID is too old; write Debian 12 or 13 to the card" \
            "Debian $VERSION_ID est trop ancien ; mettre Debian 12 ou 13 sur la carte"
    fi
    command -v systemd-sysusers >/dev/null || stop 2 "there is no systemd here; the units need it" \
        "il n'y a pas systemd ici ; les services en ont besoin"
    python=""
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || stop 2 "no Python 3.11, 3.12 or 3.13 here; install Debian's package python3" \
        "ni Python 3.11, ni 3.12, ni 3.13 ici ; installer le paquet python3 de Debian"
    [ -L "$LINK" ] || [ ! -e "$LINK" ] ||
        stop 2 "$LINK: was not made by this script; move it away" "$LINK : ne vient pas de ce script ; le déplacer"
}

works() { # FOLDER
    [ -e "$1/complete" ] && "$1/bin/murmure" --help >/dev/null 2>&1
}

self_test() { # FOLDER: a made-up day through the real windows, noise, ledger and outbox
    test_folder=$(mktemp -d)
    status=0
    "$1/bin/murmure" edge replay --policy selftest/policy.toml --readings selftest/readings.csv \
        --stream selftest/footfall --out "$test_folder/day.jsonl" >"$test_folder/said" 2>&1 || status=$?
    [ "$status" = 0 ] && [ "$(grep -c '"released"' "$test_folder/day.jsonl")" -ge 100 ] || status=1
    [ "$status" = 0 ] || cat "$test_folder/said" >&2
    rm -rf "$test_folder"
    return "$status"
}

make_version() { # FOLDER
    free_mb=$(($(df -Pk /opt | awk 'NR == 2 { print $4 }') / 1024))
    [ "$free_mb" -ge "$NEEDED_MB" ] ||
        stop 2 "/opt: $free_mb MB are free and $NEEDED_MB are needed; make room" \
            "/opt : $free_mb Mo libres, il en faut $NEEDED_MB ; faire de la place"
    say "installing version $version ..." "installation de la version $version ..."
    rm -rf "$1"
    mkdir -p "$1/share/murmure"
    cp -R LICENSE BUNDLE install.sh requirements.txt sbom.cdx.json edge docs "$1/share/murmure/"
    "$python" -m venv --without-pip "$1"
    # Each wheel is checked by its hash; the environment keeps pip from every index and from settings of this machine.
    env -i PATH="$PATH" PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels \
        "$1/bin/python" "$(echo wheels/pip-*.whl)/pip" install --quiet --require-hashes --no-deps --no-cache-dir \
        --disable-pip-version-check --root-user-action ignore --requirement requirements.txt ||
        stop 1 "pip could not install the wheels; what was there before goes on" \
            "pip n'a pas pu installer les paquets ; ce qui était en place continue"
    self_test "$1" || stop 1 "the new version fails its self-test; what was there before goes on" \
        "la nouvelle version échoue à son autotest ; ce qui était en place continue"
    sync
    touch "$1/complete"
    sync
}

put() { # SOURCE DESTINATION: whole or not at all, also through a power cut
    cmp -s "$1" "$2" && return
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod 644 "$2.new"
    sync "$2.new"
    mv "$2.new" "$2"
}

point() { # LINK TARGET: in one step
    ln -sfn "$2" "$1.new"
    mv -T "$1.new" "$1"
}

put_files() { # FOLDER of a version
    edge=$1/share/murmure/edge
    for unit in $UNITS; do
        put "$edge/systemd/$unit" "/etc/systemd/system/$unit"
    done
    put "$edge/systemd/murmure-edge.sysusers.conf" /etc/sysusers.d/murmure-edge.conf
    put "$edge/systemd/murmure-edge.tmpfiles.conf" /etc/tmpfiles.d/murmure-edge.conf
    put "$edge/udev/70-murmure.rules" /etc/udev/rules.d/70-murmure.rules
    put "$edge/gateway.example.toml" /etc/murmure/gateway.example.toml
    systemd-sysusers murmure-edge.conf
    systemd-tmpfiles --create murmure-edge.conf
    if [ -S /run/udev/control ]; then
        udevadm control --reload
        udevadm trigger --subsystem-match=tty
    fi
    if running_systemd; then systemctl daemon-reload; fi
}

switch() { # FOLDER: the version that runs from now on; the one before stays for --rollback
    before=$(readlink "$LINK" || true)
    changed=""
    if [ "$before" != "$1" ]; then
        changed=1
        if [ -n "$before" ] && works "$before"; then point "$PREVIOUS" "$before"; fi
        point "$LINK" "$1"
    fi
    mkdir -p /usr/local/bin /usr/share/doc
    point /usr/local/bin/murmure "$LINK/bin/murmure"
    point /usr/share/doc/murmure "$LINK/share/murmure"
    sync
}

restart() { # what runs and was changed: a restart costs the windows that are open
    if [ -z "$changed" ] || ! running_systemd; then return; fi
    # shellcheck disable=SC2086
    systemctl try-restart $UNITS
}

go_back() {
    before=$(readlink "$PREVIOUS" || true)
    if [ -z "$before" ] || ! works "$before"; then
        stop 2 "there is no version before this one" "il n'y a pas de version d'avant"
    fi
    put_files "$before"
    switch "$before"
    before=$(readlink "$LINK")
}

forget_old() {
    for folder in $VERSIONS; do
        if [ "$folder" != "$(readlink "$LINK")" ] && [ "$folder" != "$(readlink "$PREVIOUS" || true)" ]; then
            rm -rf "$folder"
        fi
    done
}

advise() {
    if awk 'NR > 1 && $1 !~ /zram/ { found = 1 } END { exit !found }' /proc/swaps 2>/dev/null; then
        say "swap is on. 'sense' keeps its memory out of it, but it wears the card: 'swapoff -a', then switch it off for good
  (Raspberry Pi OS 12: systemctl disable --now dphys-swapfile; Debian: its line in /etc/fstab)" \
            "un espace d'échange est actif. « sense » n'y écrit pas, mais il use la carte : « swapoff -a », puis le retirer
  (Raspberry Pi OS 12 : systemctl disable --now dphys-swapfile ; Debian : sa ligne dans /etc/fstab)"
    fi
    if [ -e /etc/murmure/gateway.toml ]; then
        say "this gateway is enrolled. To see that all is well: murmure edge doctor --config /etc/murmure/gateway.toml" \
            "ce boîtier est enrôlé. Pour vérifier : murmure edge doctor --config /etc/murmure/gateway.toml"
        return
    fi
    say "Next, with the code from the centre (field guide: /usr/share/doc/murmure/edge/README.md):
  murmure edge enrol CODE --centre HOST --system
  sh $LINK/share/murmure/install.sh --allow ADDRESS-OF-THE-BROKER ADDRESS-OF-THE-RESOLVER
  systemctl enable --now murmure-sense murmure-send       (in a white zone murmure-sense alone)
  murmure edge doctor --config /etc/murmure/gateway.toml" \
        "Ensuite, avec le code donné par le centre (guide : /usr/share/doc/murmure/edge/LISEZMOI.md) :
  murmure edge enrol CODE --centre MACHINE --system
  sh $LINK/share/murmure/install.sh --allow ADRESSE-DU-COURTIER ADRESSE-DU-RÉSOLVEUR
  systemctl enable --now murmure-sense murmure-send       (en zone blanche, murmure-sense seul)
  murmure edge doctor --config /etc/murmure/gateway.toml"
}

install_version() {
    check_archive
    check_machine
    # The same version may be built twice before it is released: the contents name the folder as well.
    folder=$LINK-$version-$(sha256sum SHA256SUMS | cut -c 1-8)
    works "$folder" || make_version "$folder"
    put_files "$folder"
    switch "$folder"
    if ! restart; then
        go_back
        restart || true
        stop 1 "the new version does not start; the one before runs again (journalctl -u murmure-sense -u murmure-send)" \
            "la nouvelle version ne démarre pas ; celle d'avant tourne de nouveau (journalctl -u murmure-sense -u murmure-send)"
    fi
    forget_old
    say "version $version is installed" "la version $version est installée"
    advise
}

uninstall() {
    # shellcheck disable=SC2086
    if running_systemd; then systemctl disable --now $UNITS 2>/dev/null || true; fi
    for unit in $UNITS; do
        rm -f "/etc/systemd/system/$unit" "/etc/systemd/system/multi-user.target.wants/$unit"
    done
    rm -f "$DROP_IN" /etc/sysusers.d/murmure-edge.conf /etc/tmpfiles.d/murmure-edge.conf \
        /etc/udev/rules.d/70-murmure.rules /etc/murmure/gateway.example.toml /usr/local/bin/murmure
    rmdir "$(dirname "$DROP_IN")" /etc/murmure 2>/dev/null || true
    rm -f /usr/share/doc/murmure "$LINK" "$PREVIOUS"
    # shellcheck disable=SC2086
    rm -rf $VERSIONS
    if running_systemd; then systemctl daemon-reload; fi
    say "removed; what is in /etc/murmure and /var/lib/murmure* (keys, ledger, messages) stays" \
        "retiré ; le contenu de /etc/murmure et /var/lib/murmure* (clés, registre, messages) reste"
}

allow() { # ADDRESS...
    for address in "$@"; do
        case $address in
            *[!0-9a-fA-F.:/]*) stop 2 "--allow: $address: is no address; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::7" \
                "--allow : $address : n'est pas une adresse ; écrire 192.0.2.7, 192.0.2.0/24 ou 2001:db8::7" ;;
        esac
    done
    [ -e /etc/systemd/system/murmure-send.service ] ||
        stop 2 "--allow: Murmure is not installed; install it first" "--allow : Murmure n'est pas installé ; l'installer d'abord"
    mkdir -p "$(dirname "$DROP_IN")"
    printf '[Service]\nIPAddressAllow=%s\n' "$*" >"$DROP_IN.new"
    mv "$DROP_IN.new" "$DROP_IN"
    if running_systemd; then
        systemctl daemon-reload
        systemctl try-restart murmure-send.service
    fi
    say "'send' may speak to: $*" "« send » peut parler à : $*"
}

main() {
    case "${1:-}" in
        "" | --rollback | --uninstall) [ "$#" -le 1 ] || { usage >&2; exit 2; } ;;
        --allow) [ "$#" -ge 2 ] || { usage >&2; exit 2; } ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    [ "$(id -u)" = 0 ] || stop 2 "only root may do this; write: sudo sh install.sh" \
        "seul root peut le faire ; écrire : sudo sh install.sh"
    cd "$(dirname "$0")"
    exec 9>/run/murmure-install.lock
    flock --nonblock 9 || stop 1 "another install.sh is at work; wait for it" "un autre install.sh travaille ; l'attendre"
    case "${1:-}" in
        "") install_version ;;
        --rollback)
            go_back
            restart || stop 1 "the version before does not start; see journalctl -u murmure-sense -u murmure-send" \
                "la version d'avant ne démarre pas ; voir journalctl -u murmure-sense -u murmure-send"
            say "back to $before" "retour à $before" ;;
        --uninstall) uninstall ;;
        --allow)
            shift
            allow "$@" ;;
    esac
}

# Read whole before anything is done: --uninstall removes this very file.
main "$@"
exit
