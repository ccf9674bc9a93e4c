"""Grafana dashboards for technicians, as code: two of them, each in French and in English.

They ask a data source of the type `prometheus` (Prometheus or VictoriaMetrics) for what the centre tells at /metrics
(docs/metrics.md) and, the second, for the mirror of the archive. Each graph has a table beside it: the only view of
Grafana that a screen reader can use. `make grafana` writes what stands in dashboards/grafana/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as bc
from grafana_foundation_sdk.builders import dashboard as bd
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as mc
from grafana_foundation_sdk.models import dashboard as md
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from murmure_privacy.annotation import CAUSES

from murmure_dashboards.wording import language

LANGUAGES = ("fr", "en")
SOURCE = mc.DataSourceRef(type_val="prometheus", uid="${source}")
PORT_STATES = ("ok", "warming", "opening", "degraded", "stalled", "absent", "wrong-device", "denied")
MEASUREMENTS = {"footfall": "crossings", "noise": "dB(A)", "air": "µg/m³"}
"""Measurements of the mirror and, for the axis, the unit of what they mostly hold."""

_FULL, _HALF, _SIXTH = 24, 12, 4
_SILENT_S = 7200

# As in ingest/prometheus/alerts.yml; a test compares them.
LOG_BEHIND = "murmure_gateway_log_entries > on (job, instance) group_left () murmure_log_entries"
RECEIPTS_UNREAD = (
    "murmure_gateway_log_entries < on (job, instance) group_left () min_over_time(murmure_log_entries[2d]) "
    "and murmure_gateway_newest_node_timestamp_seconds offset 1d > "
    "murmure_gateway_newest_node_timestamp_seconds offset 2d and changes(murmure_gateway_uptime_seconds[1d]) > 1"
)

_RED, _ORANGE, _GREEN, _GREY = "red", "orange", "green", "#808080"

_WORDS_FR = {
    "The fleet": "Le parc",
    "The figures": "Les chiffres",
    "Data source": "Source de données",
    "Stream": "Flux",
    "Interval": "Intervalle",
    "Indicator": "Indicateur",
    "Active gateways": "Boîtiers actifs",
    "Silent for two hours": "Silencieux depuis 2 h",
    "Cloned, put aside": "Clonés, mis à l'écart",
    "Revocation list holds": "Liste de révocation valable",
    "Next certificate to end": "Prochain certificat échu",
    "Free disk": "Disque libre",
    "Gateways": "Boîtiers",
    "Sensors at their ports": "Capteurs sur leurs ports",
    "Messages in the outboxes": "Messages en attente dans les boîtiers",
    "Age of the oldest message waiting": "Âge du plus ancien message en attente",
    "Missing messages": "Messages manquants",
    "Streams behind": "Retard des flux",
    "Streams behind, as a table": "Retard des flux, en tableau",
    "Refused messages": "Messages refusés",
    "Refused messages, as a table": "Messages refusés, en tableau",
    "What comes in": "Ce qui arrive",
    "Time of a commit": "Durée d'un enregistrement",
    "Spent of the privacy budget": "Budget de vie privée dépensé",
    "Spent of the yearly tank": "Réserve annuelle dépensée",
    "Time until a place has no policy": "Temps avant qu'un lieu n'ait plus de politique",
    "Not judged yet": "Pas encore jugés",
    "Receipts that are not believed": "Accusés qui ne sont pas crus",
    "remembers more than the centre has": "se souvient de plus que n'en a le centre",
    "reads or believes none": "n'en lit ou n'en croit aucun",
    "silent for": "silence",
    "settled": "réglé jusqu'à",
    "missing": "manquants",
    "waiting": "en attente",
    "boots": "démarrages",
    "reason": "motif",
    "99 of 100 within": "99 sur 100 en moins de",
    "half within": "la moitié en moins de",
    "budget": "budget",
    "tank": "réserve",
    "estimate": "estimation",
    "as released": "valeur publiée",
    "high": "haut",
    "low": "bas",
    "as a table": "en tableau",
    "The band holds the true figure 95 times in 100; it comes when the day (with weeks: the week) is over.": (
        "La bande contient le vrai chiffre 95 fois sur 100 ; elle vient quand le jour (avec des semaines : la semaine) "
        "est fini."
    ),
    "Periods marked as faulty": "Périodes marquées comme faussées",
    "What was wrong, as stewards signed it; their sentence stands on the pages.": (
        "Ce qui n'allait pas, comme les responsables l'ont signé ; leur phrase se lit sur les pages."
    ),
    "no.": "n°",
    "footfall": "passages",
    "noise": "bruit",
    "air": "air",
    "crossings": "passages",
    "dB(A)": "dB(A)",
    "µg/m³": "µg/m³",
    "For the people who run the sensors; residents have the public pages.": (
        "Pour celles et ceux qui entretiennent les capteurs ; les habitants ont les pages publiques."
    ),
    **dict(
        zip(
            PORT_STATES,
            ("en marche", "chauffe", "ouverture", "dégradé", "muet", "absent", "mauvais appareil", "refusé"),
            strict=True,
        )
    ),
}


@dataclass(frozen=True, slots=True)
class Language:
    """Words of one of LANGUAGES; the English text is the key of the French one, and nothing may lack its French."""

    code: str

    def __call__(self, english: str) -> str:
        return english if self.code == "en" else _WORDS_FR[english]


def dashboards(language: str) -> Iterator[tuple[str, str]]:
    """Yields (name of file, text) of each dashboard in one of LANGUAGES; the text is the same for the same code."""
    say = Language(language)
    for name, made in (("fleet", fleet(say)), ("figures", figures(say))):
        text = json.dumps(made.build(), cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False)
        yield f"{name}.{language}.json", text + "\n"


def fleet(say: Language) -> bd.Dashboard:
    """State, gaps, lag, refusals, outboxes and spending, of every gateway and stream."""
    made = _dashboard(say, "fleet", "The fleet", "now-2d")
    silent = f"count(time() - murmure_gateway_heard_timestamp_seconds > {_SILENT_S}) or vector(0)"
    free = "murmure_disk_free_bytes / murmure_disk_bytes"
    for panel in (
        _stat(say("Active gateways"), 'murmure_gateways{state="active"}', "none", ()),
        _stat(say("Silent for two hours"), silent, "none", ((1, _ORANGE),)),
        _stat(say("Cloned, put aside"), 'murmure_gateways{state="quarantined"}', "none", ((1, _RED),)),
        _stat(
            say("Revocation list holds"),
            "murmure_crl_expiry_timestamp_seconds - time()",
            "s",
            ((86400, _ORANGE), (3 * 86400, _GREEN)),
            below=_RED,
        ),
        _stat(
            say("Next certificate to end"),
            "min(murmure_certificate_expiry_timestamp_seconds) - time()",
            "s",
            ((7 * 86400, _ORANGE), (30 * 86400, _GREEN)),
            below=_RED,
        ),
        _stat(say("Free disk"), free, "percentunit", ((0.1, _ORANGE), (0.2, _GREEN)), below=_RED),
        _gateways(say),
        _ports(say),
        *_graph_and_table(say, "Streams behind", "murmure_stream_late_seconds > 0", "{{stream}}", "s"),
        *_graph_and_table(
            say,
            "Refused messages",
            "sum by (reason) (increase(murmure_intake_refused_total[1h])) > 0",
            "{{reason}}",
            "short",
        ),
        _graph(say("Messages in the outboxes"), [("murmure_gateway_outbox_messages", "{{gateway}}")], "short"),
        _graph(say("Age of the oldest message waiting"), [("murmure_gateway_outbox_age_seconds", "{{gateway}}")], "s"),
        _graph(say("Missing messages"), [("murmure_gateway_missing_messages", "{{gateway}}")], "short"),
        _graph(
            say("What comes in"),
            [
                ("sum by (word) (rate(murmure_intake_messages_total[5m]))", "{{word}}"),
                ("murmure_intake_queue_messages", say("Not judged yet")),
            ],
            "short",
        ),
        _graph(
            say("Time of a commit"),
            [
                (_quantile(0.99), say("99 of 100 within")),
                (_quantile(0.5), say("half within")),
            ],
            "s",
        ),
        _graph(
            say("Spent of the privacy budget"),
            [("murmure_stream_spent_rho / murmure_stream_budget_rho", "{{stream}}")],
            "percentunit",
        ),
        _graph(say("Spent of the yearly tank"), [("murmure_stream_cap_spent_ratio", "{{stream}}")], "percentunit"),
        _table(
            say("Time until a place has no policy"),
            [("sort(murmure_site_policy_end_timestamp_seconds - time())", "{{site}}")],
            "s",
            instant=True,
        ).span(_HALF),
        _receipts(say),
    ):
        made.with_panel(panel)
    return made


def figures(say: Language) -> bd.Dashboard:
    """The mirrored figures of one stream: as released, and as estimated with the band of 95 %, each with its table."""
    made = _dashboard(say, "figures", "The figures", "now-7d")
    made.with_variable(_choice("stream", say("Stream"), 'label_values({__name__=~"murmure_.+_estimate"}, stream)'))
    nodes = bd.CustomVariable("node").label(say("Interval")).values("15min,1h,6h,1d,1w,day,evening,night")
    made.with_variable(nodes.current(md.VariableOption(text="1h", value="1h")))
    of_stream = 'label_values({__name__=~"murmure_.+_estimate",stream="$stream"}, indicator)'
    made.with_variable(_choice("indicator", say("Indicator"), of_stream))
    made.annotation(_marks(say))
    for panel in _marked(say):
        made.with_panel(panel)
    for measurement, unit in MEASUREMENTS.items():
        queries = [
            (_figure(measurement, field), say(name))
            for field, name in (
                ("ci95_high", "high"),
                ("ci95_low", "low"),
                ("estimate", "estimate"),
                ("value", "as released"),
            )
        ]
        title = say(measurement)
        graph = _graph(f"{title} ({say(unit)})", queries, "none")
        graph.description(
            say("The band holds the true figure 95 times in 100; it comes when the day (with weeks: the week) is over.")
        ).interval("15m").span_nulls(True)
        _as_band(graph, say("high"), say("low"))
        made.with_panel(graph.span(_HALF))
        beside = _table(f"{title}, {say('as a table')}", queries, "none", instant=False)
        made.with_panel(beside.interval("15m").span(_HALF))
    return made


def _dashboard(say: Language, uid: str, title: str, since: str) -> bd.Dashboard:
    source = bd.DatasourceVariable("source").label(say("Data source")).type("prometheus")
    return (
        bd.Dashboard(f"Murmure : {say(title)}" if say.code == "fr" else f"Murmure: {say(title)}")
        .uid(f"murmure-{uid}-{say.code}")
        .description(say("For the people who run the sensors; residents have the public pages."))
        .tags(["murmure", say.code])
        .timezone("browser")
        .time(since, "now")
        .refresh("1m")
        .with_variable(source)
    )


def _choice(name: str, label: str, query: str) -> bd.QueryVariable:
    made = bd.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return made.refresh(md.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(md.VariableSort.ALPHABETICAL_ASC)


def _figure(measurement: str, field: str) -> str:
    """Nodes stand at their start, one in an interval: the last of it is the one."""
    labels = 'stream="$stream",node="$node",indicator="$indicator"'
    return f"last_over_time(murmure_{measurement}_{field}{{{labels}}}[$__interval])"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(murmure_intake_commit_seconds_bucket[5m])))"


def _query(expression: str, legend: str, number: int, *, instant: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
    if instant:
        return made.instant().format(PromQueryFormat.TABLE)
    return made.range()


def _stat(
    title: str, expression: str, unit: str, steps: Sequence[tuple[float, str]], below: str = _GREEN
) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(_thresholds(below, steps))
        .reduce_options(bc.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expression, title, 0, instant=False))
        .span(_SIXTH)
        .height(4)
    )


def _thresholds(below: str, steps: Sequence[tuple[float, str]]) -> bd.ThresholdsConfig:
    first = md.Threshold(value=None, color=below)
    return (
        bd.ThresholdsConfig()
        .mode(md.ThresholdsMode.ABSOLUTE)
        .steps([first, *(md.Threshold(value=value, color=colour) for value, colour in steps)])
    )


def _graph(title: str, queries: Sequence[tuple[str, str]], unit: str) -> timeseries.Panel:
    made = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).fill_opacity(0).span(_HALF).height(8)
    if unit != "none":  # levels and released counts may lie below zero
        made.min(0)
    for number, (expression, legend) in enumerate(queries):
        made.with_target(_query(expression, legend, number, instant=False))
    return made


def _graph_and_table(say: Language, title: str, expression: str, legend: str, unit: str) -> tuple[Any, Any]:
    queries = [(expression, legend)]
    return (
        _graph(say(title), queries, unit),
        _table(say(f"{title}, as a table"), queries, unit, instant=True).span(_HALF),
    )


def _table(title: str, queries: Sequence[tuple[str, str]], unit: str, *, instant: bool) -> table.Panel:
    made = table.Panel().title(title).datasource(SOURCE).unit(unit).height(8)
    for number, (expression, legend) in enumerate(queries):
        made.with_target(_query(expression, legend, number, instant=instant))
    if instant:
        return made.with_transformation(_transformation("merge", {}))
    return made.with_transformation(_transformation("joinByField", {"byField": "Time", "mode": "outer"}))


def _transformation(name: str, options: dict[str, object]) -> md.DataTransformerConfig:
    return md.DataTransformerConfig(id_val=name, options=options)


def _gateways(say: Language) -> table.Panel:
    """One row a gateway; the column of each query is named by what it asks."""
    columns = {
        say("silent for"): ("time() - murmure_gateway_heard_timestamp_seconds", "s"),
        say("settled"): ("murmure_gateway_settled_seq", "none"),
        say("missing"): ("murmure_gateway_missing_messages", "none"),
        say("waiting"): ("murmure_gateway_outbox_messages", "none"),
        say("boots"): ("murmure_gateway_boot", "none"),
    }
    queries = [(f"max by (gateway, site) ({expression})", name) for name, (expression, _) in columns.items()]
    made = _named(_table(say("Gateways"), queries, "none", instant=True).span(_FULL).height(9), columns)
    for name, (_, unit) in columns.items():
        made.override_by_name(name, [md.DynamicConfigValue(id_val="unit", value=unit)])
    return made


def _receipts(say: Language) -> table.Panel:
    """The gateways that believe nothing this centre says, with how many entries of the log each remembers."""
    columns = {say("remembers more than the centre has"): LOG_BEHIND, say("reads or believes none"): RECEIPTS_UNREAD}
    queries = [(f"max by (gateway, site) ({expression})", name) for name, expression in columns.items()]
    return _named(_table(say("Receipts that are not believed"), queries, "none", instant=True).span(_HALF), columns)


def _named(made: table.Panel, columns: Iterable[str]) -> table.Panel:
    """Names the column of each query of a table."""
    names = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(columns)}
    return made.with_transformation(
        _transformation("organize", {"excludeByName": {"Time": True}, "renameByName": names})
    )


def _ports(say: Language) -> statetimeline.Panel:
    """Which state each port was in: the metric has the state as a label, the timeline wants it as a number."""
    colours = {"ok": _GREEN, "warming": _GREY, "opening": _GREY, "degraded": _ORANGE}
    asked = " or ".join(
        f'{number} * murmure_gateway_port_state{{state="{state}"}}' for number, state in enumerate(PORT_STATES, 1)
    )
    words = {
        str(number): md.ValueMappingResult(text=say(state), color=colours.get(state, _RED), index=number)
        for number, state in enumerate(PORT_STATES, 1)
    }
    return (
        statetimeline.Panel()
        .title(say("Sensors at their ports"))
        .datasource(SOURCE)
        .mappings([md.ValueMap(options=words)])
        .with_target(_query(f"max by (gateway, port) ({asked})", "{{gateway}} {{port}}", 0, instant=False))
        .span(_FULL)
        .height(10)
    )


def _marks(say: Language) -> bd.AnnotationQuery:
    """The periods that stewards have marked, laid over each graph; Grafana joins instants that are a minute apart."""
    return (
        bd.AnnotationQuery()
        .name(say("Periods marked as faulty"))
        .datasource(SOURCE)
        .icon_color(_ORANGE)
        .expr(_in_force('last_over_time(murmure_annotation_faulty{stream="$stream"}[50y])'))
        .step("1m")
        .title_format(say("Periods marked as faulty"))
        .text_format(f"{say('no.')} {{{{number}}}}")
        .tag_keys("cause")
    )


def _marked(say: Language) -> tuple[statetimeline.Panel, table.Panel]:
    """What was wrong when, and its table: the mirror has the cause as a label, the timeline wants it as a number.
    However long an interval is, a mark of a quarter-hour within it is seen."""
    asked = " or ".join(
        f'{number} * last_over_time(murmure_annotation_faulty{{stream="$stream",cause="{cause}"}}[50y])'
        for number, cause in enumerate(CAUSES, 1)
    )
    expression = f"max by (number) (max_over_time(({_in_force(f'({asked})')})[$__interval:15m]))"
    public = language(say.code)  # the words of the pages
    words = {
        str(number): md.ValueMappingResult(text=public(f"cause.{cause}"), color=_ORANGE, index=number)
        for number, cause in enumerate(CAUSES, 1)
    }
    title, queries = say("Periods marked as faulty"), [(expression, f"{say('no.')} {{{{number}}}}")]
    mapped: Any = [md.ValueMap(options=words)]
    timeline = (
        statetimeline.Panel()
        .title(title)
        .description(say("What was wrong, as stewards signed it; their sentence stands on the pages."))
        .datasource(SOURCE)
        .mappings(mapped)
        .with_target(_query(*queries[0], 0, instant=False))
        .interval("15m")
        .span(_HALF)
        .height(5)
    )
    beside = _table(f"{title}, {say('as a table')}", queries, "none", instant=False)
    return timeline, beside.mappings(mapped).interval("15m").span(_HALF).height(5)


def _in_force(marks: str) -> str:
    """The marks that nobody has taken back. A sample stands until the next, however far away: but VictoriaMetrics
    answers nothing at all to who looks back beyond 1970."""
    return f'{marks} > 0 unless last_over_time(murmure_annotation_withdrawn{{stream="$stream"}}[50y])'


def _as_band(graph: timeseries.Panel, high: str, low: str) -> None:
    """Fills between two series of a graph, which Grafana finds by their names, and hides their lines."""
    thin = md.DynamicConfigValue(id_val="custom.lineWidth", value=0)
    graph.override_by_name(
        high,
        [
            md.DynamicConfigValue(id_val="custom.fillBelowTo", value=low),
            md.DynamicConfigValue(id_val="custom.fillOpacity", value=25),
            thin,
        ],
    )
    graph.override_by_name(low, [thin])
