"""What `murmure verify` says, in the words of residents: French and English."""

from __future__ import annotations

from collections.abc import Mapping

Words = Mapping[str, tuple[str, str]]

FINDINGS: Words = {
    "checkpoint": (
        "la signature du centre sur le journal n'est pas bonne",
        "the centre's signature on the log is not good",
    ),
    "log_short": ("des entrées du journal manquent", "entries of the log are missing"),
    "log_root": (
        "les entrées du journal ne sont pas celles que le centre a signées",
        "the entries of the log are not those that the centre signed",
    ),
    "log_shrunk": (
        "le journal a perdu des entrées depuis la dernière fois",
        "the log has lost entries since the last time",
    ),
    "log_forked": (
        "le journal n'est plus celui d'avant : son début a changé",
        "the log is not the one of before: its beginning has changed",
    ),
    "entry": ("une entrée du journal ne se lit pas", "an entry of the log cannot be read"),
    "policy_missing": (
        "une règle du journal n'est pas publiée, ou son texte a changé",
        "a policy of the log is not published, or its text has changed",
    ),
    "policy_signature": (
        "une règle n'est pas signée par assez de responsables",
        "a policy is not signed by enough stewards",
    ),
    "policy_text": (
        "le texte d'une règle, à côté d'elle, n'est pas celui qui est signé",
        "the text of a policy, beside it, is not the one that was signed",
    ),
    "policy_order": (
        "une règle ne suit pas la précédente : numéro déjà dépassé",
        "a policy does not follow the one before: its number is past",
    ),
    "policy_backdated": (
        "une règle est antidatée, ou servait avant d'être publiée",
        "a policy is dated back, or was used before it was published",
    ),
    "policy_looser": (
        "une règle plus large a servi avant la fin des sept jours d'annonce",
        "a looser policy was used before its seven days of notice were over",
    ),
    "policy_undecided": (
        "un boîtier suit une règle qui ne nomme aucune décision",
        "a gateway uses a policy that names no decision",
    ),
    "policy_roles": (
        "un boîtier suit une règle plus large que trop peu de rôles différents ont signée",
        "a gateway uses a looser policy that too few different roles have signed",
    ),
    "policy_ceiling": (
        "un boîtier suit une règle plus large que le plafond fixé à son inscription",
        "a gateway uses a policy above the ceiling that was set at its enrolment",
    ),
    "policy_floor": (
        "un boîtier suit une règle qui protège moins que ce que ce logiciel admet",
        "a gateway uses a policy that protects less than this software lends itself to",
    ),
    "annotation_missing": ("une annotation du journal n'est pas publiée", "an annotation of the log is not published"),
    "annotation_unlogged": ("une annotation n'est pas au journal", "an annotation is not in the log"),
    "annotation_signature": (
        "une annotation n'est pas signée par les responsables du site",
        "an annotation is not signed by the stewards of its site",
    ),
    "account_order": ("un compte du jour n'est pas à sa place", "an account of a day is out of its place"),
    "account_spend": (
        "un compte du jour ne dépense pas ce que prévoit la règle",
        "an account of a day does not spend what the policy says",
    ),
    "account_missing": ("le compte d'un jour, ou son fichier, manque", "the account of a day, or its file, is missing"),
    "account_wrong": (
        "le compte d'un jour n'est pas la somme de ses mesures",
        "the account of a day is not the sum of its figures",
    ),
    "account_message": ("le dernier message d'un compte manque", "the last message of an account is missing"),
    "stranger": ("un message vient d'un boîtier inconnu du journal", "a message is by a gateway that the log lacks"),
    "signature": ("un message n'est pas signé par son boîtier", "a message is not signed by its gateway"),
    "revoked": ("un boîtier révoqué parle encore", "a revoked gateway still speaks"),
    "place": ("un message est d'un autre lieu que son boîtier", "a message is of another place than its gateway"),
    "forked": ("un boîtier a signé deux messages du même numéro", "a gateway has signed two messages of one number"),
    "hole": ("des messages manquent dans la suite", "messages are missing in the sequence"),
    "chain": ("un message ne suit pas celui d'avant", "a message does not follow the one before it"),
    "policy_unknown": ("une mesure se réclame d'une règle inconnue", "a figure names a policy that is not known"),
    "stream": ("une mesure est rangée sous une autre série", "a figure stands under another stream"),
    "sigma": ("une mesure n'a pas le bruit prévu par la règle", "a figure has not the noise that its policy says"),
    "not_in_policy": ("une mesure sort de sa règle", "a figure is not within its policy"),
    "policy_over": ("une mesure suit une règle déjà remplacée", "a figure follows a policy that was replaced"),
    "duplicate": ("une même mesure est publiée deux fois", "one figure is published twice"),
    "overspent": ("plus de mesures que la règle n'en permet", "more figures than the policy allows"),
    "cap": (
        "sur une période, plus de dépense que le plafond de la règle",
        "over a span, more was spent than the cap of the policy",
    ),
    "reused_noise": (
        "un même bruit a servi plusieurs fois : des totaux sont l'exacte somme de leurs parties",
        "one noise was used several times: totals are the very sum of their parts",
    ),
    "row_missing": ("une ligne manque au tableau", "a row of the tables is missing"),
    "row_unsigned": ("une ligne du tableau n'a pas été signée", "a row of the tables was not signed"),
    "row_twice": ("une ligne est deux fois au tableau", "a row stands in the tables twice"),
    "row_column": (
        "le tableau dit autrement où, quand, en quelle unité ou sous quelle protection",
        "the tables say otherwise where, when, in what unit or under what protection",
    ),
    "row_estimate": (
        "l'estimation ou sa marge ne peut pas venir de ce qui est signé",
        "the estimate or its interval cannot come from what was signed",
    ),
    "row_computed": (
        "l'estimation ou sa marge n'est pas celle que donnent toutes les mesures signées (écrit / recalculé)",
        "the estimate or its interval is not what all signed figures give (as written / computed anew)",
    ),
    "sum_wrong": (
        "un fichier de données manque, ou n'a pas l'empreinte que le site doit en donner",
        "a file of data is missing, or has not the sum that the site has to tell of it",
    ),
    "columnar_wrong": (
        "un fichier Parquet n'a pas les lignes de son tableau CSV",
        "a Parquet file has not the rows of its CSV file",
    ),
    "quartier_row": (
        "le fichier d'un quartier dit autre chose que les tableaux du mois",
        "the file of a neighbourhood says something else than the tables of the month",
    ),
    "code_wrong": ("un code ne mène pas à sa mesure", "a code does not lead to its figure"),
    "ledger_wrong": (
        "le registre des dépenses ne dit pas ce que les mesures ont coûté",
        "the ledger does not say what the figures have cost",
    ),
    "row_value": ("le tableau dit un autre nombre que le boîtier", "the tables say another number than the gateway"),
    "row_sigma": ("le tableau dit une autre précision", "the tables say another noise or cost"),
    "row_reason": (
        "le tableau tait ou change le motif d'une absence",
        "the tables hide or change why a figure is withheld",
    ),
    "row_policy": ("le tableau nomme une autre règle", "the tables name another policy"),
}
"""By kind of finding (`verify.KINDS`)."""

SENTENCES: Words = {
    "log": (
        "Journal public : {size} entrées, {signed}.",
        "Public log: {size} entries, {signed}.",
    ),
    "pinned": ("signé par la clé que vous avez donnée", "signed by the key that you gave"),
    "unpinned": (
        "signé par la clé {key}…, publiée par le site lui-même (comparez-la, puis --key)",
        "signed by the key {key}…, which the site itself publishes (compare it, then --key)",
    ),
    "checked": (
        "Vérifié : {policies} règles, {annotations} annotations, {accounts} comptes du jour, {messages} messages, "
        "{nodes} mesures, {rows} lignes de tableau.",
        "Checked: {policies} policies, {annotations} annotations, {accounts} daily accounts, {messages} messages, "
        "{nodes} figures, {rows} rows.",
    ),
    "days": (
        "Messages relus un à un : {days} jours sur {all}, du {first} au {last}. {more}",
        "Messages read one by one: {days} days of {all}, from {first} to {last}. {more}",
    ),
    "more": ("Pour tous : --all.", "For all of them: --all."),
    "beside": (
        "Recalculé : {computed} estimations et leurs marges. Comparé aux tableaux : {beside} lignes des fichiers par "
        "quartier, des codes et du registre ; {sums} empreintes de fichiers.",
        "Computed anew: {computed} estimates and their intervals. Compared with the tables: {beside} rows of the files "
        "by neighbourhood, of the codes and of the ledger; {sums} sums of files.",
    ),
    "columnar": (
        "Fichiers Parquet : {columnar} lignes comparées à celles des fichiers CSV.",
        "Parquet files: {columnar} rows compared with those of the CSV files.",
    ),
    "no_columnar": (
        "Fichiers Parquet : leurs empreintes seulement (leurs lignes demandent pyarrow, qui n'est pas installé).",
        "Parquet files: their sums alone (their rows take pyarrow, which is not installed).",
    ),
    "left_tables": (
        "Pas lus, car trop gros : les tableaux de {months}, leurs fichiers Parquet et les codes de l'année. Les lignes "
        "vérifiées sont celles de la semaine, dans les fichiers par quartier. Pour tout lire : --days 7, ou --all.",
        "Not read, since they are too large: the tables of {months}, their Parquet files and the codes of the year. "
        "The rows that were checked are those of the week, in the files by neighbourhood. For all: --days 7, or --all.",
    ),
    "left_columnar": (
        "Pas lus, car trop gros : les fichiers Parquet de {months}. Pour les lire aussi : --days 7, ou --all.",
        "Not read, since they are too large: the Parquet files of {months}. To read them as well: --days 7, or --all.",
    ),
    "unread": (
        "Non vérifié : les pages, les fichiers qui décrivent les données (catalogue, lieux, licence), et les "
        "estimations dont la journée ou la semaine n'est pas relue en entier (seulement si elles sont possibles).",
        "Not checked: the pages, the files that describe the data (catalogue, places, licence), and estimates of which "
        "not the whole day or week was read (only whether they are possible).",
    ),
    "unjudged": (
        "Non jugé : combien de rôles doivent signer une règle plus large, et jusqu'où, pour {count} boîtiers dont le "
        "journal ne le dit pas.",
        "Not judged: how many roles have to sign a looser policy, and up to where, for {count} gateways of which the "
        "log does not say it.",
    ),
    "alone": (
        "ATTENTION : règles plus larges qu'une seule clé a signées : {policies}.",
        "CAUTION: looser policies that one key alone has signed: {policies}.",
    ),
    "untold": (
        "ATTENTION : aucune ligne de tableau pour ces lieux : {sites}.",
        "CAUTION: not one row in the tables for these sites: {sites}.",
    ),
    "elsewhere": (
        "Les jours du site ({timezones}) ne sont pas ceux des règles de ces lieux : {sites}. Les estimations sont "
        "recalculées comme le site les a faites ; elles sont moins précises que par les jours des règles.",
        "The days of the site ({timezones}) are not those of the policies of these places: {sites}. Estimates were "
        "computed anew as the site has made them; they are less exact than by the days of the policies.",
    ),
    "right": ("CONFORME : tout est comme signé.", "CONFORMING: everything is as signed."),
    "wrong_one": ("NON CONFORME : 1 constat.", "NOT CONFORMING: 1 finding."),
    "wrong": ("NON CONFORME : {count} constats.", "NOT CONFORMING: {count} findings."),
    "moved": (
        "PAS DE RÉPONSE : le site a été publié à nouveau pendant la vérification ; recommencez.",
        "NO ANSWER: the site was published anew meanwhile; check again.",
    ),
    "left_out": ("… et {count} autres.", "… and {count} more."),
    "computed": (
        "Estimation recalculée à partir de toutes les mesures signées : la même.",
        "Estimate computed anew from all signed figures: the same.",
    ),
    "remembered": ("Retenu dans {file} pour la prochaine fois.", "Remembered in {file} for the next time."),
    "faulty": (
        "ATTENTION : mesure signalée fausse par les responsables, du {start} au {end} (UTC) : {cause}. {sentence}",
        "CAUTION: the stewards marked it as a faulty measurement, from {start} to {end} (UTC): {cause}. {sentence}",
    ),
    "cause_device_fault": ("panne du capteur", "sensor failure"),
    "cause_calibration": ("étalonnage faux", "wrong calibration"),
    "cause_obstructed": ("capteur masqué", "sensor obstructed"),
    "cause_moved": ("capteur déplacé", "sensor moved"),
    "cause_works": ("travaux à côté", "works nearby"),
    "cause_other": ("autre cause", "another cause"),
    "no_match": (
        "Aucune mesure du {day} n'a ce code.",
        "No figure of {day} has this code.",
    ),
    "match": (
        "{code} : {stream}, {node} du {start} au {end} (UTC), {indicator}.",
        "{code}: {stream}, {node} from {start} to {end} (UTC), {indicator}.",
    ),
    "signed": (
        "Signé par {gateway}, message {seq} : {value} (bruit {sigma}, coût {rho} millionièmes de rho).",
        "Signed by {gateway}, message {seq}: {value} (noise {sigma}, cost {rho} millionths of rho).",
    ),
    "withheld": ("Retenu par {gateway}, message {seq} : {reason}.", "Withheld by {gateway}, message {seq}: {reason}."),
    "row": ("Le tableau dit : {value}, estimation {estimate}.", "The tables say: {value}, estimate {estimate}."),
    "same": ("CONFORME : le tableau dit ce qui est signé.", "CONFORMING: the tables say what is signed."),
    "no_rows": ("Cette source n'a pas de tableaux.", "This source has no tables."),
    "differs": ("DIFFÉRENCE : {what}.", "DIFFERENCE: {what}."),
    "none": ("–", "–"),
}
