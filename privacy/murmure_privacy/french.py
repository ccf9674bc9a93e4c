"""What the kernel refuses of a policy or of what was published, in French, for stewards and residents.

The kernel says what is wrong in English, where it finds it: one sentence with the file's own words in it. Here stands
each of these sentences once more, with {} for those words, and beside it the French one. A test reads every sentence
that the sources can say and asks for each.
"""

from __future__ import annotations

import re
from functools import cache

from murmure_privacy import french_town
from murmure_privacy.errors import ConfigError, MurmureError

_KEYS = {
    "file": "fichier",
    "line {}": "ligne {}",
    "stream {}: {}": "flux {} : {}",
    "stream": "flux",
    "readings": "enregistrement",
    "key": "clé",
    "policy": "règle",
    "signatures": "signatures",
}
"""Of keys, those that are no words of the file or of the command line."""

_WANTED = {
    "a date such as {}": "une date comme {}",
    "a pair such as {}": "une paire comme {}",
    "a positive number": "un nombre positif",
    "a table such as {}": "une table comme {}",
    "a text in quotes": "un texte entre guillemets droits",
    "a unit of privacy such as {}": "une unité protégée comme {}",
    "a whole number": "un nombre entier",
    "at least one [[stream]]": "au moins un [[stream]]",
    "true or false": "true ou false",
}

_PROBLEMS = {
    # Of the file
    "[stream] in single brackets": "[stream] entre crochets simples",
    "begins with a byte order mark": "commence par une marque d'ordre des octets (BOM)",
    "no policy in it": "ne contient pas de règle",
    "not UTF-8 at byte {}": "n'est pas en UTF-8 à l'octet {}",
    "not TOML: {}": "ce n'est pas du TOML",
    "{}: not TOML: {}": "{0} : ce n'est pas du TOML",
    "{}: the key stands there twice": "{} : la clé y figure deux fois",
    "{} bytes": "{} octets",
    "it pauses already": "elle suspend déjà",
    "it stands in a way that this command cannot change": "cette commande ne sait pas changer ce qui est écrit ainsi",
    "does not stand on a line of its own": "n'est pas seul sur sa ligne",
    "no rows": "aucune ligne",
    "not the header of a recording": "ce n'est pas l'en-tête d'un enregistrement",
    "is not UTF-8 text": "n'est pas du texte en UTF-8",
    "cannot be read: {}": "est illisible",
    "a second header, as of two recordings in one file": "un second en-tête, comme de deux enregistrements en un",
    "time without Z": "l'heure n'a pas de Z",
    "value {} is not a number": "la valeur {} n'est pas un nombre",
    "the value {} is no count": "la valeur {} n'est pas un nombre de passages",
    "the year {} is not one of a recording": "l'année {} n'est pas celle d'un enregistrement",
    "{} columns where there are {}": "{} colonnes au lieu de {}",
    "Invalid isoformat string: {}": "{} n'est pas une date",
    "another row has the same instant and another value": "une autre ligne a le même instant et une autre valeur",
    "hold no whole day": "ne contient aucun jour entier",
    "nothing for {} among {}": "rien pour {} parmi {}",
    "none measures levels or air": "aucun ne mesure le son ou l'air",
    # Of keys and values
    "unknown key": "clé inconnue",
    "missing": "manque",
    "empty": "est vide",
    "empty, too long or not printable": "est vide, trop long ou non imprimable",
    "has a time of day": "contient une heure",
    "not a table": "n'est pas une table",
    "a format this version does not know": "un format que cette version ne connaît pas",
    "{} is not {}": "{} n'est pas {}",
    "is {}": "est {}",
    "{} is not a name": "{} n'est pas un nom",
    "{} is not SITE/NAME": "{} n'est pas de la forme SITE/NOM",
    "{} is not of this time": "{} n'est pas de notre époque",
    "{} is no finite number": "{} n'est pas un nombre fini",
    "{} is not above {}": "{} n'est pas au-dessus de {}",
    "{} is not below {}": "{} n'est pas en dessous de {}",
    "{} is not between {} and {}": "{} n'est pas entre {} et {}",
    "{} is not within 0 and {} {}": "{} n'est pas entre 0 et {} {}",
    "{} is no pair of whole numbers": "{} n'est pas une paire de nombres entiers",
    "{} is too large": "{} est trop grand",
    "{} is unknown": "{} est inconnu",
    "{} is not there": "{} n'y est pas",
    "{} stands twice": "{} y est deux fois",
    "stands twice": "y est deux fois",
    "{} streams": "{} flux",
    "{} sites": "{} sites",
    "{} uses {}": "{} emploie {}",
    "is for the whole policy": "vaut pour toute la règle",
    "a count has none": "un comptage n'en a pas",
    "{} has one indicator only": "{} n'a qu'un indicateur",
    "timezone {} is unknown": "le fuseau horaire {} est inconnu",
    "timezone {} is not whole hours from UTC on {}": "le fuseau horaire {} n'est pas à un nombre entier d'heures de "
    "l'UTC le {}",
    # Of what it would do
    "earlier than valid_from": "est avant valid_from",
    "more than ten years after valid_from": "est plus de dix ans après valid_from",
    "solved by `policy preview` and `policy new` only, never signed": "n'est résolu que par `policy preview` et "
    "`policy new`, et n'est jamais signé",
    "{} is no small probability": "{} n'est pas une petite probabilité",
    "is none of {}": "n'est aucun de {}",
    "does not nest with {}": "ne s'emboîte pas avec {}",
    "{} does not divide a quarter-hour": "{} ne divise pas un quart d'heure",
    "{} does not hold whole bins of 5 dB": "{} ne contient pas un nombre entier de tranches de 5 dB",
    "{} gets less than a micro-rho": "{} reçoit moins d'un micro-rho du budget",
    "the sum of {} would not fit 64 bits": "la somme de {} ne tiendrait pas en 64 bits",
    "the noise on {} would not fit 64 bits": "le bruit sur {} ne tiendrait pas en 64 bits",
    "no day fits: nothing would be published": "aucun jour n'y tient : rien ne serait publié",
    "the largest message has {} bytes of {}": "le plus long message a {} octets sur {}",
    "stands beside epsilon": "est à côté de epsilon",
    "is not a node and an error_95": "n'est pas fait de node et de error_95",
    "is no node of the stream": "n'est pas un intervalle du flux",
    "is no positive number": "n'est pas un nombre positif",
    "levels have an error of their own only as means": "un niveau n'a de marge propre que comme moyenne",
    "{} takes an epsilon above {}": "{} demande un epsilon au-delà de {}",
    "{} does not come after {}": "{} ne vient pas après {}",
    # Of the command
    "without --readings": "sans --readings",
    "beside several policies": "à côté de plusieurs règles",
    "{} does not do": "{} ne convient pas",
    "{} is no whole number": "{} n'est pas un nombre entier",
    "{} is no date": "{} n'est pas une date",
    "{} is no margin": "{} n'est pas une marge",
    "{} has an epsilon too": "{} a aussi un epsilon",
    "{} has two policies here": "{} a deux règles ici",
    "{} can be reached from other machines, and the page asks nobody who they are": "{} se joint depuis d'autres "
    "machines, et la page ne demande à personne qui il est",
    "{} cannot be used ({})": "{0} ne peut pas servir",
    # Of keys and signatures
    "{} is no role": "{} n'est pas un rôle",
    "not a key": "ce n'est pas une clé",
    "there is no such file": "ce fichier n'existe pas",
    "the file exists already": "ce fichier existe déjà",
    "holds no published site": "ne contient aucun site publié",
    "others may read this secret": "d'autres peuvent lire ce secret",
    "no decision is named yet": "aucune décision n'est encore nommée",
    "it seals other bytes": "ce fichier signe un autre texte",
    "not a signed policy ({})": "ce n'est pas une règle signée",
    # What a gateway would refuse
    "it is for {}, not {}": "elle est pour {}, pas pour {}",
    "it is version {}, and {} is known": "elle porte la version {}, et la {} est déjà connue",
    "no decision is named": "elle ne nomme aucune décision",
    "{} of {} signatures are there": "{} signatures sur {} y sont",
    "{} of the {} signatures required are there": "{} signatures sur {} y sont",
    "the first policy needs signatures of {} different roles, and it is signed by {}": "la première règle demande des "
    "signatures de {} rôles différents, et elle est signée par {}",
    "a loosening needs signatures of {} different roles, and it is signed by {}": "un assouplissement demande des "
    "signatures de {} rôles différents, et il est signé par {}",
    "nobody": "personne",
    "its streams cost {} micro-rho together, and {} are the {} that was set at the enrolment": "ses flux coûtent "
    "ensemble {0} micro-rho, et le plafond fixé à l'enrôlement est de {1}",
    "its streams cost {} micro-rho together, and {} are the {} of this release": "ses flux coûtent ensemble {0} "
    "micro-rho, et la limite de cette version du logiciel est de {1}",
    "delta {} is above {}, the floor of this release": "delta {} dépasse {}, la limite de cette version du logiciel",
    # Of what was published
    "no log is published there": "aucun journal n'y est publié",
    "this is no address": "ce n'est pas une adresse",
    "its centre has signed no log yet": "son centre n'a pas encore signé de journal",
    "{} is no code": "{} n'est pas un code",
    "the code does not say where it was published": "le code ne dit pas où il a été publié",
    "the site publishes another key, {}": "le site publie une autre clé, {}",
    "not a public key": "ce n'est pas une clé publique",
    "{} is no checkpoint": "{} n'est pas une tête de journal",
    "it is not what an earlier run has written": "ce n'est pas ce qu'une vérification précédente a écrit",
    "it remembers the log of another key": "il retient le journal d'une autre clé",
    "a checkpoint has at most {} bytes": "une tête de journal a {} octets au plus",
    "not a checkpoint": "ce n'est pas une tête de journal",
    "not a checkpoint of this log": "ce n'est pas une tête de ce journal",
    "a signature begins with a dash": "une signature commence par un tiret",
    "the centre's key did not sign it": "la clé du centre ne l'a pas signée",
    "the signature is not by the expected key": "la signature n'est pas de la clé attendue",
    "more than {} bytes": "plus de {} octets",
    "it comes too slowly": "la réponse est trop lente",
    "it is cut off": "la réponse est tronquée",
    "it is cut off, or too large": "le fichier est tronqué, ou trop gros",
    "too many files": "trop de fichiers",
    # Of the machine
    "No such file or directory": "ce fichier n'existe pas",
    "Permission denied": "l'accès est refusé",
    "Is a directory": "c'est un dossier",
    "Not a directory": "le chemin passe par un fichier",
    "File exists": "ce fichier existe déjà",
    "No space left on device": "le disque est plein",
    "Read-only file system": "le disque est en lecture seule",
    "File name too long": "le nom est trop long",
}

_MENDS = {
    "begin each stream with [[stream]]": "commencez chaque flux par [[stream]]",
    "begin with policy = 1, as in {}": "commencez par policy = 1, comme dans {}",
    "close the bracket or the quote that is open": "fermez le crochet ou le guillemet ouvert",
    "mend it": "corrigez-le",
    "there is nothing to do": "il n'y a rien à faire",
    "write version = {} and paused = true in an editor": "écrivez version = {} et paused = true dans un éditeur",
    "mend that line": "corrigez cette ligne",
    "write numbers with a point, e.g. {}": "écrivez les nombres avec un point, par exemple {}",
    "write dates as {}": "écrivez les dates comme {}",
    "write true, false or a text in quotes": "écrivez true, false ou un texte entre guillemets droits",
    "give each stream one table": "donnez une seule table à chaque flux",
    "keep a policy within {} bytes": "restez dans {} octets",
    "leave one of the two out": "retirez l'un des deux",
    "leave the key out": "retirez la clé",
    "name at least one of {}": "nommez au moins un de {}",
    "name either it or parts of the day": "nommez-le, ou bien des parties du jour",
    "save it as UTF-8": "enregistrez-le en UTF-8",
    "save it as UTF-8 without one": "enregistrez-le en UTF-8 sans elle",
    "use letters, digits and hyphens": "employez des lettres, des chiffres et des tirets",
    "use those, which nest": "employez ceux-là, qui s'emboîtent",
    "write 1 to 32 [[stream]] tables": "écrivez de 1 à 32 tables [[stream]]",
    "write 1e-6, or leave it out": "écrivez 1e-6, ou retirez-le",
    "write a later date": "écrivez une date plus tardive",
    "write an earlier date": "écrivez une date plus proche",
    "write a number such as {}": "écrivez un nombre comme {}",
    "write a positive number, e.g. {}": "écrivez un nombre positif, par exemple {}",
    "write a whole number in that range": "écrivez un nombre entier dans cet intervalle",
    "write at most {}": "écrivez au plus {}",
    "write for example {}": "écrivez par exemple {}",
    "write for example {}, at most {} characters": "écrivez par exemple {}, en {} caractères au plus",
    "write it above the first [[stream]]": "écrivez-le au-dessus du premier [[stream]]",
    "write low and high, e.g. {}": "écrivez le bas et le haut, par exemple {}",
    "write one line of text": "écrivez une ligne de texte",
    "write one of {}": "écrivez l'un de {}",
    "write the lower bound first, e.g. {}": "écrivez d'abord la borne basse, par exemple {}",
    "write {} = [low, high]": "écrivez {} = [bas, haut]",
    "write a name such as Europe/Paris (Debian package tzdata)": "écrivez un nom comme Europe/Paris (paquet Debian "
    "tzdata)",
    "write one that is": "écrivez-en un qui le soit",
    "write version = {}": "écrivez version = {}",
    "write {}": "écrivez {}",
    "lower it, or protect fewer seconds": "baissez-le, ou protégez moins de secondes",
    "lower the upper bound": "baissez la borne haute",
    "lower the upper bound, or protect fewer seconds": "baissez la borne haute, ou protégez moins de secondes",
    "raise it": "augmentez-le",
    "raise its weight, or epsilon": "augmentez son poids, ou epsilon",
    "drop a node": "retirez un intervalle",
    "ask for a larger error": "demandez une marge plus grande",
    "give indicators a mean": "donnez une moyenne (mean) à indicators",
    "give a readable policy": "donnez une règle lisible",
    "give a policy of {}": "donnez une règle de {}",
    "give the policy of {}": "donnez la règle de {}",
    "give one of the two": "donnez l'un des deux",
    "give a file that 'murmure policy sign' wrote": "donnez un fichier que 'murmure policy sign' a écrit",
    "name a file that does not exist yet, in a folder that may be written": "nommez un fichier qui n'existe pas "
    "encore, dans un dossier où l'on peut écrire",
    "name each quantity once": "nommez chaque mesure une seule fois",
    "name the recording too": "nommez aussi l'enregistrement",
    "write QUANTITY=NODE:MARGIN, 1h:15": "écrivez MESURE=INTERVALLE:MARGE, par exemple footfall=1h:15",
    "write QUANTITY=…, once for each of {}": "écrivez MESURE=…, une fois pour chacun de {}",
    "write {} QUANTITY=15": "écrivez {} MESURE=15",
    "leave --readings out": "retirez --readings",
    "add --site with one of {}": "ajoutez --site avec l'un de {}",
    "give a readable recording": "donnez un enregistrement lisible",
    "give a recording with rows": "donnez un enregistrement qui a des lignes",
    "give a recording of some days, best a week": "donnez un enregistrement de quelques jours, au mieux une semaine",
    "give a whole CSV or gzip file": "donnez un fichier CSV ou gzip entier",
    "give another file, or --metric": "donnez un autre fichier, ou --metric",
    "write TIME with Z, site, metric, value, unit": "écrivez l'heure avec un Z, le site, la mesure, la valeur, l'unité",
    "write how many passed, 0 to {}, or leave the row out": "écrivez combien sont passés, de 0 à {}, ou retirez la "
    "ligne",
    "give one policy for each site": "donnez une seule règle par site",
    "give the policy of its site alone": "donnez seulement la règle de son site",
    "leave it out, or add --open-to-others": "retirez-le, ou ajoutez --open-to-others",
    "name a free port": "nommez un port libre",
    "write a word such as {} or {}": "écrivez un mot comme {} ou {}",
    "choose another name; keys are not replaced": "choisissez un autre nom : une clé ne se remplace pas",
    "make it with 'murmure policy key' or check the path": "faites-la avec 'murmure policy key', ou vérifiez le chemin",
    "a key file holds 64 hexadecimal digits": "un fichier de clé contient 64 chiffres hexadécimaux",
    "run 'chmod 600 {}'": "lancez 'chmod 600 {}'",
    "write the reference of the deliberation, such as {}": "écrivez la référence de la délibération, comme {}",
    "give the file it was made from, or another --out": "donnez le fichier dont il vient, ou un autre --out",
    "write decision = the reference of the deliberation": "écrivez decision = la référence de la délibération",
    "let more of the pinned stewards sign it": "faites-la signer par plus de responsables connus du boîtier",
    "let another role sign it too": "faites-la signer par un autre rôle aussi",
    "lower an epsilon": "baissez un epsilon",
    "lower it": "baissez-le",
    "give the folder or the address of a site, or an archive that 'murmure ingest export' wrote": "donnez le dossier "
    "ou l'adresse d'un site, ou une archive que 'murmure ingest export' a écrite",
    "write it as https://name/path": "écrivez-la comme https://nom/chemin",
    "name the --out of `murmure site build`": "nommez le --out de `murmure site build`",
    "run the centre once, and export": "lancez le centre une fois, puis exportez",
    "look at its ten letters and figures again": "regardez de nouveau ses dix lettres et chiffres",
    "name its site": "nommez son site",
    "ask the town which one is right, and trust nothing until then": "demandez à la ville laquelle est la bonne, et "
    "ne croyez rien d'ici là",
    "give 64 hexadecimal digits": "donnez 64 chiffres hexadécimaux",
    "write the number of entries, a colon, and the root as it stands on the page, 44 signs": "écrivez le nombre "
    "d'entrées, deux-points, et la racine telle qu'elle est sur la page, 44 signes",
    "name another file": "nommez un autre fichier",
    "ask the town why its key changed, or name another file": "demandez à la ville pourquoi sa clé a changé, ou nommez "
    "un autre fichier",
}

_LINES = {
    "{}: signatures: version {} of {} is published already with fewer of them, and what is published stays as it is; "
    "write version = {} and let all of them sign that": "{} : signatures : la version {} de {} est déjà publiée avec "
    "moins de signatures, et ce qui est publié reste tel quel ; écrivez version = {} et faites-la signer par tous",
    "{}: signatures: {} would not believe it ({}); let its stewards sign it with 'murmure policy sign'": "{} : "
    "signatures : {} ne la croirait pas ({}) ; faites-la signer par ses responsables avec 'murmure policy sign'",
    "{}: policies: none; publish one first, with 'murmure policy publish'": "{} : règles : aucune ; publiez-en une "
    "d'abord, avec 'murmure policy publish'",
    "{}: site: no gateway serves {}; enrol one first": "{} : site : aucun boîtier ne sert {} ; enrôlez-en un d'abord",
    "{}: {}: {} would not believe it: {}; {}": "{0} : {1} : {2} ne la croirait pas : {3} ; {4}",
    "{}: {}; see who may read it": "{} : {} ; voyez qui peut le lire",
    "{}: the server answers {}; try later": "{} : le serveur répond {} ; réessayez plus tard",
    "{}: {}; look at the address and the network": "{} : {} ; regardez l'adresse et le réseau",
    "{}: this site was made by another version ({}), and this one knows format {}; check it with that one": "{} : ce "
    "site a été fait par une autre version ({}), et celle-ci connaît le format {} ; vérifiez-le avec l'autre",
    "{}: {}: {}; install Debian's package tzdata": "{} : {} : {} ; installez le paquet Debian tzdata",
    "{}: {}: cannot be read; try later": "{} : {} : illisible ; réessayez plus tard",
    "{}: {} has more editions than months since; look at the address": "{} : {} a plus d'éditions que de mois passés "
    "depuis ; regardez l'adresse",
    "{}: {}; take another copy of it": "{} : {} ; prenez-en une autre copie",
    "{}: export: a line of it is none of ours; take another copy of it": "{} : export : une de ses lignes n'est pas "
    "des nôtres ; prenez-en une autre copie",
    "{}: {}; name a file that can be written": "{} : {} ; nommez un fichier où l'on peut écrire",
}

_NETWORK = {
    "{}: nobody knows a machine of this name ({}); look at the address and the network": "{} : personne ne connaît de "
    "machine de ce nom ({}) ; regardez l'adresse et le réseau",
    "{}: no server answers there ({}); look at the address and the network": "{} : aucun serveur n'y répond ({}) ; "
    "regardez l'adresse et le réseau",
    "{}: no answer came in time ({}); look at the address and the network": "{} : la réponse n'est pas venue à temps "
    "({}) ; regardez l'adresse et le réseau",
    "{}: its certificate is not to be believed ({}); look at the address and the network": "{} : son certificat n'est "
    "pas digne de confiance ({}) ; regardez l'adresse et le réseau",
    "{}: no encrypted connection came about ({}); look at the address and the network": "{} : aucune connexion "
    "chiffrée n'a pu s'établir ({}) ; regardez l'adresse et le réseau",
    "{}: the connection broke off ({}); look at the address and the network": "{} : la connexion a été coupée ({}) ; "
    "regardez l'adresse et le réseau",
    "{}: what answers there is no web server ({}); look at the address and the network": "{} : ce qui y répond n'est "
    "pas un serveur web ({}) ; regardez l'adresse et le réseau",
    "{}: the answer cannot be unpacked ({}); look at the address and the network": "{} : la réponse ne se décompresse "
    "pas ({}) ; regardez l'adresse et le réseau",
    "{}: it cannot be reached ({}); look at the address and the network": "{} : elle ne peut pas être atteinte ({}) ; "
    "regardez l'adresse et le réseau",
}
"""What keeps a site from being read. In brackets stand the words of a machine, as they are."""

REASONS = {
    "other_site": "autre site",
    "old_policy": "ancienne règle",
    "no_decision": "sans décision",
    "signatures": "signatures",
    "roles": "rôles",
    "ceiling": "plafond",
    "floor": "limite du logiciel",
}
"""What `decide` refuses a policy for."""

_SHEET = {
    "levels by a normal law, median ± standard deviation in dB: day {}, evening {}, night {}": "niveaux de loi "
    "normale, médiane ± écart type en dB : journée {}, soirée {}, nuit {}",
    "recorded, one reading every {} s": "enregistrée, une lecture toutes les {} s",
    "recorded, one reading every {} s, so that what is shorter is not in it": "enregistrée, une lecture "
    "toutes les {} s : ce qui est plus court n'y est pas",
    "busy street": "rue bruyante",
    "quiet street": "rue calme",
    "data sheet of a class 2 meter (CEM DT-8852: 94 dB, 1 kHz); of RS-485 modules 3 %, about 2 dB": "fiche d'un "
    "sonomètre de classe 2 (CEM DT-8852 : 94 dB, 1 kHz) ; modules RS-485 : 3 %, environ 2 dB",
    "data sheets of PMS5003 and SPS30, below 100 ug/m3; above it 10 %": "fiches du PMS5003 et du SPS30, sous "
    "100 µg/m³ ; au-dessus 10 %",
    "data sheet of the SDS011: the larger of 10 ug/m3 and 15 %": "fiche du SDS011 : le plus grand de 10 µg/m³ et 15 %",
}
"""What a preview says of streets and sensors."""

_OF_TOWNS = {**french_town.PROBLEMS, **french_town.MENDS, **french_town.LINES}
_TEXTS = {**_OF_TOWNS, **_NETWORK, **_WANTED, **_PROBLEMS, **_MENDS, **_LINES, **_SHEET, **REASONS}
_AS_THEY_ARE = frozenset({**_NETWORK, **french_town.LINES}.values())
"""Of these sentences, what is not ours is no sentence of ours either: the words of a machine or of a library."""


def french(text: str) -> str | None:
    """Returns the French of what the kernel says, the words of others in it as they are; None where there is none."""
    return _said(text, _patterns(), deep=True)


def key(text: str) -> str:
    """Returns the key that a refusal names: the file's own word, but for the few that are not."""
    for pattern, words in _keys():
        found = pattern.fullmatch(text)
        if found is not None:
            return words.format(*found.groups())
    return text


def refusal(error: MurmureError) -> str | None:
    """Returns a refusal in one French line, None where this is not one of a policy."""
    if not isinstance(error, ConfigError):
        return french(str(error))
    mend = french(error.mend)
    if mend is None:
        return None
    # What a machine or a library says beyond what is known here stays in its own words.
    problem = french(error.problem) or f"« {error.problem} »"
    return f"{error.file} : {key(error.key)} : {problem} ; {mend}"


class Refused(MurmureError):
    """A refusal in the steward's language; what to do about it is what the other error says, and so is its status."""

    def __init__(self, line: str, exit_status: int) -> None:
        super().__init__(line)
        self.exit_status = exit_status


def refused(error: MurmureError | OSError) -> str | None:
    """Returns what a command refuses, or what the machine refuses it, in one French line; see `refusal`."""
    if isinstance(error, MurmureError):
        return refusal(error)
    why = french(error.strerror or "")
    return None if why is None else f"{error.filename or 'système'} : {why}"


def _said(text: str, patterns: tuple[tuple[re.Pattern[str], str], ...], *, deep: bool) -> str | None:
    for pattern, words in patterns:
        found = pattern.fullmatch(text)
        if found is not None:
            ours = deep and words not in _AS_THEY_ARE
            parts = (_said(part, patterns, deep=False) or part if ours else part for part in found.groups())
            return words.format(*parts)
    return None


@cache
def _keys() -> tuple[tuple[re.Pattern[str], str], ...]:
    return _compiled({**french_town.KEYS, **_KEYS})


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    return _compiled(_TEXTS)


def _compiled(texts: dict[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Returns the sentences as patterns, those with the most words of their own first: they say the most."""
    in_order = sorted(texts.items(), key=lambda pair: -len(pair[0].replace("{}", "")))
    return tuple(
        (re.compile("(.*)".join(map(re.escape, english.split("{}"))), re.DOTALL), words) for english, words in in_order
    )
