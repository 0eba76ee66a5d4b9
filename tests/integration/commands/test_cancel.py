from tests.support.on_moto import Fruits


def test_cancelling_on_an_idle_cluster_is_exit_0(fruits: Fruits) -> None:
    fruits("create-cluster", "--bucket", "grapes-and-figs", "--yes")

    result = fruits("cancel")

    assert (result.exit_code, result.stdout) == (0, "No job is running on fruits-fruits.\n")
