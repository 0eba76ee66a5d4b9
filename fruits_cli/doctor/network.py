"""Questions about subnets, their way out, names and tags.

Sources: EMR Management Guide, VPC errors, instance fleets, auto-termination, service role.
"""

from __future__ import annotations

from collections.abc import Iterable

from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG
from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import Finding, failing, ok, warning

_API_GATEWAY = ".execute-api"


def subnets(ask: Ask) -> Finding:
    """Whether the subnets exist, are of one VPC and have room for the nodes."""
    # Without any configured, those of the default VPC are found.
    wanted, found = ask.config.cluster.subnets, ask.subnets()
    nodes = sum(group.count for group in ask.groups)
    if not found and not wanted:
        return failing("There is no default VPC in this region.", "Give --subnets, or --region.")
    if missing := sorted(set(wanted) - {subnet.subnet_id for subnet in found}):
        return failing(
            f"{_list(missing)} is not in this region.", "Give other --subnets, or --region."
        )
    if len(vpcs := sorted({subnet.vpc_id for subnet in found})) > 1:
        return failing(
            f"The subnets lie in more than one VPC: {_list(vpcs)}.",
            "Give --subnets of one VPC, all public or all private.",
        )
    if not (
        fit := [
            subnet for subnet in found if subnet.is_available and subnet.free_addresses >= nodes
        ]
    ):
        most = max(subnet.free_addresses for subnet in found)
        return failing(
            f"The cluster has {nodes} nodes, and no subnet has as many free addresses (at most "
            f"{most}).",
            "Give larger --subnets, or fewer nodes with --core-count and --task-count.",
        )
    where = ", ".join(f"{subnet.subnet_id} ({subnet.zone})" for subnet in fit)
    return ok(f"{found[0].vpc_id}: {where}")


def routes(ask: Ask) -> Finding:
    """Whether the nodes reach S3 and EMR: through an internet gateway, NAT, or an S3 endpoint."""
    found = ask.found_subnets()
    public = [subnet for subnet in found if subnet.has_internet]
    private = [subnet for subnet in found if not subnet.has_internet]
    if public and private:
        return failing(
            f"{_list(subnet.subnet_id for subnet in private)} has no internet gateway, "
            f"{_list(subnet.subnet_id for subnet in public)} has one.",
            "Give --subnets that are all public or all private.",
        )
    if shut := [subnet.subnet_id for subnet in private if not (subnet.has_nat or subnet.has_s3)]:
        return failing(
            f"{_list(shut)} has no route to an internet gateway, no NAT and no S3 endpoint.",
            "Give another --subnets, or an S3 endpoint to its route table: aws ec2 "
            f"create-vpc-endpoint --vpc-id {private[0].vpc_id} --service-name "
            f"com.amazonaws.{ask.region}.s3 --route-table-ids RTB",
        )
    if private:
        return ok("private: NAT or S3 endpoint; the tunnel cannot reach such a cluster")
    return ok("public: an internet gateway")


def dns(ask: Ask) -> Finding:
    """Whether nodes have the DNS names by which Hadoop finds them."""
    vpc = ask.vpc()
    switches = {
        "--enable-dns-support": vpc.has_dns_support,
        "--enable-dns-hostnames": vpc.has_dns_hostnames,
    }
    if off := [switch for switch, is_on in switches.items() if not is_on]:
        what = " and ".join(flag.removeprefix("--enable-dns-") for flag in off)
        commands = [f"aws ec2 modify-vpc-attribute --vpc-id {vpc.vpc_id} {flag}" for flag in off]
        return failing(f"{vpc.vpc_id} has DNS {what} off.", "\n".join(commands))
    return ok("DNS support and host names are on")


def tags(ask: Ask) -> Finding:
    """The tag without which EMR's managed policy may touch neither subnet nor VPC."""
    found, vpc = ask.found_subnets(), ask.vpc()
    untagged = [subnet.subnet_id for subnet in found if not subnet.is_tagged]
    untagged += [] if vpc.is_tagged else [vpc.vpc_id]
    if not untagged:
        return ok(f"{MANAGED_POLICY_TAG} is on subnets and VPC")
    denied = ask.denied(("ec2:CreateTags",), ask.arn("ec2", f"subnet/{found[0].subnet_id}"))
    if denied:
        return failing(
            f"{_list(untagged)} lacks the tag {MANAGED_POLICY_TAG}, and you may not set it.",
            f"Ask an administrator: aws ec2 create-tags --resources {' '.join(untagged)} "
            f"--tags Key={MANAGED_POLICY_TAG},Value=true",
        )
    doubt = "; whether you may set it could not be checked" if denied is None else ""
    return ok(f"{MANAGED_POLICY_TAG} will be set on {_list(untagged)}{doubt}")


def idle_end(ask: Ask) -> Finding:
    """Whether an idle cluster can end itself: its nodes tell EMR through API Gateway's public name.

    Source: EMR Management Guide, auto-termination policy.
    """
    vpc = ask.vpc()
    if any(service.endswith(_API_GATEWAY) for service in vpc.private_names):
        return failing(
            f"{vpc.vpc_id} has an API Gateway endpoint with private DNS: clusters in it do not "
            "notice that they are idle.",
            "Switch off its private DNS (aws ec2 modify-vpc-endpoint --no-private-dns-enabled "
            f"--vpc-endpoint-id VPCE --region {ask.region}), or give --subnets of another VPC.",
        )
    if shut := [
        subnet.subnet_id
        for subnet in ask.found_subnets()
        if not (subnet.has_internet or subnet.has_nat)
    ]:
        return warning(
            f"{_list(shut)} has no way to API Gateway: clusters in it do not notice that they are "
            "idle, and end by their lifetime alone.",
            "Give --subnets with NAT, or a shorter --max-lifetime-min.",
        )
    return ok("nothing keeps EMR from ending idle clusters")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
