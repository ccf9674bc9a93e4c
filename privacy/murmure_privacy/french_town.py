"""What is refused of a town's own files, in French: city.toml, its borders, ingest.toml, and the archive beside them.

Who writes the file for the data protection officer reads it (`murmure policy dossier`). As in `french`: each sentence
as the sources say it, with {} for the words of others, and beside it the French one.
"""

from __future__ import annotations

KEYS = {
    "site {}: sensor {}: {}": "site {} : sensor {} : {}",
    "site {}: {}": "site {} : {}",
    "quartier {}: {}": "quartier {} : {}",
    "request {}: {}": "request {} : {}",
    "features {}: {}": "features {} : {}",
}

PROBLEMS = {
    # Of city.toml
    "missing or no list of tables": "manque, ou n'est pas une liste de tables",
    "unreadable": "est illisible",
    "{} is not one line of text": "{} n'est pas une ligne de texte",
    "{} is no slug": "{} n'est pas un nom court",
    "{} is no code": "{} n'est pas un code",
    "{} is no number": "{} n'est pas un numéro",
    "{} is no address of a home page": "{} n'est pas l'adresse d'une page d'accueil",
    "{} is neither true nor false": "{} n'est ni true ni false",
    "{} is not a date": "{} n'est pas une date",
    "{} is no number of days": "{} n'est pas un nombre de jours",
    "{} is not between -{}.0 and {}.0": "{} n'est pas entre -{}.0 et {}.0",
    "{} is finer than a street": "{} est plus précis qu'une rue",
    "{} is no file": "{} n'est pas un fichier",
    "{} is no slug of a [[quartier]]": "{} n'est le nom court (slug) d'aucun [[quartier]]",
    "{} is no id of a [[site]]": "{} n'est l'id d'aucun [[site]]",
    "does not go with the state {}": "ne va pas avec l'état {}",
    "{} is before it came": "{} est avant l'arrivée de la demande",
    "{} is no instant": "{} n'est pas un instant",
    # Of a policy that is not published yet
    "{} is published already": "la version {} est déjà publiée",
    "{} is over": "{} est passé",
    # Of its borders
    "is larger than 64 MiB": "dépasse 64 Mio",
    "not JSON: {}": "ce n'est pas du JSON ({})",
    "is no FeatureCollection": "n'est pas une FeatureCollection",
    "is no Feature": "n'est pas une Feature",
    "{} has no borders": "{} n'a pas de contour",
    "{} has no ground": "{} n'a pas de surface",
    "a ring is not closed": "un anneau n'est pas fermé",
    "{} is no list": "{} n'est pas une liste",
    "{} is no position": "{} n'est pas une position",
    "{} is not on the globe": "{} n'est pas sur le globe",
    # Of the archive
    "it was written by an earlier version of Murmure": "elle vient d'une version antérieure de Murmure",
    "this is not an archive of Murmure": "ce n'est pas une archive de Murmure",
    "it is of version {}, from another version of Murmure than this": "elle est de version {}, d'une autre version de "
    "Murmure que celle-ci",
    # Of ingest.toml
    "there is no such file": "ce fichier n'existe pas",
    "there is no such folder": "ce dossier n'existe pas",
    "not TOML ({})": "ce n'est pas du TOML ({})",
    "a folder is missing": "il manque un dossier",
    "{} does not do": "{} ne convient pas",
    "it is missing": "manque",
    "{} can be reached from other machines, and the page is for operators only": "{} peut être atteint par d'autres "
    "machines, et la page n'est que pour les exploitants",
    "{} is no address of a database": "{} n'est pas l'adresse d'une base de données",
    "the token would cross the network for all to read": "le jeton traverserait le réseau, lisible par tous",
    "no such setting": "ce réglage n'existe pas",
}

MENDS = {
    "leave --policy out": "retirez --policy",
    "name a city.toml that exists": "donnez un city.toml qui existe",
    "write a text in quotes": "écrivez un texte entre guillemets droits",
    "write small letters, digits and single hyphens, 64 signs at most": "écrivez des minuscules, des chiffres et des "
    "tirets simples, 64 signes au plus",
    "write 2 to 8 capital letters and digits": "écrivez de 2 à 8 majuscules et chiffres",
    "write letters and digits, such as {}": "écrivez des lettres et des chiffres, comme {}",
    "write such as {}": "écrivez par exemple {}",
    "write true or false": "écrivez true ou false",
    "write a date such as 2027-11-30, or leave the key out": "écrivez une date comme 2027-11-30, ou retirez la clé",
    "write a whole number from 1 to 365": "écrivez un nombre entier de 1 à 365",
    "write degrees such as 47.219": "écrivez des degrés comme 47.219",
    "write at most three decimals": "écrivez au plus trois décimales",
    "name one that lies beside this, or leave the key out": "nommez-en un à côté de celui-ci, ou retirez la clé",
    "write at least one [[{}]]": "écrivez au moins un [[{}]]",
    "give each its own": "donnez à chacun le sien",
    "write a name such as Europe/Paris": "écrivez un nom comme Europe/Paris",
    "write both lat and lon, or neither": "écrivez lat et lon, ou aucun des deux",
    "write the day when it came, such as 2026-11-30": "écrivez le jour où elle est arrivée, comme 2026-11-30",
    "write a day unless it is open": "écrivez un jour, sauf si elle est ouverte (open)",
    "write the day of the answer": "écrivez le jour de la réponse",
    "write 2026-11-21T15:15:00Z": "écrivez 2026-11-21T15:15:00Z",
    "name a file that can be read": "nommez un fichier lisible",
    "export the borders with fewer positions": "exportez les contours avec moins de positions",
    "export it as GeoJSON (RFC 7946) again": "exportez-le de nouveau en GeoJSON (RFC 7946)",
    "join its parts into one MultiPolygon": "réunissez ses parties en un MultiPolygon",
    "add its Feature, or leave the key geojson out of city.toml": "ajoutez sa Feature, ou retirez la clé geojson de "
    "city.toml",
    "write Polygon or MultiPolygon": "écrivez Polygon ou MultiPolygon",
    "end it with its first position, four at least": "finissez-le par sa première position, quatre au moins",
    "write rings of positions as RFC 7946 has them": "écrivez des anneaux de positions, comme dans la RFC 7946",
    "write [longitude, latitude]": "écrivez [longitude, latitude]",
    "export in degrees of WGS 84 (EPSG:4326), longitude first": "exportez en degrés WGS 84 (EPSG:4326), la longitude "
    "d'abord",
    "copy ingest.example.toml and edit it": "copiez ingest.example.toml et adaptez-le",
    "name a file that this user may read, such as /etc/murmure/ingest.toml": "nommez un fichier que cet utilisateur "
    "peut lire, comme /etc/murmure/ingest.toml",
    "compare with ingest.example.toml": "comparez avec ingest.example.toml",
    "write the names of topics, such as {}": "écrivez les noms des sujets, comme {}",
    "name authority, certificate and key, or none of them": "nommez authority, certificate et key, ou aucun des trois",
    'write host = "127.0.0.1", or say why with beyond_loopback = "…"': 'écrivez host = "127.0.0.1", ou dites pourquoi '
    'avec beyond_loopback = "…"',
    "write https:// there": "écrivez-y https://",
    "write [{}] and its settings below": "écrivez [{}], et ses réglages au-dessous",
    "write [deciding.{}], one a line": "écrivez [deciding.{}], un par ligne",
    "write the public key in quotes, = and a word such as {}": "écrivez la clé publique entre guillemets droits, = et "
    "un mot comme {}",
    "write an epsilon above 0 and up to {}, such as 3.0": "écrivez un epsilon au-dessus de 0, {} au plus, comme 3.0",
    "known are {}": "on connaît {}",
    "write a whole number from {} to {}": "écrivez un nombre entier de {} à {}",
    "write a text of {} to {} characters": "écrivez un texte de {} à {} signes",
    "give an archive.db": "donnez une archive.db",
    "let the centre open it once with 'murmure gateway list', which upgrades it": "faites-la ouvrir une fois au centre "
    "par 'murmure gateway list', qui la met à niveau",
    "install that version, or restore the copy that the upgrade has left beside it": "installez cette version, ou "
    "restaurez la copie que la mise à niveau a laissée à côté",
    "create it first": "créez-le d'abord",
    "give the archive.db of a centre's data_dir": "donnez l'archive.db du data_dir d'un centre",
}

LINES = {
    "{}: --out: {} is the public site; name a folder that is not served": "{} : --out : {} est le site public ; nommez "
    "un dossier qui n'est pas servi",
    "{}: archive: the file is damaged ({}); restore it from a backup, gateways send the rest again": "{} : archive : "
    "le fichier est abîmé ({}) ; restaurez-le d'une sauvegarde, les boîtiers renvoient le reste",
    "{}: archive: the disk is full; make room, nothing was lost": "{} : archive : le disque est plein ; faites de la "
    "place, rien n'est perdu",
    "{}: archive: the disk refused ({}): full, read-only or failing; nothing was lost": "{} : archive : le disque a "
    "refusé ({}) : plein, en lecture seule ou défaillant ; rien n'est perdu",
    "{}: archive: another process has been writing to it for long; trying again": "{} : archive : un autre programme y "
    "écrit depuis longtemps ; réessayez",
    "{}: archive: {}; check who may read and write this file and its folder": "{} : archive : {} ; voyez qui peut lire "
    "et écrire ce fichier et son dossier",
}
