#!/bin/sh
# Installs or renews Murmure at the centre, as root, from the checkout that this file stands in. Each version has a folder
# of its own in /opt; the link /opt/murmure says which one runs, and is changed in one step when the new one is whole.
# Settings, keys and the archive are never touched. What to do before and after: ingest/README.md.
set -eu
umask 022
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

LINK=/opt/murmure
PREVIOUS=/opt/murmure.previous
HEX=[0-9a-f]
# By its name alone: a power cut leaves folders that were half made, with nothing else to know them by.
VERSIONS="$LINK-*-$HEX$HEX$HEX$HEX$HEX$HEX$HEX$HEX"
# The centre first: it leads the archive to the present version, and all others only read it.
RUNNING="murmure-ingest murmure-mirror murmure-operations murmure-alerts"

case "${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}" in fr*) french=1 ;; *) french="" ;; esac

say() { # ENGLISH FRENCH
    if [ -n "$french" ]; then printf '%s\n' "$2"; else printf '%s\n' "$1"; fi
}

stop() { # STATUS ENGLISH FRENCH
    printf 'murmure: install.sh: ' >&2
    say "$2" "$3" >&2
    exit "$1"
}

pip() { # FOLDER ARGUMENT...
    environment=$1
    shift
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps "$@" ||
        stop 1 "pip could not install; what was there before goes on" \
            "pip n'a pas pu installer ; ce qui était en place continue"
}

works() { # FOLDER
    [ -e "$1/complete" ] && "$1/bin/murmure" --help >/dev/null 2>&1
}

check_machine() {
    [ "$(id -u)" = 0 ] || stop 2 "this needs root; use sudo" "il faut être root ; utiliser sudo"
    command -v systemd-sysusers >/dev/null || stop 2 "there is no systemd here; the units need it" \
        "il n'y a pas systemd ici ; les services en ont besoin"
    python3 -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
        stop 2 "Python 3.11 to 3.13 with venv is needed: apt-get install python3-venv" \
            "il faut Python 3.11 à 3.13 avec venv : apt-get install python3-venv"
    [ -L "$LINK" ] || [ ! -e "$LINK" ] ||
        stop 2 "$LINK: was not made by this script; move it away" "$LINK : ne vient pas de ce script ; le déplacer"
}

build_wheel() { # FOLDER
    python3 -m venv "$1/tools"
    pip "$1/tools" --require-hashes -r constraints-build.txt
    "$1/tools/bin/python" -m hatchling build --target wheel --directory "$1/wheel" >/dev/null 2>&1 ||
        stop 1 "this checkout is not whole: no wheel can be made of it" \
            "cette copie des sources n'est pas complète : impossible d'en faire un paquet"
}

make_version() { # FOLDER WHEEL
    rm -rf "$1"
    python3 -m venv "$1"
    pip "$1" --require-hashes -r constraints-centre.txt
    pip "$1" "$2"
    share=$1/share/murmure
    mkdir -p "$share/ingest" "$share/dashboards" "$share/privacy"
    cp -RL ingest/systemd ingest/prometheus ingest/install.sh ingest/ingest.example.toml ingest/README.md \
        ingest/LISEZMOI.md "$share/ingest"
    cp dashboards/city.example.toml "$share/dashboards"
    cp privacy/policy.example.toml "$share/privacy"
    sync
    touch "$1/complete"
    sync
}

point() { # LINK TARGET: in one step
    ln -sfn "$2" "$1.new"
    mv -T "$1.new" "$1"
}

put_files() { # FOLDER of a version
    systemd=$1/share/murmure/ingest/systemd
    mkdir -p /etc/systemd/system /etc/sysusers.d /etc/tmpfiles.d
    cp -R "$systemd"/*.service "$systemd"/*.service.d "$systemd"/*.timer /etc/systemd/system
    cp "$systemd/murmure-centre.sysusers.conf" /etc/sysusers.d/murmure-centre.conf
    cp "$systemd/murmure-centre.tmpfiles.conf" /etc/tmpfiles.d/murmure-centre.conf
    systemd-sysusers murmure-centre.conf
    systemd-tmpfiles --create murmure-centre.conf
    cat >/usr/local/bin/murmure-centre.new <<'END'
#!/bin/sh
# `murmure` as the user who owns the archive, with the settings of this machine; made by ingest/install.sh.
umask 027
cd /etc/murmure && exec runuser -u murmure-ingest -- /opt/murmure/bin/murmure "$@"
END
    chmod 755 /usr/local/bin/murmure-centre.new
    mv /usr/local/bin/murmure-centre.new /usr/local/bin/murmure-centre
    point /usr/local/bin/murmure "$LINK/bin/murmure"
}

switch() { # FOLDER: the version that runs from now on; the one before stays for --rollback
    before=$(readlink "$LINK" || true)
    put_files "$1"
    [ "$before" != "$1" ] || return 0
    if [ -n "$before" ] && works "$before"; then point "$PREVIOUS" "$before"; fi
    point "$LINK" "$1"
    sync
}

restart() {
    [ -d /run/systemd/system ] || return 0
    systemctl daemon-reload
    for unit in $RUNNING; do systemctl try-restart "$unit"; done
}

roll_back() {
    before=$(readlink "$PREVIOUS" || true)
    if [ -z "$before" ] || ! works "$before"; then
        stop 2 "there is no version before this one" "il n'y a pas de version d'avant"
    fi
    switch "$before"
    say "$before runs from now on; start the services" "$before tourne désormais ; démarrer les services"
}

install_version() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "building and installing ..." "construction et installation ..."
    build_wheel "$work"
    wheel=$(echo "$work"/wheel/murmure-*.whl)
    version=$(basename "$wheel" | cut -d - -f 2)
    # The same version may be built twice before it is released: the contents name the folder as well.
    folder=$LINK-$version-$(cat "$wheel" constraints-centre.txt | sha256sum | cut -c 1-8)
    works "$folder" || make_version "$folder" "$wheel"
    switch "$folder"
    restart
    for old in $VERSIONS; do
        if [ "$old" != "$folder" ] && [ "$old" != "$(readlink "$PREVIOUS" || true)" ]; then rm -rf "$old"; fi
    done
    say "version $version is installed: $folder" "la version $version est installée : $folder"
}

cd "$(dirname "$0")/.."
case "${1:-}" in
    "")
        check_machine
        install_version
        ;;
    --rollback)
        check_machine
        roll_back
        ;;
    *) stop 2 "usage: sh ingest/install.sh [--rollback]" "usage : sh ingest/install.sh [--rollback]" ;;
esac
