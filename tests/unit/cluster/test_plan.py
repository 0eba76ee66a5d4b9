import pytest

from fruits_cli.aws.arguments import run_job_flow_payload
from fruits_cli.cloud.account import Foundation, Identity, Quota
from fruits_cli.cloud.clusters import Market, NodeGroup, OnFailure, Role
from fruits_cli.cloud.layout import places_of
from fruits_cli.cloud.machines import MACHINES
from fruits_cli.cluster.cost import hourly_price
from fruits_cli.cluster.foundations import foundation_names
from fruits_cli.cluster.plan import RunPlan, plan_cluster, plan_run, plan_step
from fruits_cli.cluster.steps import is_housekeeping, kill_step
from fruits_cli.errors import ConfigError, QuotaTooSmall
from fruits_cli.job.node_python import bootstrap_action
from tests.support.worlds import BUCKET, PYTHON, RUN_ID, config, job, observed


def run_plan(**tables: dict[str, object]) -> RunPlan:
    return plan_run(
        config(**tables), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON
    )


def conf_of(args: tuple[str, ...]) -> dict[str, str]:
    pairs = [args[n + 1] for n, arg in enumerate(args) if arg == "--conf"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_the_default_cluster_is_the_original_projects() -> None:
    plan = plan_cluster(config(), observed(), run_id=RUN_ID, launch_id="l1", python=PYTHON)

    assert plan.spec.groups == (
        NodeGroup(Role.PRIMARY, "m5.xlarge", 1),
        NodeGroup(Role.CORE, "m5.xlarge", 2),
        NodeGroup(Role.TASK, "m5.xlarge", 1, Market.SPOT),
    )
    assert plan.spec.release_label == "emr-7.14.0"
    assert plan.spec.emr_name == "fruits-fruits"
    assert plan.spec.idle_timeout_s == 3600
    assert plan.ssh_group == "fruits-fruits-ssh"
    assert plan.lifetime_min == 720
    assert plan.spec.subnets == ("subnet-a", "subnet-b")


def test_runs_cluster_is_named_by_the_run_and_carries_its_step() -> None:
    plan = run_plan()

    assert plan.spec.emr_name == f"fruits-{RUN_ID}"
    assert plan.spec.keep_alive is False
    assert plan.ssh_group is None
    assert plan.lifetime_min == 240
    step = plan.spec.step
    assert step is not None
    assert step.on_failure is OnFailure.TERMINATE_CLUSTER
    assert step.name == f"fruits-{RUN_ID}"


def test_the_step_is_spark_submit_in_cluster_mode_with_the_memory_plan() -> None:
    plan = plan_run(config(), observed(), job(), run_id=RUN_ID, launch_id="l", python=PYTHON)

    assert plan.spec.step is not None
    args = plan.spec.step.args
    assert args[:3] == ("spark-submit", "--deploy-mode", "cluster")
    assert conf_of(args) == {
        "spark.yarn.maxAppAttempts": "1",
        "spark.driver.memory": "2048m",
        "spark.driver.memoryOverhead": "512m",
        "spark.executor.memory": "3072m",
        "spark.executor.memoryOverhead": "4096m",
        "spark.executor.cores": "4",
        "spark.yarn.appMasterEnv.AWS_REGION": "eu-west-3",
        "spark.executorEnv.AWS_REGION": "eu-west-3",
        "spark.pyspark.python": PYTHON.interpreter,
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": PYTHON.interpreter,
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": "3",
    }
    main = args.index(f"s3://{BUCKET}/fruits/code/c0de/main.py")
    assert args[main - 2 : main] == ("--py-files", f"s3://{BUCKET}/fruits/code/c0de/spark_job.zip")


def test_the_jobs_own_arguments_follow_its_main_file() -> None:
    plan = run_plan(job={"pca_variance": 0.9, "standardize": True, "keep_features": False})

    assert plan.spec.step is not None
    args = plan.spec.step.args
    own = args[args.index("--images") :]
    assert own == (
        "--images", f"s3://{BUCKET}/fruits/datasets/Test/",
        "--output", f"s3://{BUCKET}/fruits/runs/{RUN_ID}/",
        "--model", f"s3://{BUCKET}/fruits/models/f00d/",
        "--run-id", RUN_ID, "--engine", "openvino", "--precision", "f32",
        "--pca-variance", "0.9", "--extensions", "jpg,jpeg,png,webp,bmp,gif,tif,tiff",
        "--standardize", "--no-keep-features", "--deadline-min", "220", "--slots", "12",
        "--attempt", "l1",
    )  # fmt: skip


def test_a_resumed_run_says_so_to_the_job() -> None:
    plan = plan_run(
        config(), observed(), job(resume=True), run_id=RUN_ID, launch_id="l1", python=PYTHON
    )

    assert plan.spec.step is not None
    assert "--resume" in plan.spec.step.args


def test_a_kept_cluster_outlives_a_failed_step() -> None:
    plan = plan_run(
        config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON, keep=True
    )

    assert plan.spec.keep_alive is True
    assert plan.spec.step is not None
    assert plan.spec.step.on_failure is OnFailure.CONTINUE


def test_managed_scaling_leaves_the_number_of_executors_open() -> None:
    plan = run_plan(cluster={"managed_max": 8})

    assert plan.spec.step is not None
    assert "spark.executor.instances" not in conf_of(plan.spec.step.args)


def test_a_step_of_a_live_cluster_fits_its_smallest_node() -> None:
    step = plan_step(
        config(),
        job(),
        node_types=["m5.4xlarge", "c5.xlarge"],
        machines=MACHINES,
        region="eu-west-3",
        run_id=RUN_ID,
        attempt="a1",
        python="/opt/fruits/1f2e/bin/python",
    )

    assert conf_of(step.args)["spark.executor.cores"] == "4"
    assert conf_of(step.args)["spark.executor.memory"] == "1024m"
    assert conf_of(step.args)["spark.pyspark.python"] == "/opt/fruits/1f2e/bin/python"
    assert step.on_failure is OnFailure.CONTINUE


@pytest.mark.parametrize("keep", [False, True])
def test_every_node_gets_the_python_that_the_step_and_the_notebooks_run_on(keep: bool) -> None:
    plan = plan_run(
        config(), observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON, keep=keep
    )

    (action,) = plan.spec.bootstrap
    lifetime = "720" if keep else "240"
    assert action == bootstrap_action(
        PYTHON, places_of(config()), region="eu-west-3", lifetime_min=int(lifetime)
    )
    assert action.args[-2:] == ("--max-lifetime-min", lifetime)
    assert plan.spec.python == PYTHON.interpreter
    assert plan.spec.tags["fruits:python"] == f"openvino/{PYTHON.digest}"


@pytest.mark.parametrize(
    ("tables", "message", "hint"),
    [
        ({"cluster": {"core_type": "m6g.xlarge"}}, "m6g.xlarge has an Arm processor", "m7i"),
        ({"cluster": {"task_type": "m9z.xlarge"}}, "m9z.xlarge is not an instance", "--task-type"),
        ({"job": {"precision": "bf16"}}, "m5.xlarge has no bf16", "--core-type m7i.xlarge"),
    ],
    ids=["arm", "unknown", "bf16"],
)
def test_types_that_cannot_run_the_job_are_refused(
    tables: dict[str, dict[str, object]], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        run_plan(**tables)

    assert hint in refused.value.hint


def test_bf16_runs_on_types_that_have_it_beside_any_primary() -> None:
    plan = run_plan(
        job={"precision": "bf16"}, cluster={"core_type": "m7i.xlarge", "task_type": "m7i.xlarge"}
    )

    assert plan.spec.groups[0].instance_type == "m5.xlarge"


def test_a_quota_of_a_new_account_is_refused_with_the_way_out() -> None:
    world = observed(on_demand=Quota(5, 0), spot=Quota(5, 0))

    with pytest.raises(QuotaTooSmall, match=r"needs 16 vCPUs \(12 on demand, 4 Spot\)") as refused:
        plan_cluster(config(), world, run_id=RUN_ID, launch_id="l1", python=PYTHON)

    assert "No smaller number of these nodes fits" in refused.value.hint
    assert "--quota-code L-1216C47A --desired-value 12" in refused.value.hint


@pytest.mark.parametrize(
    ("on_demand", "spot", "advice"),
    [
        (Quota(11, 0), Quota(8, 0), "--core-count 1 --task-count 1."),
        (Quota(8, 0), Quota(0, 0), "--core-count 1 --task-count 0."),
        (Quota(32, 24), Quota(64, 0), "--core-count 1 --task-count 1."),
        (Quota(64, 0), Quota(0, 0), "--core-count 2 --task-count 1 --task-market on-demand."),
    ],
    ids=["three nodes", "two nodes", "others run", "no Spot"],
)
def test_the_largest_shape_that_fits_is_offered(on_demand: Quota, spot: Quota, advice: str) -> None:
    with pytest.raises(QuotaTooSmall) as refused:
        plan_cluster(
            config(),
            observed(on_demand=on_demand, spot=spot),
            run_id=RUN_ID,
            launch_id="l1",
            python=PYTHON,
        )

    assert advice in refused.value.hint


def test_an_unknown_quota_is_noted_and_passes() -> None:
    world = observed(on_demand=None, spot=None)

    plan = plan_cluster(config(), world, run_id=RUN_ID, launch_id="l1", python=PYTHON)

    assert any("quota could not be read" in note for note in plan.notes)


def test_room_for_spot_alone_is_noted() -> None:
    plan = plan_cluster(
        config(), observed(on_demand=Quota(12, 0)), run_id=RUN_ID, launch_id="l", python=PYTHON
    )

    assert any("Should Spot have no capacity" in note for note in plan.notes)


def test_names_of_foundations_are_the_same_next_time_and_differ_by_place() -> None:
    here = foundation_names(config(), keep_alive=True)
    again = foundation_names(config(), keep_alive=True)
    elsewhere = foundation_names(config(storage={"prefix": "pears"}), keep_alive=True)

    assert here == again
    assert here.instance_role != elsewhere.instance_role
    assert len(here.instance_role) <= 64


def test_jupyterhub_needs_one_hop_more() -> None:
    assert foundation_names(config(), keep_alive=True).hop_limit == 2
    assert foundation_names(config(), keep_alive=False).hop_limit == 1


def test_what_is_missing_is_part_of_the_plan() -> None:
    missing = frozenset({Foundation.BUCKET, Foundation.INSTANCE_ROLE})

    plan = plan_cluster(
        config(), observed(missing=missing), run_id=RUN_ID, launch_id="l1", python=PYTHON
    )

    assert plan.missing == missing


def test_without_a_bucket_there_is_no_plan() -> None:
    with pytest.raises(ConfigError, match="No bucket is configured"):
        places_of(config(storage={"bucket": None}))


def test_an_owners_characters_that_tags_refuse_are_replaced() -> None:
    plan = plan_cluster(
        config(),
        observed(identity=Identity("1", "ada\x1b;[x]")),
        run_id=RUN_ID,
        launch_id="l1",
        python=PYTHON,
    )

    assert plan.spec.tags["fruits:owner"] == "ada___x_"


def test_the_kill_step_is_known_as_housekeeping() -> None:
    assert is_housekeeping(kill_step(RUN_ID).name)
    assert not is_housekeeping(f"fruits-{RUN_ID}")
    assert kill_step(RUN_ID).on_failure is OnFailure.CONTINUE


def test_a_budget_cuts_the_lifetime() -> None:
    plan = run_plan(cluster={"budget_usd": 2.0})

    assert 60 < plan.lifetime_min < 240
    price = hourly_price(plan.spec.groups, observed().prices)
    assert price.at_most_usd * plan.lifetime_min / 60 <= 2.0


def test_a_budget_below_any_run_is_refused_with_one_that_is_not() -> None:
    with pytest.raises(ConfigError, match="too few for a run") as refused:
        run_plan(cluster={"budget_usd": 0.1})

    assert "--budget-usd" in refused.value.hint


@pytest.mark.parametrize("task_market", ["spot", "on-demand"])
@pytest.mark.parametrize(("task_count", "managed_max"), [(0, 10), (3, 4), (3, 50), (5, 1)])
def test_no_limit_of_managed_scaling_is_above_the_maximum(
    task_market: str, task_count: int, managed_max: int
) -> None:
    plan = run_plan(
        cluster={
            "task_market": task_market,
            "task_count": task_count,
            "managed_max": managed_max,
        }
    )

    limits = run_job_flow_payload(plan.spec)["ManagedScalingPolicy"]["ComputeLimits"]

    most = limits["MaximumCapacityUnits"]
    assert limits["MinimumCapacityUnits"] <= most
    assert limits["MaximumOnDemandCapacityUnits"] <= most
    assert limits["MaximumCoreCapacityUnits"] <= most


def test_a_step_longer_than_emr_takes_is_refused_with_what_to_shorten() -> None:
    long = config(job={"extensions": [f".{'x' * 500}{number}" for number in range(25)]})

    with pytest.raises(ConfigError, match=r"EMR takes 10,240\.") as refusal:
        plan_run(long, observed(), job(), run_id=RUN_ID, launch_id="l1", python=PYTHON)

    assert "--extensions" in refusal.value.hint


def test_a_plan_says_that_the_quota_keeps_managed_scaling_from_its_maximum() -> None:
    asked = config(cluster={"managed_max": 20})
    roomy = observed(spot=Quota(72, 0))
    plan = plan_cluster(asked, roomy, run_id=RUN_ID, launch_id="l1", python=PYTHON)
    small = plan_cluster(
        asked, observed(spot=Quota(71, 0)), run_id=RUN_ID, launch_id="l1", python=PYTHON
    )

    assert not [note for note in plan.notes if "managed scaling" in note]
    assert [note for note in small.notes if "keeps managed scaling from its maximum" in note]


def test_a_key_for_the_disks_needs_its_users_named() -> None:
    plan = plan_cluster(
        config(cluster={"kms_key": "arn:aws:kms:eu-west-3:123456789012:key/k"}),
        observed(),
        run_id=RUN_ID,
        launch_id="l1",
        python=PYTHON,
    )

    (note,) = [note for note in plan.notes if "KMS key" in note]
    assert plan.spec.instance_profile in note
    assert plan.spec.service_role in note
