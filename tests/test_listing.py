import io
import json
from typing import Literal

import pytest
from pydantic import Field
from rich.console import Console

from backdoor_core.contracts import Detector, Options, Trigger
from backdoor_core.files import json_text
from backdoor_core.listing import as_json, render_table
from backdoor_core.plugins import BrokenPlugin, Catalog, Registration


class ShareOptions(Options):
    path: str = Field(description="where the rules are")
    share: float = Field(0.05, gt=0, lt=1, description="part of the rows to flag")
    names: tuple[str, ...] = ("age", "[red]sex[/red]")
    limit: float = float("inf")
    reduce: Literal["ica", "pca"] | None = None
    extra: list[int] = Field(default_factory=list)


class Share(Detector):
    """Flags a share of the rows that is large enough to need a description of more than one line at 80.

    More text that the listing leaves out.
    """

    name = "flags_a_share_of_rows"
    Options = ShareOptions

    def detect(self, case): ...


class Plain(Trigger):
    name = "plain"
    modalities = frozenset({"table"})

    def apply(self, view, fitted, rng):
        return view


CATALOG = Catalog(
    (
        Registration("detector", "flags_a_share_of_rows", Share, "backdoor-detectors", "0.1.0", "backdoor_detectors"),
        Registration("trigger", "plain", Plain, "acme", "2.0", "acme"),
    ),
    (BrokenPlugin("acme-broken", "3.1", "acme_broken", "import failed: ImportError: no [brackets] here"),),
    ("acme-blocked",),
)


def rendered(width, catalog=CATALOG):
    console = Console(width=width, record=True, color_system=None, file=io.StringIO())
    console.print(render_table(catalog))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_keeps_every_word_whole(width):
    text = rendered(width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    assert {"flags_a_share_of_rows", "backdoor-detectors", "0.1.0", "plain", "acme", "2.0"} <= words
    assert {
        "share=0.05,",
        "(required),",
        '"[red]sex[/red]"],',
        "reduce=null,",
        "extra=[]",
        'limit="Infinity",',
    } <= words
    assert {"acme_broken", "acme-broken", "3.1", "ImportError:", "[brackets]", "acme-blocked"} <= words
    assert "More text" not in text


def test_a_component_takes_few_lines_where_there_is_room():
    assert len(rendered(120).splitlines()) < len(rendered(60).splitlines())
    assert len([line for line in rendered(120).splitlines() if line.strip()]) <= 14


def test_kinds_stand_in_the_order_of_the_pipeline():
    lines = [line.strip() for line in rendered(100).splitlines()]
    assert lines.index("triggers") < lines.index("detectors") < lines.index("could not be loaded")
    assert "models" not in lines


def test_broken_plugins_are_red():
    console = Console(width=100, record=True, color_system="standard", force_terminal=True, file=io.StringIO())
    console.print(render_table(CATALOG))
    [line] = [line for line in console.export_text(styles=True).splitlines() if "acme_broken" in line]
    assert "\x1b[31m" in line


def test_an_empty_catalog_prints():
    assert rendered(80, Catalog(())).strip() == ""


def test_the_json_says_all_of_an_option():
    content = as_json(CATALOG)
    trigger, detector = content["components"]
    assert (trigger["kind"], trigger["name"], trigger["description"], trigger["options"]) == (
        "trigger",
        "plain",
        "",
        [],
    )
    assert detector["distribution"] == "backdoor-detectors"
    assert detector["description"].startswith("Flags a share")
    options = {option.pop("name"): option for option in detector["options"]}
    assert options["path"] == {
        "type": "str",
        "required": True,
        "default": None,
        "description": "where the rules are",
    }
    assert options["share"] == {
        "type": "float",
        "required": False,
        "default": 0.05,
        "description": "part of the rows to flag",
    }
    assert options["names"]["type"] == "tuple[str, ...]"
    assert options["reduce"]["type"] == "Optional[Literal['ica', 'pca']]"
    assert options["extra"]["default"] == []
    assert content["broken"] == [
        {
            "distribution": "acme-broken",
            "version": "3.1",
            "entry_point": "acme_broken",
            "reason": "import failed: ImportError: no [brackets] here",
        }
    ]
    assert content["left_out"] == ["acme-blocked"]


def test_the_json_is_json():
    assert json.loads(json_text(as_json(CATALOG))) == as_json(CATALOG)
