"""The pages: templates filled with stories. The only file that knows jinja2."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from murmure_dashboards.charts import Chart
from murmure_dashboards.config import City
from murmure_dashboards.packed import compressed
from murmure_dashboards.story import Story
from murmure_dashboards.wording import LANGUAGES, Language

MOST_ELEMENTS = 430
_PLACE = "\ue000"  # of a private area: no text has it
_NEAR = 100
"""Octets: farther from a whole kilo-octet than any number in the place can move a page."""

_templates = Environment(
    loader=PackageLoader("murmure_dashboards"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    auto_reload=False,  # a build asks for each template thousands of times
)


def static(name: str) -> bytes:
    """Returns a file that every page shares."""
    return resources.files("murmure_dashboards").joinpath("static", name).read_bytes()


def template(name: str) -> bytes:
    """Returns the source of a template."""
    return resources.files("murmure_dashboards").joinpath("templates", name).read_bytes()


STATIC = ("murmure.css", "murmure.svg")
OPERATIONS_STATIC = (*STATIC, "operations.css")
STUDIO_SHEET = "studio.css"


def studio_sheet() -> bytes:
    """Returns the sheet of the studio's pages: that of all pages, then what is theirs alone. A page asks for one."""
    return static("murmure.css") + static(STUDIO_SHEET)


_STYLES = {name: hashlib.sha256(static(name)).hexdigest()[:8] for name in OPERATIONS_STATIC if name.endswith(".css")}
_STYLES[STUDIO_SHEET] = hashlib.sha256(studio_sheet()).hexdigest()[:8]


def address(code: str, path: str) -> str:
    """Returns the folder of a page below the site's root; French stands at the root, English under `en/`."""
    return path if code == LANGUAGES[0] else f"{code}/{path}"


def compiled(names: Iterable[str]) -> None:
    """Compiles templates, which takes as long as ten pages: processes that are forked afterwards have them."""
    for name in names:
        _templates.get_template(name)


@dataclass(frozen=True, slots=True)
class Link:
    """What the foot of each page leads to: the page at `path` below a language's root, as `label` of the catalogues
    calls it."""

    label: str
    path: str


def link_elements(links: Sequence[Link]) -> int:
    """Returns how many elements these links take on a page."""
    return 2 * len(links) + 2 * bool(links)


def filled(
    template: str, say: Language, path: str, city: City, home: str = "", links: Sequence[Link] = (), **values: object
) -> bytes:
    """Returns the page at `path` of one language. `home`: the path of the page that the city's name leads to."""
    return weighed(unweighed(template, say, path, city, home, links, **values))


def story(say: Language, told: Story, legend: Chart | None = None, table: bool = True) -> str:
    """Returns how one stream is told on the page of a day or of a week. `legend`: the chart whose legend is for all;
    `table`: whether the table stands below the picture."""
    return str(vars(_templates.get_template("story.html").module)["told"](say, told, table, legend))


def unweighed(
    template: str, say: Language, path: str, city: City, home: str = "", links: Sequence[Link] = (), **values: object
) -> str:
    """Returns the same without its weight, for who still changes it before it is `weighed`."""
    here = address(say.code, path)
    root = "../" * here.count("/") or "./"  # relative: the site works in any folder, also from a disk
    return _templates.get_template(template).render(
        say=say,
        city=city,
        root=root,
        base=root + address(say.code, home),
        other=root + address(say("page.other_code"), path),
        here=path,
        links=links,
        styles=_STYLES,
        weight=_PLACE,
        **values,
    )


_weights: dict[int, str] = {}
"""By the length of a page in thousands, what the last one weighed."""


def weighed(text: str) -> bytes:
    """Returns a page with its own weight in the place for it: as it travels, compressed, in kilo-octets rounded up."""
    # Most pages weigh what the last one of their length did, and are compressed once. Near a whole number, what is said
    # might decide: then it begins at nothing, so that the same page is always the same.
    about = len(text) // 1000
    guess = _weights.get(about)
    if guess is not None:
        page = text.replace(_PLACE, guess).encode()
        if -_NEAR > len(compressed(page)) - 1000 * int(guess) > _NEAR - 1000:
            return page
    said = "0"
    while True:
        page = text.replace(_PLACE, said).encode()
        weight = str(-(-len(compressed(page)) // 1000))
        if int(weight) <= int(said):  # a digit more may make a page heavier, never for ever
            _weights[about] = said
            return page
        said = weight
