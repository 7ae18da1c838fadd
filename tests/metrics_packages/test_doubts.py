"""What `squash specs check` warns of; each of these passed without a word in release 1.2.1."""

from pathlib import Path

import pytest

from squash_api.metrics_packages.doubts import find_doubts
from squash_api.metrics_packages.loading import load_metrics_package
from tests.support.metrics_packages import write_metrics_package

ROOT = Path(__file__).parents[2]
LIMIT = "name: AM1.x\nthreshold: {value: 5, unit: marcsec, operator: '<'}\n"


def doubts(folder: Path, specs: str, **files: str) -> list[str]:
    """Return the warnings without the name of the file, and check that nothing is an error."""
    package = write_metrics_package(folder, specs=specs, **files)
    return [
        f"{found.source.line}: {found.message}"
        for found in find_doubts([package])
        if found.source is not None
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        # One slip away from the name of a level.
        ("tags: [minimun]", "the tag 'minimun' is not a level: did you mean 'minimum'?"),
        ("tags: Design", "the tag 'Design' is not a level: did you mean 'design'?"),
        ("tags: {strech}", "the tag 'strech' is not a level: did you mean 'stretch'?"),
        ("taggs: [design]", "the key 'taggs' has no effect: did you mean 'tags'?"),
        # One slip away from the name of metadata.
        (
            "metadata_query: {filtername: r}",
            "no tag or field is called 'filtername': did you mean 'filter_name'?",
        ),
        (
            "metadata_query: {instrumnet: HSC}",
            "no tag or field is called 'instrumnet': did you mean 'instrument'?",
        ),
        ("metadata_query: {Tract: 1}", "no tag or field is called 'Tract': did you mean 'tract'?"),
        *(
            (
                f"metadata_query: {{{slip}: r}}",
                f"no tag or field is called '{slip}': did you mean '{known}'?",
            )
            for slip, known in [
                *(("dataset_nam", "dataset_name"), ("dataset_names", "dataset_name")),
                *(("filter_nme", "filter_name"), ("filter_nmae", "filter_name")),
                *(("camera_nam", "camera_name"), ("dataset_repo_ulr", "dataset_repo_url")),
                *(("bnad", "band"), ("badn", "band"), ("bamd", "band"), ("bands", "band")),
            ]
        ),
        # Several tags in one text.
        (
            "tags: minimum design",
            "'minimum design' is one tag: for several write [minimum, design]",
        ),
        ("tags: night, ops", "'night, ops' is one tag: for several write [night, ops]"),
        (
            "tags: [night, 'desing stretch']",
            "'desing stretch' is one tag: for several write [desing, stretch]",
        ),
        # What YAML 1.1 does not read as people do.
        ("tags: x\ntags: y", "the key 'tags' is in line 3 too; only this one counts"),
        (
            "metadata_query: {version_tag: 1.10}",
            "'version_tag: 1.10': 1.10 is the number 1.1: put it in quotes if jobs send it as text",
        ),
        (
            "metadata_query: {run_id: 1.0}",
            "'run_id: 1.0': 1.0 is the number 1: put it in quotes if jobs send it as text",
        ),
        (
            "metadata_query: {filter_name: on}",
            "'filter_name: on': on is the boolean true in YAML: put it in quotes",
        ),
        (
            "metadata_query: {filter_name: [r, No]}",
            "'filter_name: No': No is the boolean false in YAML: put it in quotes",
        ),
        (
            "metadata_query: {visit: 0123}",
            "0123 is the number 83 in YAML: write that, or quotes",
        ),
        ("metadata_query: {visit: 0x1f}", "0x1f is the number 31 in YAML: write that, or quotes"),
        (
            "metadata_query: {start: 1:30}",
            "1:30 is the number 90 in YAML: write that, or quotes",
        ),
        *(
            (
                f"metadata_query: {{exposure: {text}}}",
                f"{text} is the number {number} in YAML: write that, or quotes",
            )
            for text, number in [
                *(("20261127_000123", "20261127000123"), ("2_000", "2000")),
                *(("1_000.5", "1000.5"), ("1:30.5", "90.5"), ("-1_0", "-10")),
            ]
        ),
        *(
            (
                f"metadata_query: {{t: {text}}}",
                f"'t: {text}': {text} is text in YAML, not a number: {advice}",
            )
            for advice in ["put it in quotes, or write it in digits"]
            for text in ("0o17", "0O17", "0X1F")
        ),
        (
            "metadata_query: {t: 1e3}",
            "'t: 1e3': 1e3 is text in YAML, not a number: put it in quotes, or write it in digits",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning_with_its_line(
    tmp_path: Path, written: str, message: str
) -> None:
    line = 2 + len(written.splitlines())
    assert doubts(tmp_path, f"{LIMIT}{written}\n") == [f"{line}: {message}"]
    assert load_metrics_package(tmp_path / "demo").problems == ()


@pytest.mark.parametrize(
    "written",
    [
        "tags: [minimum, design, stretch, astrometry, LPM-17, design_2026]",
        "metadata_query: {filter_name: r, detector_id: 3, airmass: 1.5, visit: 0, moon: 0.0}",
        "metadata_query: {version_tag: '1.10', filter_name: 'on', visit: '0123', done: true}",
        "metadata_query: {version_tag: 1.5, tract: 9813, seeing: -1.5, since: 2000}",
        "metadata_query: {dataset_id: r, filter_id: 3, hand: 1, date_obs: x, visit_id: 1}",
        "tags: ['LPM 17', LPM-17]",
        "alert: {level: critical}\nexpect: {every: 24h}\nauthor: me",
    ],
)
def test_what_may_well_be_meant_is_not(tmp_path: Path, written: str) -> None:
    assert doubts(tmp_path, f"{LIMIT}{written}\n") == []


def test_a_comma_in_a_number_is_a_warning(tmp_path: Path) -> None:
    text = "name: AM1.x\nthreshold: {value: 1,5, unit: marcsec, operator: '<'}\n"
    said = "2: the comma ends the value 1, and 5 is a key of its own: write a point, 1.5"
    assert doubts(tmp_path, text) == [said]


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        *(("units", "did you mean 'unit'?"), ("Value", "did you mean 'value'?")),
        *(("untt", "did you mean 'unit'?"), ("operater", "did you mean 'operator'?")),
        ("note", "it has only value, unit, operator"),
    ],
)
def test_a_key_of_a_threshold_that_has_no_effect_is_a_warning(
    tmp_path: Path, slip: str, said: str
) -> None:
    text = LIMIT.replace("}", f", {slip}: 1}}")
    assert doubts(tmp_path, text) == [f"2: the key '{slip}' has no effect in threshold: {said}"]


def test_an_underscore_in_a_limit_is_a_warning(tmp_path: Path) -> None:
    text = "name: AM1.x\nthreshold: {value: 1_000, unit: marcsec, operator: '<'}\n"
    assert doubts(tmp_path, text) == ["2: 1_000 is the number 1000 in YAML: write that, or quotes"]


@pytest.mark.parametrize(("unit", "word"), [("C", "coulomb"), ("F", "farad")])
def test_a_unit_that_is_taken_for_a_temperature_is_a_warning_in_both_files(
    tmp_path: Path, unit: str, word: str
) -> None:
    metrics = f"AM1: {{description: d, unit: {unit}}}\n"
    specs = f"name: AM1.x\nthreshold: {{value: 5, unit: {unit}, operator: '<'}}\n"
    found = doubts(tmp_path, specs, metrics=metrics)
    assert [line.partition(",")[0] for line in found] == [
        f"{line}: the unit '{unit}' is the {word}" for line in (1, 2)
    ]
    assert all("deg_C" in line for line in found)


def test_a_number_that_yaml_reads_as_octal_is_no_limit(tmp_path: Path) -> None:
    text = "name: AM1.x\nthreshold: {value: 010, unit: marcsec, operator: '<'}\n"
    assert doubts(tmp_path, text) == ["2: 010 is the number 8 in YAML: write that, or quotes"]


def test_a_key_twice_is_a_warning_in_a_metrics_file_and_inside_too(tmp_path: Path) -> None:
    metrics = "a: {description: d, unit: m, unit: s}\nb: {description: d, unit: m}\na:\n  unit: s\n"
    assert doubts(tmp_path, "# nothing\n", metrics=metrics) == [
        "1: the key 'unit' is in line 1 too; only this one counts",
        "3: the key 'a' is in line 1 too; only this one counts",
    ]


def test_keys_that_are_merged_are_not_there_twice(tmp_path: Path) -> None:
    text = (
        "name: AM1.x\nthreshold: &limit {value: 5, unit: marcsec, operator: '<'}\n---\n"
        "name: AM1.y\nold: &limit {value: 5, unit: marcsec, operator: '<'}\n"
        "threshold: {<<: *limit, value: 6}\n"
    )
    assert doubts(tmp_path, text) == []


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        *(("deg C", "deg_C"), ("C deg", "deg_C"), ("deg K", "K"), ("mag AB", "mag(AB)")),
        *(
            ("m mag", "mmag"),
            ("m as", "mas"),
            ("n Jy", "nJy"),
            ("counts", "ct"),
            ("furlongs", None),
        ),
    ],
)
def test_a_product_that_is_taken_for_a_unit_is_a_warning_in_both_files(
    tmp_path: Path, unit: str, meant: str | None
) -> None:
    metrics = f"AM1: {{description: d, unit: {unit}}}\n"
    specs = f"name: AM1.x\nthreshold: {{value: 5, unit: {unit}, operator: '<'}}\n"
    found = doubts(tmp_path, specs, metrics=metrics)
    if meant is None:  # no unit at all, which is an error
        assert found == []
        return
    assert [line.partition(": ")[0] for line in found] == ["1", "2"]
    assert all(line.endswith(f": write {meant}") for line in found)


def test_files_that_cannot_be_read_have_no_warnings(tmp_path: Path) -> None:
    assert doubts(tmp_path, "tags: [minimun\n---\n{" + "[" * 500) == []


def test_the_packages_of_the_repository_have_no_doubts() -> None:
    assert find_doubts(sorted((ROOT / "specs").iterdir())) == []


def test_a_key_that_lsst_verify_refuses_is_a_warning_unless_it_is_below_the_reference(
    tmp_path: Path,
) -> None:
    metrics = (
        "a:\n  description: d\n  unit: m\n  missing: zero\n"
        "b: {description: d, unit: m, reference: {reduce: max, mising: zero}}\n"
    )
    assert doubts(tmp_path, "# nothing\n", metrics=metrics) == [
        "4: lsst.verify refuses the key 'missing' here: write it in reference",
        "5: the key 'mising' has no effect: did you mean 'missing'?",
    ]
