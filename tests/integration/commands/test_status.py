import json

from tests.support.on_moto import Fruits

BUCKET = ("--bucket", "grapes-and-figs")


def test_without_a_cloud_the_runs_of_this_folder_are_shown(fruits: Fruits) -> None:
    result = fruits("status")

    assert (result.exit_code, result.stdout) == (0, "This folder knows no runs.\n")


def test_a_cluster_is_shown_with_its_cost(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    text, value = fruits("status"), fruits("status", "--output", "json")

    assert "Cluster fruits-fruits (j-" in text.stdout
    assert "Cost so far: " in text.stdout
    assert json.loads(value.stdout)["state"] == "WAITING"


def test_all_clusters_are_listed(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("status", "--all")

    assert result.exit_code == 0, result.stderr
    assert "fruits-fruits" in result.stdout


def test_an_unknown_name_is_exit_1_with_those_that_live(fruits: Fruits) -> None:
    fruits("create-cluster", *BUCKET, "--yes")

    result = fruits("status", "--cluster", "pears")

    assert result.exit_code == 1
    assert "No live cluster in eu-west-3 is named pears." in result.stderr
    assert "fruits (j-" in result.stderr
