"""Draws wiring-*.svg, one a device, from the tables below: python docs/pictures/wiring.py

Every wire bears its names at both ends, so that a drawing says all in black and white as well. Pins are those of the
vendors' sheets; where makes differ the drawing says to read the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, LEFT, RIGHT, TOP, STEP = 760, 250, 470, 62, 34
PLUS, MINUS, OUT, IN, BOTH, NOTHING = "plus", "minus", "out", "in", "both", "nothing"
INK = {PLUS: "#b3261e", MINUS: "#1b1b1b", OUT: "#0b57a4", IN: "#1e6b34", BOTH: "#6a3d9a"}


@dataclass(frozen=True)
class Wire:
    """One pin of the sensor. `kind`: what it carries; `to`: the terminal it goes to, "" if nothing is connected."""

    pin: str
    kind: str
    to: str = ""


@dataclass(frozen=True)
class Drawing:
    """One device: sensor, its wires, the adapter they end in, and what to mind, French and English line by line.

    The first `supplied` wires end in a supply of their own.
    """

    device: str
    sensor: str
    wires: tuple[Wire, ...]
    adapter: tuple[str, ...]
    notes: tuple[tuple[str, str], ...]
    supplied: int = 0


TTL = ("USB – TTL 3,3 V",)
LEVELS = (
    "Adaptateur réglé sur 3,3 V : 5 V sur RX ou TX peut détruire le capteur.",
    "Adapter set to 3.3 V: 5 V on RX or TX may destroy the sensor.",
)
DRAWINGS = (
    Drawing(
        "sds011",
        "SDS011",
        (
            Wire("3  5V", PLUS, "5V"),
            Wire("5  GND", MINUS, "GND"),
            Wire("6  RX", IN, "TX"),
            Wire("7  TX", OUT, "RX"),
            Wire("1 NC, 2, 4", NOTHING),
        ),
        ("USB – SDS011", "(fourni · supplied)"),
        (
            ("Câble et adaptateur sont livrés avec le capteur : brancher, rien à souder.",
             "Cable and adapter come with the sensor: plug in, nothing to solder."),
            ("Entrée d'air vers le bas, à l'abri de la pluie et du soleil.",
             "Inlet downward, out of rain and sun."),
        ),
    ),
    Drawing(
        "pmsx003",
        "PMS5003",
        (
            Wire("1  VCC", PLUS, "5V"),
            Wire("2  GND", MINUS, "GND"),
            Wire("4  RX", IN, "TX"),
            Wire("5  TX", OUT, "RX"),
            Wire("3 SET, 6 RESET, 7, 8", NOTHING),
        ),
        TTL,
        (
            LEVELS,
            ("Un PMS7003 a dix broches : 1-2 VCC, 3-4 GND, 7 RX, 9 TX.",
             "A PMS7003 has ten pins: 1-2 VCC, 3-4 GND, 7 RX, 9 TX."),
        ),
    ),
    Drawing(
        "sps30",
        "SPS30",
        (
            Wire("1  VDD", PLUS, "5V"),
            Wire("2  RX", IN, "TX"),
            Wire("3  TX", OUT, "RX"),
            Wire("4  SEL", NOTHING),
            Wire("5  GND", MINUS, "GND"),
        ),
        TTL,
        (
            ("SEL reste en l'air : relié à GND, le capteur parle I2C et se tait ici.",
             "SEL stays open: tied to GND the sensor speaks I2C and is silent here."),
            ("Alimentation 5 V ; les données acceptent 3,3 V comme 5 V.",
             "Supply 5 V; the data lines take 3.3 V as well as 5 V."),
        ),
    ),
    Drawing(
        "modbus_noise",
        "Sonomètre · Sound meter",
        (
            Wire("V+", PLUS, "+ 12 V"),
            Wire("V−", MINUS, "0 V"),
            Wire("A", BOTH, "A"),
            Wire("B", BOTH, "B"),
        ),
        ("USB – RS485",),
        (
            ("Couleurs selon la marque : lire l'étiquette. A et B inversés = aucune réponse.",
             "Colours differ by make: read the label. A and B swapped = no answer."),
            ("Alimentation 12 V à part ; relier son 0 V au GND de l'adaptateur s'il en a un.",
             "A 12 V supply of its own; tie its 0 V to the adapter's GND if it has one."),
            ("Câble de plus de 10 m : paire torsadée, 120 Ω entre A et B à chaque bout.",
             "Cable longer than 10 m: twisted pair, 120 Ω between A and B at either end."),
        ),
        supplied=2,
    ),
    Drawing(
        "nsrt_mk3",
        "NSRT_mk3_Dev",
        (Wire("USB", OUT, ""),),
        (),
        (
            ("Le câble USB suffit. Prendre la version SANS « Audio » : l'autre est un microphone.",
             "The USB cable is all. Take the version WITHOUT “Audio”: the other is a microphone."),
            ("Microphone dehors, sous bonnette ; câble de 5 m au plus.",
             "Microphone outdoors, under a windscreen; 5 m of cable at most."),
        ),
    ),
    Drawing(
        "uart_decibel_bbaa",
        "Module dB « BB AA »",
        (
            Wire("VCC", PLUS, "5V"),
            Wire("GND", MINUS, "GND"),
            Wire("TX", OUT, "RX"),
            Wire("RX", NOTHING),
        ),
        TTL,
        (
            ("Lire la tension sur le module : certains veulent 3,3 V au lieu de 5 V.",
             "Read the voltage on the module: some want 3.3 V instead of 5 V."),
            ("Il parle seul et n'écoute rien : son RX reste libre.",
             "It talks by itself and hears nothing: its RX stays free."),
        ),
    ),
    Drawing(
        "ld2450",
        "HLK-LD2450",
        (
            Wire("5V", PLUS, "5V"),
            Wire("GND", MINUS, "GND"),
            Wire("TX", OUT, "RX"),
            Wire("RX", IN, "TX"),
        ),
        ("USB – TTL 3,3 V", "FT232, CP2102N"),
        (
            ("256 000 bauds : adaptateur FT232 ou CP2102N, pas le petit UART d'un Raspberry Pi.",
             "256000 baud: an FT232 or CP2102N adapter, not the mini UART of a Raspberry Pi."),
            ("Il lui faut 200 mA sous 5 V. Lire les noms sur la carte, pas l'ordre des broches.",
             "It needs 200 mA at 5 V. Go by the names on the board, not by the order of the pins."),
        ),
    ),
    Drawing(
        "tfluna",
        "TF-Luna",
        (
            Wire("1  +5V", PLUS, "5V"),
            Wire("2  RXD", IN, "TX"),
            Wire("3  TXD", OUT, "RX"),
            Wire("4  GND", MINUS, "GND"),
            Wire("5, 6", NOTHING),
        ),
        TTL,
        (
            LEVELS,
            ("La broche 5 reste en l'air : reliée à GND, le capteur parle I2C et se tait ici.",
             "Pin 5 stays open: tied to GND the sensor speaks I2C and is silent here."),
            ("Deux faisceaux à 20-40 cm l'un de l'autre : un adaptateur chacun.",
             "Two beams 20 to 40 cm apart: an adapter each."),
        ),
    ),
)  # fmt: skip


def svg(drawing: Drawing) -> str:
    """Returns the drawing of one device as an SVG document."""
    wires = drawing.wires
    gap = 40 if drawing.supplied else 14
    bottom = TOP + STEP * max(len(wires), 3) + gap - 14
    height = bottom + 62 + 46 * len(drawing.notes)
    body = [_box(20, TOP - 32, LEFT - 20, bottom - TOP + 34, drawing.sensor, "capteur · sensor")]
    plugged = not drawing.adapter
    top = TOP - 32
    if drawing.supplied:
        body.append(_box(RIGHT, top, 150, 48 + STEP * (drawing.supplied - 1), "12 V"))
        top += 78 + STEP * (drawing.supplied - 1)
    if not plugged:
        body.append(_box(RIGHT, top, 150, bottom + 2 - top, *drawing.adapter))
    body.append(_box(666, TOP - 32, 74, bottom - TOP + 34, "USB", "boîtier", "gateway"))
    body.append(_usb(LEFT if plugged else RIGHT + 150, 666, (top + bottom) // 2))
    for index, wire in enumerate(wires if not plugged else ()):
        body.append(_wire(wire, TOP + (0 if index < drawing.supplied else gap) + STEP * index))
    for index, (french, english) in enumerate(drawing.notes):
        y = bottom + 44 + 46 * index
        body.append(f'<text x="20" y="{y}">{escape(french)}</text>')
        body.append(f'<text x="20" y="{y + 19}" font-style="italic" fill="#444">{escape(english)}</text>')
    told = "; ".join(
        f"{wire.pin} – {wire.to}" if wire.to else f"{wire.pin}: " + ("USB" if plugged else "libre · open")
        for wire in wires
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"
 aria-labelledby="t d" font-family="DejaVu Sans, Arial, sans-serif" font-size="14">
<title id="t">{escape(f"Câblage de {drawing.device} · Wiring of {drawing.device}")}</title>
<desc id="d">{escape(told)}</desc>
<rect width="{WIDTH}" height="{height}" fill="#fff"/>
{"".join(f"{part}{chr(10)}" for part in body)}</svg>
"""


def _box(x: int, y: int, width: int, height: int, head: str, *lines: str) -> str:
    centre = x + width // 2
    texts = [f'<text x="{centre}" y="{y - 8}" text-anchor="middle" font-weight="bold">{escape(head)}</text>']
    texts += [
        f'<text x="{centre}" y="{y + height + 17 + 14 * index}" text-anchor="middle" font-size="12" fill="#444">'
        f"{escape(line)}</text>"
        for index, line in enumerate(lines)
    ]
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#f4f4f0" stroke="#1b1b1b"/>'
    return frame + "".join(texts)


def _usb(left: int, right: int, y: int) -> str:
    return (
        f'<path d="M{left} {y}H{right}" stroke="#1b1b1b" stroke-width="7"/>'
        f'<path d="M{left} {y}H{right}" stroke="#fff" stroke-width="3"/>'
    )


def _wire(wire: Wire, y: int) -> str:
    pin = f'<text x="{LEFT - 14}" y="{y + 5}" text-anchor="end">{escape(wire.pin)}</text>'
    if not wire.to:
        cross = f"M{LEFT + 14} {y - 5}l10 10m0-10l-10 10"
        return (
            f'{pin}<path d="M{LEFT} {y}h10" stroke="#777"/><path d="{cross}" stroke="#777" stroke-width="2"/>'
            f'<text x="{LEFT + 34}" y="{y + 5}" font-size="12" fill="#444">rien · nothing</text>'
        )
    ink = INK[wire.kind]
    ends = f'<circle cx="{LEFT}" cy="{y}" r="4" fill="{ink}"/><circle cx="{RIGHT}" cy="{y}" r="4" fill="{ink}"/>'
    line = f'<path d="M{LEFT} {y}H{RIGHT}" stroke="{ink}" stroke-width="3"/>'
    middle = (LEFT + RIGHT) // 2
    head = {
        OUT: f'<path d="M{middle - 8} {y - 8}l16 8l-16 8z" fill="{ink}"/>',
        IN: f'<path d="M{middle + 8} {y - 8}l-16 8l16 8z" fill="{ink}"/>',
    }.get(wire.kind, "")
    terminal = f'<text x="{RIGHT + 14}" y="{y + 5}">{escape(wire.to)}</text>'
    return pin + line + head + ends + terminal


def main() -> None:
    """Writes every drawing beside this file."""
    for drawing in DRAWINGS:
        Path(__file__).with_name(f"wiring-{drawing.device}.svg").write_text(svg(drawing), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
