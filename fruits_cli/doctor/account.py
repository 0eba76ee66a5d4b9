"""Questions about the account: identity, bucket, roles, rights, key pair, groups, clusters."""

from __future__ import annotations

import difflib
from contextlib import suppress

from fruits_cli.cloud import policies
from fruits_cli.cloud.account import CLEANUP_ROLE, SPOT_ROLE, LinkedRole, OpenRule, PublicAccess
from fruits_cli.cloud.clusters import MANAGED_POLICY_TAG
from fruits_cli.cloud.regions import with_place
from fruits_cli.cluster.foundations import FoundationNames, foundation_names, scope_of
from fruits_cli.cluster.life import bill_of
from fruits_cli.cluster.nodes import uses_spot
from fruits_cli.cluster.plan import lifetime_min
from fruits_cli.doctor.ask import Ask
from fruits_cli.doctor.findings import (
    Denied,
    Finding,
    failing,
    not_asked,
    ok,
    to_be_made,
    warning,
)
from fruits_cli.errors import AccessDenied, FruitsError

# AWS refuses requests whose time is five minutes off. Source: IAM user guide, Signature Version 4.
_SKEW_LIMIT_S, _SKEW_NOTE_S = 300, 60
# The rights that a launch needs to create each thing (in aws/rights.py and aws/s3.py).
_MAKE_BUCKET = (
    "s3:CreateBucket",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutEncryptionConfiguration",
)
_MAKE_ROLE = (
    "iam:CreateRole",
    "iam:TagRole",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
)
_MAKE_PROFILE = (
    "iam:CreateInstanceProfile",
    "iam:TagInstanceProfile",
    "iam:AddRoleToInstanceProfile",
)
_LAUNCH = ("elasticmapreduce:RunJobFlow", "elasticmapreduce:ListClusters")
# A policy may allow these on clusters alone, so they are asked about on one.
_ON_CLUSTER = (
    "elasticmapreduce:AddJobFlowSteps",
    "elasticmapreduce:AddTags",
    "elasticmapreduce:DescribeCluster",
    "elasticmapreduce:DescribeStep",
    "elasticmapreduce:ListInstances",
    "elasticmapreduce:ListSteps",
    "elasticmapreduce:TerminateJobFlows",
)


def credentials(ask: Ask) -> Finding:
    """The caller's AWS identity."""
    who = ask.identity()
    return ok(f"{who.user} of account {who.account_id}")


def clock(ask: Ask) -> Finding:
    """Whether this machine's clock is near enough to AWS's."""
    ahead_s = ask.cloud.preflight.clock_ahead_s()
    if ahead_s is None:
        return not_asked("AWS did not tell the time")
    off_s = round(abs(ahead_s))
    said = f"{off_s} s {'ahead of' if ahead_s > 0 else 'behind'} AWS"
    if off_s >= _SKEW_LIMIT_S:
        return failing(
            f"{said}; AWS refuses requests from {_SKEW_LIMIT_S} s on.",
            "Set this machine's clock by NTP: timedatectl set-ntp true",
        )
    if off_s > _SKEW_NOTE_S:
        return ok(f"{said}; AWS refuses requests from {_SKEW_LIMIT_S} s on")
    return ok(f"within {_SKEW_NOTE_S} s of AWS's")


def known_region(ask: Ask) -> Finding:
    """Whether EMR has such a region, as far as botocore knows."""
    known = ask.cloud.preflight.known_regions()
    if ask.region in known:
        return ok(with_place(ask.region))
    near = difflib.get_close_matches(ask.region, known, 1) or ["eu-west-3"]
    return failing(f"EMR has no region {ask.region}.", f"Give --region {near[0]}.")


def region(ask: Ask) -> Finding:
    """Whether the account may use the region, and in which country and jurisdiction it lies."""
    if ask.region in ask.cloud.account.regions():
        return ok(with_place(ask.region))
    return failing(
        f"{ask.region} is not enabled for this account.",
        f"Enable it, aws account enable-region --region-name {ask.region}, or give another "
        "--region.",
    )


def bucket(ask: Ask) -> Finding:
    """Whether the bucket is ours and lies in the cluster's region, or can be made."""
    name = str(ask.config.storage.bucket)
    try:
        found = ask.cloud.storage.bucket_region(name)
    except AccessDenied as error:
        # A finding, not an unanswered question: a launch would fail here, too.
        return failing(str(error), error.hint)
    if found is None:
        denied = ask.denied(_MAKE_BUCKET, ask.arn("s3", name))
        return to_be_made(f"{name} in {ask.region}", denied)
    if found != ask.region:
        return failing(
            f"{name} lies in {found}, and the cluster would run in {ask.region}.",
            f"Give --region {found}, or another --bucket.",
        )
    return ok(f"{name} in {found}")


def cleanup_role(ask: Ask) -> Finding:
    """EMR's service-linked role, without which a new account refuses the first cluster."""
    return _linked_role(ask, CLEANUP_ROLE)


def spot_role(ask: Ask) -> Finding:
    """Spot's service-linked role, without which a new account refuses Spot nodes."""
    if not uses_spot(ask.config.cluster):
        return not_asked("no Spot nodes are configured")
    return _linked_role(ask, SPOT_ROLE)


def _linked_role(ask: Ask, role: LinkedRole) -> Finding:
    if ask.cloud.rights.has_linked_role(role):
        return ok(role.name)
    arn = ask.arn("iam", f"role/{role.path}")
    return to_be_made(role.name, ask.denied(("iam:CreateServiceLinkedRole",), arn))


def _scope(ask: Ask) -> policies.Scope:
    return scope_of(ask.config, ask.identity(), ask.region)


def _names(ask: Ask) -> FoundationNames:
    return foundation_names(ask.config, keep_alive=True)


def instance_role(ask: Ask) -> Finding:
    """Whether the nodes' role and its instance profile are ours, complete and up to date."""
    profile = ask.arn("iam", f"instance-profile/{_names(ask).instance_role}")
    more = ask.denied(_MAKE_PROFILE, profile)
    return _role(ask, policies.instance_role(_scope(ask)), _MAKE_ROLE, more)


def service_role(ask: Ask) -> Finding:
    """Whether EMR's role is ours, complete and up to date."""
    return _role(
        ask, policies.service_role(_scope(ask)), (*_MAKE_ROLE, "iam:AttachRolePolicy"), frozenset()
    )


def _role(ask: Ask, spec: policies.RoleSpec, rights: tuple[str, ...], more: Denied) -> Finding:
    title = f"{spec.name} with its instance profile" if spec.has_profile else spec.name
    facts = ask.cloud.rights.role(spec)
    denied = ask.denied(rights, ask.arn("iam", f"role/{spec.name}"))
    denied = None if denied is None or more is None else denied | frozenset(more)
    if facts is None:
        return to_be_made(title, denied)
    policies.require_ours(spec.name, facts)
    lacking = spec.lacks(facts)
    parts = " and ".join([*lacking, *spec.differs(facts)])
    if not parts:
        return ok(title)
    if denied:
        find = failing if lacking else warning
        named = ", ".join(sorted(denied))
        return find(
            f"The {parts} of {spec.name} is not as this version of fruits writes it, and you may "
            "not change it.",
            f"Ask an administrator for {named}, or to launch once.",
        )
    doubt = "; whether you may change it could not be checked" if denied is None else ""
    return ok(f"the {parts} of {spec.name} will be brought up to date by the first launch{doubt}")


def pass_role(ask: Ask) -> Finding:
    """Whether the caller may pass the two roles to EMR and EC2."""
    specs = (policies.service_role(_scope(ask)), policies.instance_role(_scope(ask)))
    takers = {spec.name: spec.principal for spec in specs}
    lacking = [
        role
        for role, taker in takers.items()
        if ask.cloud.preflight.denied(
            ("iam:PassRole",), ask.arn("iam", f"role/{role}"), passed_to=taker
        )
    ]
    if lacking:
        both = " and ".join(lacking)
        return failing(
            f"You may not pass {both}.", f"Ask an administrator for iam:PassRole on {both}."
        )
    return ok(f"allowed for {' and '.join(takers)}")


def launch(ask: Ask) -> Finding:
    """Whether the caller may start clusters, add steps to them and end them."""
    cluster = ask.arn("elasticmapreduce", "cluster/j-1")
    denied = ask.cloud.preflight.denied(_LAUNCH, "*")
    denied |= ask.cloud.preflight.denied(_ON_CLUSTER, cluster)
    if denied:
        rights = ", ".join(sorted(denied))
        return failing(f"You lack {rights}.", f"Ask an administrator for {rights}.")
    return ok("you may start clusters, add steps to them and end them")


def security_configuration(ask: Ask) -> Finding:
    """EMR's security configuration, which keeps the nodes' credentials behind IMDSv2."""
    name = _names(ask).security_configuration
    if ask.cloud.rights.has_security_configuration(name):
        return ok(name)
    denied = ask.denied(("elasticmapreduce:CreateSecurityConfiguration",), "*")
    return to_be_made(name, denied)


def key_pair(ask: Ask) -> Finding:
    """Whether the pair exists, and the key file is its key."""
    # Here, for paramiko takes longer to import than most questions take.
    from fruits_cli.tunnel.keys import bare_fingerprint, load_fingerprints

    name, file = ask.config.cluster.key_name, ask.config.tunnel.key_file
    if name is None:
        return not_asked("no key_name is configured; the tunnel needs one, fruits run does not")
    shown = ask.cloud.preflight.key_fingerprint(name)
    if shown is None:
        return failing(
            f"EC2 has no key pair {name} in this region.",
            "Give another --key-name, or make one: fruits init --key",
        )
    prints = None
    with suppress(FruitsError):
        # The question about the key file reports what is wrong with it.
        prints = load_fingerprints(file) if file else None
    if prints is None:
        return ok(f"{name}; no key_file is configured to compare it with")
    if bare_fingerprint(shown) not in prints:
        return failing(
            f"The key file is not the key of {name}: EC2 shows {shown}.",
            "Give the pair's own --key-file, or another --key-name.",
        )
    return ok(f"{name}, and the key file is its key")


def public_access(ask: Ask) -> Finding:
    """EMR's block of public access: fruits' rules are for single addresses, so it may be on."""
    access = ask.cloud.preflight.public_access()
    if not access.is_blocked:
        return ok("off; fruits opens port 22 to single addresses alone")
    ports = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in access.permitted)
    but = f" but for port {ports}" if ports else ""
    return ok(f"on{but}; fruits' rules, port 22 for single addresses, are not affected")


def security_groups(ask: Ask) -> Finding:
    """Whether a leftover rule lets in the internet, or would make EMR refuse a cluster."""
    access = ask.cloud.preflight.public_access()
    bad = [
        (group, rule)
        for group in ask.security_groups()
        for rule in group.open_rules
        if group.name.startswith("fruits-") or not _is_permitted(rule, access)
    ]
    if not bad:
        return ok("no rule of fruits' or EMR's groups is open to the internet")
    group, rule = bad[0]
    ports = str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"
    more = f" ({len(bad) - 1} more)" if len(bad) > 1 else ""
    kind = "Ipv6Ranges=[{CidrIpv6=" if ":" in rule.cidr else "IpRanges=[{CidrIp="
    return failing(
        f"{group.name} ({group.group_id}) opens {ports} to {rule.cidr}{more}; "
        "EMR refuses clusters with such a group in a public subnet.",
        f"aws ec2 revoke-security-group-ingress --group-id {group.group_id} --ip-permissions "
        f"'IpProtocol=tcp,FromPort={rule.first},ToPort={rule.last},{kind}{rule.cidr}}}]'",
    )


def _is_permitted(rule: OpenRule, access: PublicAccess) -> bool:
    if not access.is_blocked:
        return True
    return any(first <= rule.first and rule.last <= last for first, last in access.permitted)


def emr_groups(ask: Ask) -> Finding:
    """Whether EMR's managed policy may use the groups that EMR made in this VPC before.

    EMR uses ElasticMapReduce-* again; those of clusters without the policy have no tag. Source:
    EMR Management Guide, service role for Amazon EMR.
    """
    groups = [group for group in ask.security_groups() if group.name.startswith("ElasticMapReduce")]
    if untagged := [group for group in groups if not group.is_tagged]:
        names = ", ".join(f"{group.name} ({group.group_id})" for group in untagged)
        ids = " ".join(group.group_id for group in untagged)
        return failing(
            f"EMR reuses {names}, and its policy refuses groups without the tag "
            f"{MANAGED_POLICY_TAG}.",
            f"aws ec2 create-tags --resources {ids} --tags Key={MANAGED_POLICY_TAG},Value=true",
        )
    return ok("tagged" if groups else "EMR makes its own with the first cluster")


def clusters(ask: Ask) -> Finding:
    """Live clusters and their cost; one older than the longest lifetime was forgotten."""
    limit_min = lifetime_min(ask.config.cluster, transient=False)
    lines, old = [], []
    for cluster in ask.cloud.clusters.find_clusters(live=True):
        bill, _ = bill_of(cluster, ask.cloud, ask.clock)
        now = ask.clock.now()
        minutes = (now - (cluster.created_at or now)).total_seconds() / 60
        cost = f"about ${bill.usd:.2f}" if bill else "at an unknown price"
        name = f"{cluster.emr_name} ({cluster.cluster_id})"
        lines.append(f"{name} {cluster.state} for {minutes:.0f} minutes, {cost} so far")
        if minutes > limit_min:
            old.append(cluster.cluster_id)
    if not lines:
        return ok("no cluster of fruits is live")
    said = "; ".join(lines)
    if old:
        return failing(
            f"{said}. Older than {limit_min} minutes: {', '.join(old)}.",
            "\n".join(f"fruits terminate --cluster {cluster_id}" for cluster_id in old),
        )
    return ok(said)
