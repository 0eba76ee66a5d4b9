from tests.support.on_moto import Fruits


def test_without_a_cluster_submit_names_the_way_to_one(fruits: Fruits) -> None:
    result = fruits("submit", "--bucket", "grapes-and-figs")

    assert result.exit_code == 2
    assert "No cluster of fruits is live in eu-west-3." in result.stderr
    assert "Hint: fruits create-cluster makes one." in result.stderr


def test_without_a_dataset_submit_names_the_way_to_one(fruits: Fruits) -> None:
    fruits("create-cluster", "--bucket", "grapes-and-figs", "--yes")

    result = fruits("submit", "--bucket", "grapes-and-figs")

    assert result.exit_code == 2
    assert "Hint: fruits upload FOLDER makes one; fruits run FOLDER does it all." in result.stderr
