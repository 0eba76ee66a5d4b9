"""Verdicts on subnets, their way out, names and tags; pure.

Sources: EMR Management Guide, VPC errors, instance fleets, auto-termination, service role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fruits_cli.cloud.account import SubnetFacts, VpcFacts
from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG
from fruits_cli.doctor.account import Denied
from fruits_cli.doctor.findings import Finding, failing, ok

_API_GATEWAY = ".execute-api"


def subnets(wanted: Sequence[str], found: Sequence[SubnetFacts], nodes: int) -> Finding:
    """Whether the subnets exist, are of one VPC and have room for so many nodes.

    wanted: those configured; without any, `found` are the default VPC's.
    """
    name = "subnets"
    if not found and not wanted:
        return failing(
            name, "There is no default VPC in this region.", "Give --subnets, or --region."
        )
    if missing := sorted(set(wanted) - {one.subnet_id for one in found}):
        return failing(
            name, f"{_list(missing)} is not in this region.", "Give other --subnets, or --region."
        )
    if len(vpcs := sorted({one.vpc_id for one in found})) > 1:
        return failing(
            name,
            f"The subnets lie in more than one VPC: {_list(vpcs)}.",
            "Give --subnets of one VPC, all public or all private.",
        )
    if not (fit := [one for one in found if one.is_available and one.free_addresses >= nodes]):
        most = max(one.free_addresses for one in found)
        return failing(
            name,
            f"The cluster has {nodes} nodes, and no subnet has as many free addresses (at most "
            f"{most}).",
            "Give larger --subnets, or fewer nodes with --core-count and --task-count.",
        )
    where = ", ".join(f"{one.subnet_id} ({one.zone})" for one in fit)
    return ok(name, f"{found[0].vpc_id}: {where}")


def routes(found: Sequence[SubnetFacts], region: str) -> Finding:
    """Whether the nodes reach S3 and EMR: through an internet gateway, NAT, or an S3 endpoint."""
    name = "routes"
    public = [one for one in found if one.has_internet]
    private = [one for one in found if not one.has_internet]
    if public and private:
        return failing(
            name,
            f"{_list(one.subnet_id for one in private)} has no internet gateway, "
            f"{_list(one.subnet_id for one in public)} has one.",
            "Give --subnets that are all public or all private.",
        )
    if shut := [one.subnet_id for one in private if not (one.has_nat or one.has_s3)]:
        return failing(
            name,
            f"{_list(shut)} has no route to an internet gateway, no NAT and no S3 endpoint.",
            "Give another --subnets, or an S3 endpoint to its route table: aws ec2 "
            f"create-vpc-endpoint --vpc-id {private[0].vpc_id} --service-name "
            f"com.amazonaws.{region}.s3 --route-table-ids RTB",
        )
    if private:
        return ok(name, "private: NAT or S3 endpoint; the tunnel cannot reach such a cluster")
    return ok(name, "public: an internet gateway")


def dns(vpc: VpcFacts) -> Finding:
    """Whether nodes have the DNS names by which Hadoop finds them."""
    switches = {
        "--enable-dns-support": vpc.has_dns_support,
        "--enable-dns-hostnames": vpc.has_dns_hostnames,
    }
    if off := [switch for switch, is_on in switches.items() if not is_on]:
        what = " and ".join(one.removeprefix("--enable-dns-") for one in off)
        commands = [f"aws ec2 modify-vpc-attribute --vpc-id {vpc.vpc_id} {one}" for one in off]
        return failing("VPC DNS", f"{vpc.vpc_id} has DNS {what} off.", "\n".join(commands))
    return ok("VPC DNS", "DNS support and host names are on")


def tags(found: Sequence[SubnetFacts], vpc: VpcFacts, denied: Denied) -> Finding:
    """The tag without which EMR's managed policy may touch neither subnet nor VPC."""
    untagged = [one.subnet_id for one in found if not one.is_tagged]
    untagged += [] if vpc.is_tagged else [vpc.vpc_id]
    if not untagged:
        return ok("tags", f"{MANAGED_POLICY_TAG} is on subnets and VPC")
    if denied:
        return failing(
            "tags",
            f"{_list(untagged)} lacks the tag {MANAGED_POLICY_TAG}, and you may not set it.",
            f"Ask for it: aws ec2 create-tags --resources {' '.join(untagged)} "
            f"--tags Key={MANAGED_POLICY_TAG},Value=true",
        )
    doubt = "; whether you may could not be asked" if denied is None else ""
    return ok("tags", f"{MANAGED_POLICY_TAG} will be set on {_list(untagged)}{doubt}")


def idle_end(vpc: VpcFacts, region: str) -> Finding:
    """Whether an idle cluster can end itself: its nodes tell EMR through API Gateway's public name.

    Source: EMR Management Guide, auto-termination policy.
    """
    if any(one.endswith(_API_GATEWAY) for one in vpc.private_names):
        return failing(
            "idle end",
            f"{vpc.vpc_id} has an API Gateway endpoint with private DNS: clusters in it do not "
            "notice that they are idle.",
            "Switch off its private DNS (aws ec2 modify-vpc-endpoint --no-private-dns-enabled "
            f"--vpc-endpoint-id VPCE --region {region}), or give --subnets of another VPC.",
        )
    return ok("idle end", "nothing keeps EMR from ending idle clusters")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
