import pytest

from squash_api.wires.data_id import DataId, PathTemplate, data_id_metadata

RUN = "HSC/runs/RC2/w_2026_20/20260515T031245Z"


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        (
            "{run}/{dataset_type}/{tract}/{patch}/*",
            f"{RUN}/object_metrics/9813/12/x.json",
            {"run": RUN, "dataset_type": "object_metrics", "tract": "9813", "patch": "12"},
        ),
        (
            "{instrument}/{visit}_{detector}.json",
            "HSC/12_3.json",
            {"instrument": "HSC", "visit": "12", "detector": "3"},
        ),
        (
            "{instrument}/{visit}_{detector}.json",
            "nights/HSC/12_3.json",
            {"instrument": "HSC", "visit": "12", "detector": "3"},
        ),
        ("nights/{run}/*.json", "/data/nights/a/b/x.json", {"run": "a/b"}),
        ("{tract}/**/x.json", "9813/a/b/x.json", {"tract": "9813"}),
        ("{tract}/**/x.json", "9813/x.json", {"tract": "9813"}),
        ("{run}/{tract:?}/x.json", "r/9813/x.json", {"run": "r", "tract": "9813"}),
        (
            "{run}/{dataset_type}/{tract:?}/{patch:?}/{visit:?}/*",
            f"{RUN}/object_metrics/9813/12/x.json",
            {"run": RUN, "dataset_type": "object_metrics", "tract": "9813", "patch": "12"},
        ),
        (
            "{run}/{dataset_type}/{tract:?}/*",
            f"{RUN}/object_metrics/x.json",
            {"run": RUN, "dataset_type": "object_metrics"},
        ),
        ("{band}/{visit}{visit:?}", "r/7", {"band": "r", "visit": "7"}),
        ("x_{tract:?}_{band}.json", "x_r.json", {"band": "r"}),
        ("{dataset:/}/v{visit}.json", "a/b/v7.json", {"dataset_tag": "a/b", "visit": "7"}),
        (
            "{run}/{datasetType}/{_}/{datasetType}_{visit}_{run}.yaml",
            "u/me/metricvalue_a_b/0/metricvalue_a_b_7_u_me.yaml",
            {"run": "u/me", "dataset_type": "metricvalue_a_b", "visit": "7"},
        ),
        ("{tract}/x.json", "9813/y.json", None),
        ("{tract}/x.json", "9813/xxjson", None),
    ],
)
def test_a_template_reads_a_path(template: str, path: str, values: dict[str, str] | None) -> None:
    assert PathTemplate(template).values(path) == values


@pytest.mark.parametrize("text", ["", "x.json", "{run", "{run}/}", "{a b}", "{run:s}", "{}", "*"])
def test_what_is_no_template_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a path template.* write it like"):
        PathTemplate(text)


def test_what_is_named_counts_before_the_path() -> None:
    data_id = DataId({"tract": "1", "band": ""}, PathTemplate("{tract}/{band}.json"))
    assert data_id.of("9813/r.json").values == {"tract": "1", "band": "r"}


def test_run_and_dataset_have_the_names_of_jobs() -> None:
    assert data_id_metadata({"run": "a/b", "dataset_tag": "RC2", "x": "y"}) == {
        "run_id": "a/b",
        "dataset": "RC2",
        "x": "y",
    }


def test_a_namespace_is_the_environment_and_a_run_of_ci_is_the_run() -> None:
    values = {"namespace": "lsst.dm", "run": "a/b", "ci_id": "904", "ci_name": "ap_verify"}
    assert data_id_metadata(values, date="2026-05-15") == {
        **values,
        "env": {"env_name": "lsst.dm", "date": "2026-05-15"},
    }


@pytest.mark.parametrize(
    ("values", "metadata"),
    [
        ({"visit": "1234", "day_obs": "20260515"}, {"visit": 1234, "day_obs": 20260515}),
        ({"visit": "0012", "exposure": "1.5"}, {"visit": "0012", "exposure": "1.5"}),
        ({"tract": "9813", "detector": "12"}, {"tract": "9813", "detector": "12"}),
        ({"tract": "", "patch": None}, {}),
    ],
)
def test_whole_numbers_of_fields_are_numbers_and_the_empty_is_left_out(
    values: dict[str, str], metadata: dict[str, object]
) -> None:
    assert data_id_metadata(values) == metadata
