"""Adds a step to a cluster, finds it again, and cancels it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from fruits_cli.cloud.clusters import EMR_NAME_PREFIX, OnFailure, StepSpec, StepState
from fruits_cli.cloud.protocols import Clock, Cloud, Clusters
from fruits_cli.cluster.nodes import DRIVER_MIB, DRIVER_OVERHEAD_MIB, ExecutorPlan
from fruits_cli.errors import CloudError, MachineError, Unanswered
from fruits_cli.job.progress import ask_to_stop
from fruits_cli.ledger import RunPhase, RunRecord
from fruits_cli.s3uri import S3Uri
from fruits_cli.session import Session
from fruits_cli.signals import held


@dataclass(frozen=True)
class SparkOptions:
    """What spark-submit is told about the cluster; `fixed` keeps the number of executors."""

    executors: ExecutorPlan
    region: str
    python: str | None
    fixed: bool
    # The most nodes that managed scaling may bring; each has room for one executor at least.
    managed_max: int | None = None

    @property
    def slots(self) -> int:
        """The most tasks that may run at once, however few executors there are at the start."""
        return self.executors.cores * max(self.executors.count, self.managed_max or 0)


def step_args(
    options: SparkOptions, *, main: S3Uri, package: S3Uri, name: str, job: list[str]
) -> tuple[str, ...]:
    """The arguments of command-runner.jar: spark-submit in cluster mode.

    Source: EMR Release Guide, add a Spark step.
    """
    args = ["spark-submit", "--deploy-mode", "cluster", "--name", name]
    for key, value in _conf(options).items():
        args += ["--conf", f"{key}={value}"]
    return (*args, "--py-files", str(package), str(main), *job)


def _conf(options: SparkOptions) -> dict[str, str]:
    executors = options.executors
    conf = {
        # A second attempt would be a second writer; what is finished stays, --resume goes on.
        "spark.yarn.maxAppAttempts": "1",
        "spark.driver.memory": f"{DRIVER_MIB}m",
        "spark.driver.memoryOverhead": f"{DRIVER_OVERHEAD_MIB}m",
        "spark.executor.memory": f"{executors.heap_mib}m",
        "spark.executor.memoryOverhead": f"{executors.overhead_mib}m",
        "spark.executor.cores": str(executors.cores),
        "spark.yarn.appMasterEnv.AWS_REGION": options.region,
        "spark.executorEnv.AWS_REGION": options.region,
    }
    if options.python:
        conf["spark.pyspark.python"] = options.python
        conf["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] = options.python
    if options.fixed:
        conf["spark.dynamicAllocation.enabled"] = "false"
        conf["spark.executor.instances"] = str(executors.count)
    return conf


# ListClusters may lag behind RunJobFlow by so much.
LOOK_FOR_S, LOOK_EVERY_S = 60.0, 5.0
ATTEMPTS = 3
# Source: EMR Management Guide, work with steps.
MOST_STEPS = 256


def require_room(cluster_id: str, clusters: Clusters) -> None:
    """Raise CloudError where EMR would take no more steps."""
    count = sum(not step.state.is_final for step in clusters.steps(cluster_id))
    if count >= MOST_STEPS:
        raise CloudError(
            f"{count} steps run or wait on cluster {cluster_id}; EMR takes {MOST_STEPS} at most.",
            hint="Wait for one to end, or stop one with fruits cancel.",
        )


def submit(step: StepSpec, record: RunRecord, session: Session) -> RunRecord:
    """Add the step to the record's cluster; the record with the step's id.

    AddJobFlowSteps has no idempotency token either: after a lost answer the step is looked for by
    its name, which holds the run id.
    """
    record = session.ledger.write(record)
    with held():
        step_id = _add(step, record.cluster_id, session.cloud.clusters, session.clock)
        record = replace(record, phase=RunPhase.SUBMITTED, step_id=step_id)
        session.screen.tell(f"Run {record.run_id} is step {step_id}; fruits cancel stops it.")
        try:
            return session.ledger.write(record)
        except MachineError as error:
            session.screen.warn(f"{error} The step runs all the same.")
            return record


def _add(step: StepSpec, cluster_id: str, clusters: Clusters, clock: Clock) -> str:
    lost: Unanswered | None = None
    for _ in range(ATTEMPTS):
        try:
            return clusters.add_step(cluster_id, step)
        except Unanswered as error:
            lost = error
            if found := step_named(step.name, cluster_id, clusters, clock):
                return found
    raise CloudError(f"The step was requested {ATTEMPTS} times, and not added: {lost}") from lost


def step_named(name: str, cluster_id: str, clusters: Clusters, clock: Clock) -> str | None:
    until = clock.monotonic() + LOOK_FOR_S
    while True:
        for step in clusters.steps(cluster_id):
            if step.name == name:
                return step.step_id
        if clock.monotonic() >= until:
            return None
        clock.sleep(LOOK_EVERY_S)


def cancel(record: RunRecord, cloud: Cloud) -> None:
    """Cancel the record's step, and what it left running in YARN.

    EMR ends the step's own processes alone: in cluster mode the application would go on. It is
    asked to stop, and a step ends one that does not listen; but steps queue in their order.
    Source: EMR Management Guide, cancel steps; concurrent steps.
    """
    clusters = cloud.clusters
    step = clusters.step(record.cluster_id, record.step_id)
    was_running, is_asked = step.started_at is not None, False
    if was_running:
        # First: whatever cuts us short then, the job ends. It is optional.
        with suppress(CloudError):
            is_asked = ask_to_stop(cloud.storage, step.args)
    try:
        clusters.cancel_step(record.cluster_id, record.step_id, force=True)
    except CloudError:
        # EMR refuses a step that is ending already, after a cancel that was cut short perhaps.
        state = clusters.step(record.cluster_id, record.step_id).state
        if not (state.is_final or state is StepState.CANCEL_PENDING):
            raise
    if not was_running or not clusters.cluster(record.cluster_id).state.is_live:
        return
    try:
        clusters.add_step(record.cluster_id, kill_step(record.run_id))
    except CloudError:
        # The cluster may end with its only step, at this very moment; and the job was asked.
        if not is_asked and clusters.cluster(record.cluster_id).state.is_live:
            raise


_KILL_STEP_PREFIX = "fruits-stop-"


def kill_step(run_id: str) -> StepSpec:
    """A step that ends the YARN application of a cancelled run.

    Source: EMR Management Guide, cancel steps (processes that run apart from the step go on).
    """
    kill = (
        "command -v yarn >/dev/null || exit 0; "
        "yarn application -list -appStates ACCEPTED,RUNNING 2>/dev/null "
        f"| awk '$2 == \"{EMR_NAME_PREFIX}{run_id}\" {{print $1}}' "
        "| xargs -r -n 1 yarn application -kill"
    )
    return StepSpec(f"{_KILL_STEP_PREFIX}{run_id}", ("bash", "-c", kill), OnFailure.CONTINUE)


def is_housekeeping(step_name: str) -> bool:
    """Whether a step is one of ours that only cleans up."""
    return step_name.startswith(_KILL_STEP_PREFIX)
