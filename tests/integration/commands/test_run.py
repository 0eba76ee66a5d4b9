from tests.support.on_moto import Fruits


def test_without_a_bucket_a_run_names_the_way_to_a_dataset(fruits: Fruits) -> None:
    result = fruits("run", "--bucket", "grapes-and-figs", "--pca-k", "20")

    assert result.exit_code == 2
    assert "There is no dataset below s3://grapes-and-figs/fruits/datasets/ yet." in result.stderr
    assert "Hint: fruits upload FOLDER makes one; fruits run FOLDER does it all." in result.stderr
