from dataclasses import replace
from pathlib import Path

from squash_api.pages.report import Group, PackageTable, package_tables
from squash_api.reports.document import Report
from tests.support.definitions import metric, spec
from tests.support.reporting import ReportedJobs


def made(folder: Path) -> Report:
    jobs = ReportedJobs(folder)
    jobs.define_metrics(metric("q.a"))
    jobs.define(spec(), spec("q.a.design"), spec("p.b.design"))
    jobs.job(1.0, dataset="RC2", filter="g")
    jobs.job(1.0, dataset="RC2", filter="r")
    jobs.job(1.0, dataset="DC2", filter="r", name="p.b")
    jobs.job(9.0, dataset="RC2", filter="y", name="q.a")
    jobs.job(1.0, name="q.a")
    found = jobs.report()
    jobs.close()
    return found


def tables(folder: Path) -> dict[str, PackageTable]:
    return {item.package: item for item in package_tables(made(folder))}


def test_packages_with_violations_come_first(tmp_path: Path) -> None:
    assert list(tables(tmp_path)) == ["q", "p"]


def test_a_table_has_only_the_columns_of_its_package(tmp_path: Path) -> None:
    table = tables(tmp_path)["p"]
    assert table.groups == [Group("DC2", 1), Group("RC2", 2)]
    assert table.labels == ["r", "g", "r"]


def test_cells_are_below_their_columns(tmp_path: Path) -> None:
    table = tables(tmp_path)["p"]
    shown = [[cell and cell.shown.tags["filter"] for cell in line.cells] for line in table.lines]
    assert shown == [[None, "g", "r"], ["r", None, None]]


def test_what_has_no_dataset_has_a_dash_above(tmp_path: Path) -> None:
    table = tables(tmp_path)["q"]
    assert (table.groups[0], table.labels[0]) == (Group("\u2013", 1), "\u2013")


def test_broken_results_are_counted(tmp_path: Path) -> None:
    found = tables(tmp_path)
    assert (found["q"].counts, found["q"].series) == ({"WARNING": 1}, {"WARNING": 1, "passed": 1})
    assert found["p"].counts == {"passed": 2}


def test_a_report_without_rows_has_no_tables(tmp_path: Path) -> None:
    assert package_tables(replace(made(tmp_path), rows=[])) == []
