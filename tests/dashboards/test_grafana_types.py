"""The dashboards for technicians against the types that Grafana publishes on npm, `@grafana/schema`.

An independent judge of what `test_grafana.py` checks with the models of the library that also builds the dashboards:
each dashboard becomes one file of TypeScript, whose compiler names every field that Grafana does not know and every
value of another type, options and drawing style of each kind of panel included.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from murmure_dashboards.grafana import LANGUAGES, dashboards

JUDGES = Path(sys.prefix) / "pages-judges"
RAW = "./node_modules/@grafana/schema/dist/types/raw"
# Kind of panel, its file there, and whether it has a style of drawing of its own.
KINDS = {
    "stat": ("stat/panelcfg/x/StatPanelCfg", False),
    "table": ("table/panelcfg/x/TablePanelCfg", True),
    "timeseries": ("timeseries/panelcfg/x/TimeSeriesPanelCfg", True),
    "state-timeline": ("statetimeline/panelcfg/x/StateTimelinePanelCfg", True),
}
# An enumeration is published as a type of its own, and stands in JSON as its plain words. Options that have a default
# may be left out.
PLAIN = """
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
    : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Defaults<Style> = Omit<FieldConfig, "custom"> & { custom?: Partial<Style> };
type Kind<Options, Style> = Plain<Omit<Panel, "options" | "fieldConfig"> & {
    options: Partial<Options>;
    fieldConfig: Omit<FieldConfigSource, "defaults"> & { defaults: Defaults<Style> };
}>;
"""


def typescript(document: dict[str, Any]) -> str:
    """Returns a dashboard as TypeScript that compiles if Grafana's published types have nothing against it.

    Left out is what these types do not describe: the query of an annotation with its form, which are Prometheus'; what
    the builders write beside every variable and Grafana reads of intervals alone (docs/decisions/0030-grafana.md); and
    the footer of a table that shows none, which belongs to the table for Grafana up to 12.1 and to its columns since.
    """
    whole = json.loads(json.dumps(document))
    panels = whole.pop("panels")
    for annotation in whole.get("annotations", {}).get("list", []):
        for name in ("expr", "step", "tagKeys", "textFormat", "titleFormat"):
            annotation.pop(name, None)
    for variable in whole.get("templating", {}).get("list", []):
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name, None)
    for panel in panels:
        if not panel.get("options", {}).get("footer", {}).get("show", True):
            del panel["options"]["footer"]
    names = "Dashboard, FieldConfig, FieldConfigSource, Panel"
    lines = [f'import type {{ {names} }} from "{RAW}/dashboard/x/dashboard_types.gen";']
    for number, (file, _) in enumerate(KINDS.values()):
        lines.append(f'import type * as kind{number} from "{RAW}/composable/{file}_types.gen";')
    lines += [PLAIN, f"export const whole: Plain<Dashboard> = {json.dumps(whole, indent=1)};"]
    for at, panel in enumerate(panels):
        number = list(KINDS).index(panel["type"])
        style = f"kind{number}.FieldConfig" if KINDS[panel["type"]][1] else "Record<string, never>"
        wanted = f"Kind<kind{number}.Options, {style}>"
        lines.append(f"export const panel{at}: {wanted} = {json.dumps(panel, indent=1)};")
    return "\n".join(lines)


def compiled(folder: Path, documents: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Returns what the compiler says of each dashboard, in one run; one that it says nothing of is not there."""
    assert (JUDGES / "node_modules/typescript").is_dir(), "no TypeScript in the environment: make install"
    (folder / "node_modules").symlink_to(JUDGES / "node_modules")
    for name, document in documents.items():
        (folder / f"{name}.ts").write_text(typescript(document), encoding="utf-8")
    # The types of other people's libraries are not what is judged.
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
    compiler = JUDGES / "node_modules/typescript/bin/tsc"
    command = [str(Path(sys.prefix) / "bin/node"), str(compiler), *options, *(f"{name}.ts" for name in documents)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        found = re.match(r"(\w+)\.ts\(\d+,\d+\): (error .*)", line)
        if found:
            said[found[1]] = f"{said.get(found[1], '')}{found[2]}\n"
        else:
            assert line.startswith(" ") and said, f"the compiler could not begin: {line}"
    assert done.returncode == (2 if said else 0), done.stderr
    return said


FAULTS = {
    "an_unknown_field": (("panels", 0, "colour"), "red"),
    "an_unknown_option": (("panels", 0, "options", "colourMode"), "value"),
    "no_such_word": (("panels", 0, "options", "colorMode"), "valu"),
    "a_unit_that_is_a_number": (("panels", 0, "fieldConfig", "defaults", "unit"), 7),
    "a_width_in_words": (("panels", 0, "gridPos", "w"), "wide"),
    "no_such_variable": (("templating", "list", 0, "type"), "datasourcery"),
}


def test_grafanas_own_types_have_nothing_against_a_dashboard(tmp_path: Path) -> None:
    """All dashboards in all languages; and broken twins, each of which the compiler refuses."""
    documents = {
        re.sub(r"\W", "_", name.removesuffix(".json")): json.loads(text)
        for language in LANGUAGES
        for name, text in dashboards(language)
    }
    ours = set(documents)
    assert len(ours) == 4
    for fault, (place, value) in FAULTS.items():
        twin = json.loads(json.dumps(documents["fleet_en"]))
        at = twin
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
        documents[fault] = twin
    said = compiled(tmp_path, documents)
    assert {name: said[name] for name in ours & said.keys()} == {}
    assert set(said) == set(FAULTS)


def test_a_kind_of_panel_that_is_not_judged_is_noticed() -> None:
    """Whoever adds a panel of another kind adds its types."""
    with pytest.raises(ValueError, match="gauge"):
        typescript({"panels": [{"type": "gauge"}]})
