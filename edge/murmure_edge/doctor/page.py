"""docs/doctor.md from the catalogue: `python -m murmure_edge.doctor.page > docs/doctor.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from murmure_edge.doctor.findings import Entry, catalogue

_LINK, _ROOT = "/tmp/exercise", "/tmp/machine"
_SEVERITIES = {"failure": "panne · failure", "warning": "avertissement · warning", "ok": "en ordre · in order"}
_GATEWAY = (
    'gateway = "gw-x"',
    'data = "data"',
    'outbox = "spool/outbox"',
    'inbox = "spool/inbox"',
    'send_data = "send"',
    'trust = "trust.toml"',
)
TRUST = (
    'gateway = "gw-x"',
    'quartier = "centre"',
    'site = "plaza"',
    f'centre = "{"a" * 64}"',
    f'stewards = ["{"b" * 64}"]',
    "signatures_required = 1",
)
_HEAD = """\
# Le docteur · The doctor

*Page faite de `edge/murmure_edge/doctor/catalogue.toml` ; un test fait chaque exercice qui a
des commandes. Made from that file; a test does each exercise that has commands.*

`murmure edge doctor` contrôle les ports, les capteurs et la machine. Chaque constat est une phrase et un geste ; le
statut est 1 s’il y a une panne. Sans `--fix --yes`, il laisse tout comme il l’a trouvé : un capteur qui dormait se
rendort. Les mesures ne s’affichent qu’à l’écran de la passerelle elle-même, `sense` arrêté ; jamais avec `--json`, ni
par SSH, ni dans un fichier. Pour apprendre sans risque : la première ligne d’un exercice se lance dans un terminal, la
dernière dans un autre.

- `--port`, `--device`, `--set` : un seul capteur, avant tout enrôlement ; sans `--device`, il devine
- `--watch` : une page vivante, que q quitte ; avec `--json`, une ligne par seconde
- `--seconds` : écouter plus longtemps ; une valeur figée se voit en 60 s (bruit) ou 600 s (air)
- `--scan` : demander les adresses 1 à 16 de chaque ligne Modbus
- `--fix` : dire ce qu’il saurait réparer (réveiller un capteur, éteindre le Bluetooth d’un radar, écrire une règle
  udev) ; avec `--yes`, le faire

`murmure edge doctor` checks ports, sensors and the machine. Each finding is one sentence and one gesture; the status is
1 if there is a failure. Without `--fix --yes` it leaves everything as it was found: a sensor that was asleep goes back
to sleep. What is measured is shown on the gateway's own screen only, with `sense` stopped; never with `--json`, over
SSH or in a file. To learn without risk: start an exercise's first line in one terminal and its last in another.

- `--port`, `--device`, `--set`: one sensor alone, before any enrolment; without `--device` it guesses
- `--watch`: a live page, which q ends; with `--json` a line a second
- `--seconds`: hear for longer; a stuck value shows in 60 s (noise) or 600 s (air)
- `--scan`: ask the addresses 1 to 16 of each Modbus line
- `--fix`: say what it could mend (wake a sensor, switch a radar's Bluetooth off, write a udev rule); with `--yes` do it

```sh
murmure edge doctor --config gateway.toml
murmure edge doctor --port /dev/serial/by-path/usb-1 --device sds011
murmure edge doctor --watch
murmure edge doctor --scan --json
murmure edge doctor --fix --yes
```
"""


def page() -> str:
    """Returns the page."""
    lines, group = [_HEAD], ""
    for entry in catalogue().values():
        if entry.code.partition(".")[0] != group:
            group = entry.code.partition(".")[0]
            lines.append(f"## {group}\n")
        lines.append(f"### {entry.code}\n\n*{_SEVERITIES[entry.severity]}*\n")
        for language in ("fr", "en"):
            sentence, gesture = (re.sub(r"\{(\w+)\}", r"*\1*", text) for text in entry.texts[language])
            lines.append(f"{sentence} **{gesture}**\n")
        lines += _exercise(entry)
    return "\n".join(lines)


def _exercise(entry: Entry) -> Iterator[str]:
    exercise = entry.exercise
    if "hand" in exercise:
        french, english = exercise["hand"]
        yield f"Exercice : {french} · Exercise: {english}\n"
        return
    yield "```sh"
    ask = exercise["ask"]
    if "sim" in exercise:
        device, _, options = exercise["sim"].partition(" ")
        yield f"murmure sim device {device} --link {_LINK} {options}".rstrip()
        ask = f"--port {_LINK} {ask}"
    if "type" in exercise:
        yield f"# {exercise['type']}"
    if "plant" in exercise:
        yield from _planted(exercise["plant"])
        yield from (f"chmod {mode} {_ROOT}/{path}" for path, mode in exercise.get("modes", {}).items())
        ask = f"--root {_ROOT} {ask}"
    if "config" in exercise:
        yield "cat > gateway.toml << END"
        yield from _GATEWAY
        if exercise["config"]:
            yield from ("[[port]]", 'name = "noise"', 'device = "nsrt_mk3"', f'path = "{exercise["config"]}"')
            yield 'streams = { noise = "plaza/noise" }'
        yield "END"
        ask = f"--config gateway.toml {ask}"
    if "trust" in exercise:
        yield from ("cat > trust.toml << END", *TRUST, *filter(None, [exercise["trust"]]), "END")
    yield f"murmure edge doctor {ask}".rstrip()
    yield "```\n"


def _planted(files: dict[str, str]) -> Iterator[str]:
    folders = sorted({path.rpartition("/")[0] for path in files})
    yield from (
        f"mkdir -p {_ROOT}/{folder}"
        for folder in folders
        if not any(other.startswith(f"{folder}/") for other in folders)
    )
    for path, text in files.items():
        if text.startswith("-> "):
            yield f"ln -s {text.removeprefix('-> ')} {_ROOT}/{path}"
        elif text == "NOW":
            yield f"date +%s > {_ROOT}/{path}"
        elif text:
            escaped = text.replace("\n", "\\n")
            yield f"printf '{escaped}' > {_ROOT}/{path}"
        else:
            yield f"touch {_ROOT}/{path}"


if __name__ == "__main__":
    print(page(), end="")
